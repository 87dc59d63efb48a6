"""A source over anything that can be iterated again: torch and Hugging Face iterable datasets, webdataset pipelines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from dataset.compat import state_at_beginning
from dataset.cursor import KEPT, Element, ElementLoader, Snapshot, Wanted
from dataset.decoding import BAD_LIMIT, Decoder
from dataset.errors import SourceError, StateError
from dataset.mapped import as_sample
from dataset.order import Taken
from dataset.planning import Finisher, Loaded, Planned, next_item
from dataset.positions import IntervalSet, Span
from dataset.source import Item, Share, SourceStats
from ingest import Point

RUN = 8
"""Elements of a part that follow each other, before those of the next."""


class _Saved(msgspec.Struct, frozen=True):
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True)
class IterableSource:
    """Reads an iterable from its beginning, again and again, or `epochs` times; each share takes every n-th element.

    It must give the same elements in the same order at every pass of the same number (which a `set_epoch` is told); a
    webdataset pipeline does, by the mixture's seed, whatever shuffles in it. A resume goes on by the dataset's own
    `state_dict`, where it has one that leads back to the same element, and else through what was consumed.

    One worker owns the iterator of a part, and decodes what it gives. In `parts` it is read as by so many workers of a
    `DataLoader`: the dataset has to split itself by `torch.utils.data.get_worker_info`, as Hugging Face's and
    webdataset's do. The order of the stream is a function of the number of parts, not of that of workers.
    """

    dataset: Iterable[Any]
    decode: Callable[[Any], Mapping[str, Any]] = as_sample
    epochs: int | None = None
    bad_limit: int = BAD_LIMIT
    parts: int = 1
    beginning: Any = field(default=None, repr=False)
    """The dataset's state at its beginning, which a dataset forgets that goes on where it was left; taken here."""

    has_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise SourceError(f"parts is {self.parts}, but a dataset is read in at least 1 part")
        if self.beginning is None:
            object.__setattr__(self, "beginning", state_at_beginning(self.dataset))

    @property
    def fingerprint(self) -> str:
        """The iterable's type, and the number of its parts, of which positions depend."""
        return f"iterable:{type(self.dataset).__qualname__}" + (f" in {self.parts} parts" if self.parts > 1 else "")

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> IterableReader:
        """A reader of one share."""
        return IterableReader(self, share, consumed, state)

    def loader(self) -> ElementLoader:
        """Owns iterators, in the calling process."""
        return ElementLoader(self.dataset, self.decode, self.parts, self.fingerprint, self.beginning)


class IterableReader:
    """Reads one share of an iterable; positions are (pass, place in the pass).

    The places of a pass are numbered over all parts, a run of each in turn; where a part has ended, its places are
    empty. Nobody knows how long a pass is before it has ended: it is planned on, as far as the one before went, and
    what lies behind its end comes to nothing.
    """

    def __init__(
        self, source: IterableSource, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None
    ) -> None:
        self._source, self._share = source, share
        self._taken = Taken(share, consumed)
        self._covered: Point = self._taken.start  # up to where items were given
        self._pass, self._place = self._covered  # what is planned next
        places = range(share.index, math.lcm(share.count, RUN * source.parts), share.count)
        self._parts = {self._part_of(place)[0] for place in places}  # those that the share has places in
        self._found = self._place > 0  # the pass has something for this share
        self._lengths: dict[int, int] = {}  # of the parts that are known to have ended in this pass
        self._expected: dict[int, int] = {}  # their lengths in the pass before
        self._beyond: set[int] = set()  # parts that were planned beyond those, and have not answered
        self._attempt = 0
        self._empty = False  # a pass gave nothing, so none will
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._finisher = Finisher(self._decoder)
        self._load = source.loader()
        self._snapshots = _restored(source, state)

    def plan(self) -> Planned | None:
        """The next place of the share that may hold an element."""
        while not self.exhausted():
            if len(self._lengths) == len(self._parts):
                self._end_pass()
                continue
            place = self._place = self._place + (self._share.index - self._place) % self._share.count
            part, own = (0, place) if self._source.parts == 1 else self._part_of(place)
            length = self._lengths.get(part)
            if length is not None and own >= length:
                self._place += RUN - place % RUN if self._source.parts > 1 else 1
                continue
            if self._taken.holds(self._pass, place):
                self._found = True
                if self._rest_was_read(part, place):
                    self._lengths[part] = own
                self._place += 1
                continue
            if own >= self._expected.get(part, own + 1):
                if part in self._beyond:
                    return None  # whether it goes on is not known yet
                self._beyond.add(part)
            self._place += 1
            wanted = Wanted(self._share.seed, part, self._pass, own, self._near(part, own), self._attempt)
            end = (self._pass, place + 1)
            return Planned(wanted, Span(self._taken.name, (self._pass, place), end), repeat=self._pass > 0, lane=part)
        return None

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item; None also where the pass had ended before it."""
        wanted: Wanted = planned.what
        current = wanted.number == self._pass
        if wanted.attempt != self._attempt:
            return None  # it is planned anew
        if current:
            self._beyond.discard(wanted.part)
        if isinstance(loaded, Element):
            self._take_in(loaded.snapshot)
            if loaded.on_its_way:
                self._plan_anew(planned.span.start)
                return None
            if loaded.ended:
                if current:
                    self._lengths[wanted.part] = min(wanted.place, self._lengths.get(wanted.part, wanted.place))
                return None
        if current:
            self._found = True
            if wanted.place >= self._expected.get(wanted.part, wanted.place + 1):
                del self._expected[wanted.part]  # it is longer than the one before
        span = Span(self._taken.name, self._covered, planned.span.end)
        self._covered = span.end
        return self._finisher.item(loaded, span, repeat=planned.repeat)

    def poll(self) -> Item | None:
        """The next element of the share, decoded; goes through what was consumed before."""
        return next_item(self, self._load)

    def exhausted(self) -> bool:
        """Whether the last pass was made."""
        return self._empty or (self._source.epochs is not None and self._pass >= self._source.epochs)

    def stats(self) -> SourceStats:
        """Counters; every element of a later pass is a repeat."""
        finisher = self._finisher
        return SourceStats(polled=finisher.polled, repeats=finisher.repeats, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """The last snapshots, which hold for all shares."""
        built: dict[str, Any] = msgspec.to_builtins(_Saved(tuple(self._snapshots)))
        return built

    def close(self) -> None:
        """Let go of the iterators that are here."""
        self._load = self._source.loader()

    def _rest_was_read(self, part: int, place: int) -> bool:
        """Whether shares of another layout have read the part to the end of this pass, wherever that is."""
        step = self._share.count
        if not self._taken.holds_rest(self._pass, place):
            return False
        cycle = math.lcm(step, RUN * self._source.parts, self._taken.cycle)
        places = range(place, place + cycle, step)
        return all(self._taken.holds_rest(self._pass, each) for each in places if self._part_of(each)[0] == part)

    def _part_of(self, place: int) -> tuple[int, int]:
        """Which part a place belongs to, and the place within it."""
        run, within = divmod(place, RUN)
        lap, part = divmod(run, self._source.parts)
        return part, lap * RUN + within

    def _plan_anew(self, start: Point) -> None:
        """What was planned from there on is void: a worker may not be silent for as long as a long way takes."""
        self._attempt += 1
        self._beyond.clear()
        self._pass, self._place = start

    def _end_pass(self) -> None:
        self._empty = not self._found
        self._expected, self._lengths = self._lengths, {}
        self._beyond.clear()
        self._found = False
        self._pass, self._place = self._pass + 1, 0

    def _take_in(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None and all(
            each.at != snapshot.at or each.part != snapshot.part for each in self._snapshots
        ):
            self._snapshots.append(snapshot)
            del self._snapshots[: -KEPT * self._source.parts]

    def _near(self, part: int, place: int) -> Snapshot | None:
        """The newest snapshot at or before a place of this pass."""
        at = (self._pass, place)
        for snapshot in reversed(self._snapshots):
            if snapshot.part == part and snapshot.number == self._pass and snapshot.at <= at:
                return snapshot
        return None


def _restored(source: IterableSource, state: Mapping[str, Any] | None) -> list[Snapshot]:
    if not state:
        return []
    try:
        return list(msgspec.convert(state, _Saved).snapshots)
    except msgspec.ValidationError as error:
        raise StateError(f"{source.fingerprint}: its saved snapshots cannot be read: {error}") from None
