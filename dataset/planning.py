"""Reading in two halves: which sample comes next is planned where the mixture is, and it is loaded anywhere.

A reader that plans says what comes next without reading it; a loader, perhaps in a worker process, fetches and decodes
it; and the reader finishes it into an item, in the order of its plans. Order, positions and what is skipped are thereby
decided in one place, and are the same whoever loads, and however many do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from dataset.decoding import Decoder
from dataset.positions import Span
from dataset.source import Item, Key, Source, SourceReader
from ingest.deletions import Deletions
from ingest.errors import SampleRemoved

PASSED_OVER = 1000
"""Samples in a row that are passed over before a source counts as dry; more than may fail to decode, by default."""


class Planned(msgspec.Struct, frozen=True):
    """A sample that comes next, not loaded yet: `what` tells the loader which it is, small and to be pickled.

    It covers `span`; `jumped` was left out right before it; `repeat` tells that it was given before. What has a `lane` is
    loaded by one worker and in the order of the plans, as long as that worker lives; all else by any, in any order.
    """

    what: Any
    span: Span
    jumped: Span | None = None
    repeat: bool = False
    lane: int | None = None


class Loaded(msgspec.Struct, frozen=True):
    """What a loader made: the sample with its key, or the error that its decoding ended with.

    `size` is that of the undecoded sample in bytes, `time` when its step was received; `label` names it in messages.
    """

    key: str
    sample: Mapping[str, Any] | None
    size: int = 0
    time: float | None = None
    error: Exception | None = None
    label: str = ""

    @classmethod
    def decoded(
        cls,
        decode: Callable[[Any], Any],
        raw: Any,
        key: str,
        size: int = 0,
        time: float | None = None,
        label: str = "",
    ) -> Loaded:
        """What `decode` makes of `raw`; its error is kept, to be judged in the order of the plans."""
        try:
            sample = decode(raw)
            if type(sample) is not dict and not isinstance(sample, Mapping):  # the first is quicker, and the rule
                raise TypeError(
                    f"the sample is a {type(sample).__name__}, but a sample is a mapping by name; "
                    "give a decode function that returns a dict"
                )
        except Exception as error:
            return cls(key, None, size, time, error, label)
        return cls(key, sample, size, time)


Loader = Callable[[Any], Loaded]
"""Loads what was planned. An error that it raises ends reading; a sample that cannot be used is `Loaded.error`."""


@runtime_checkable
class PlanningReader(SourceReader, Protocol):
    """A reader whose `poll` is `plan`, the source's loader, and `finish`, one after the other."""

    def plan(self) -> Planned | None:
        """What comes next, or None when there is nothing now. Never blocks."""
        ...

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """The item of the oldest plan that is not finished; None where it is skipped."""
        ...


def next_item(reader: PlanningReader, load: Loader) -> Item | None:
    """The next item of a reader, loaded right here; what is skipped is passed over. None when there is nothing now.

    After `PASSED_OVER` that were passed over it is called dry, for now: all that it draws from may be deleted.
    """
    for _ in range(PASSED_OVER):
        planned = reader.plan()
        if planned is None:
            return None
        item = reader.finish(planned, load(planned.what))
        if item is not None:
            return item
    return None


@runtime_checkable
class LoadingSource(Source, Protocol):
    """A source that can load what its readers plan, in any process."""

    def loader(self) -> Loader:
        """Something that loads, in the calling process; it may keep what it opens."""
        ...


class Uncovered:
    """What was passed over, by partition, until an item after it covers it: else a resume would go back to it, and
    repeat what was read since."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}
        self._jumped: dict[str, Span] = {}

    def __bool__(self) -> bool:
        return bool(self._spans or self._jumped)

    def add(self, span: Span, jumped: Span | None) -> None:
        """An item was passed over."""
        self._spans[span.partition] = span
        if jumped is not None:
            self._jumped[span.partition] = jumped

    def cover(self, item: Item) -> Item:
        """An item, lengthened by what was passed over before it."""
        if not self:
            return item
        span, jumped = self.covered_by(item.span, item.jumped)
        return msgspec.structs.replace(item, span=span, jumped=jumped)

    def covered_by(self, span: Span, jumped: Span | None) -> tuple[Span, Span | None]:
        """An item's stretches, lengthened by what was passed over before it."""
        name = span.partition
        skipped, before = self._spans.pop(name, None), self._jumped.pop(name, None)
        if skipped is not None and skipped.end == span.start:
            span = Span(name, skipped.start, span.end)
        elif skipped is not None and jumped is not None and skipped.end == jumped.start:
            jumped = Span(name, skipped.start, jumped.end)
        if before is not None:
            jumped = before if jumped is None else Span(name, min(before.start, jumped.start), jumped.end)
        return span, jumped


class Finisher:
    """Makes items out of what was planned and loaded, in order.

    What could not be decoded is skipped, and covered by the item after it in the same partition. So is what belongs to
    a session that was deleted, though that is nobody's mistake.
    """

    def __init__(self, decoder: Decoder, deletions: Deletions | None = None) -> None:
        self.uncovered = False
        """Whether the next item has to cover one that was skipped."""
        self._decoder = decoder
        self._deleted = None if deletions is None else deletions.open()
        self._uncovered = Uncovered()
        self.polled = self.repeats = 0

    def __call__(self, planned: Planned, loaded: Loaded) -> Item | None:
        """The item, or None where it is skipped. Raises `BadSamples` when too many are, in a row."""
        return self.item(loaded, planned.span, planned.jumped, planned.repeat)

    def item(self, loaded: Loaded, span: Span, jumped: Span | None = None, repeat: bool = False) -> Item | None:
        """The same, for a plan that was never written down."""
        if self.uncovered:
            span, jumped = self._uncovered.covered_by(span, jumped)
            self.uncovered = bool(self._uncovered)
        sample = loaded.sample
        withheld = isinstance(loaded.error, SampleRemoved) or self._is_deleted(loaded.key)
        if sample is None or withheld:
            if not withheld:
                self._decoder.skip(loaded.label or loaded.key, loaded.error or ValueError("nothing was decoded"))
            self._uncovered.add(span, jumped)
            self.uncovered = True
            return None
        self._decoder.succeeded()
        self.polled += 1
        self.repeats += repeat
        return Item(sample, loaded.key, span, loaded.time, loaded.size, jumped)

    def gave_all(self, keys: Sequence[Key], repeat: bool) -> bool:
        """Whether all samples of these keys can be given, at least one, that were decoded without a plan; if so, they are.

        Only where nothing is `uncovered`.
        """
        if self._deleted is not None and any(self._deleted.holds(str(key)) for key in keys):
            return False
        self._decoder.succeeded()
        self.polled += len(keys)
        self.repeats += len(keys) * repeat
        return True

    def close(self) -> None:
        """Close the view of the deletions."""
        if self._deleted is not None:
            self._deleted.close()

    def _is_deleted(self, key: str) -> bool:
        return self._deleted is not None and self._deleted.holds(key)
