"""The stream itself: sources opened for one rank, drawn from by weights, and booked once they were trained."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from dataset.errors import LayoutError, ParameterError, ReceiptError, StateError
from dataset.mixture import Draws, Weights
from dataset.positions import Consumed, Span
from dataset.receipt import Receipt, Redraw
from dataset.source import FollowingReader, Item, Share, Source, SourceReader
from dataset.state import KEPT_WEIGHTS, InForce, MixtureState, RankState, RedrawRecord, SourceState, rank_state
from dataset.statistics import MixtureStatistics, Tally
from dataset.uniforms import seed_of

logger = logging.getLogger(__name__)

WAIT = 0.001
"""Seconds between two looks at sources that are all dry."""

Idle = Callable[[], bool]
"""Called about every millisecond while all sources are dry; False gives up waiting."""


class InteractiveMixture(IterableDataset[Mapping[str, Any]]):
    """Named sources, mixed by weights that can be changed at any time.

    For training, put a `MixtureLoader` around it and hand each batch's receipt back through `complete`: what was
    consumed is then what a completed optimizer step used, and nothing else. Iterated by itself (or by a plain
    `DataLoader` with `num_workers=0`) it yields samples, and each counts as consumed when the next is asked for.

    One instance serves one rank, from one thread; sources are opened at the first use, in the process that uses them.
    """

    interactive_parameter_names = ("weights",)

    def __init__(self, sources: Mapping[str, Source], weights: Weights, seed: int = 0) -> None:
        self.sources = dict(sources)
        self.seed = seed
        self.rank, self.world = 0, 1
        self._initial = weights
        self._stream = 0
        self._cursor = self._completed = self._loaded_draw = 0
        self._readers: dict[str, SourceReader] = {}
        self._polls: dict[str, Callable[[], Item | None]] = {}
        self._aside: dict[str, deque[Item]] = {}
        self._tally = Tally(self.sources)
        self._reset(None)

    # Weights

    @property
    def weights(self) -> Weights:
        """The newest weights: those of the next batch."""
        return self._in_force[-1].weights

    def set_weights(self, weights: Mapping[str, float], at_version: int | None = None) -> Weights:
        """Change weights from the next batch on; a batch that waits for a dry source begins again.

        Sources that are not named keep theirs. On several ranks call it on each after the same step, with the version
        that rank 0 announces as `at_version`. Raises `WeightsError`, and then the old weights stay in force.
        """
        changed = self.weights.changed(weights, at_version)
        if self._in_force[-1].from_draw >= self._cursor:  # nothing was drawn with those: they never held
            self._in_force.pop()
        self._in_force.append(InForce(self._cursor, changed))
        del self._in_force[:-KEPT_WEIGHTS]
        return changed

    def interactive_parameters(self) -> dict[str, Any]:
        """The current value of every parameter that `set_interactive_parameters` takes."""
        return {"weights": dict(self.weights.by_source)}

    def set_interactive_parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change parameters by name, all or none; returns what they were. `{"weights": …}` is `set_weights`."""
        unknown = [name for name in values if name not in self.interactive_parameter_names]
        if unknown:
            known = ", ".join(self.interactive_parameter_names)
            raise ParameterError(f'"{unknown[0]}" is no parameter of the mixture; these are: {known}')
        before = self.interactive_parameters()
        if "weights" in values:
            self.set_weights(values["weights"])
        return {name: before[name] for name in values}

    # Reading

    def set_layout(self, rank: int, world: int) -> None:
        """Read as one of `world` ranks; before the first batch, or after `load_state_dict`."""
        if not 0 <= rank < world:
            raise LayoutError(f"rank {rank} of {world}: a rank is at least 0 and below the number of ranks")
        if (rank, world) == (self.rank, self.world):
            return
        if self._cursor != self._loaded_draw:
            raise LayoutError(
                f"{self._cursor - self._loaded_draw} samples were read as rank {self.rank} of {self.world}; "
                "set the layout before, or load a state first"
            )
        self.rank, self.world = rank, world
        self._reset(self._loaded)

    def take(self, size: int, idle: Idle | None = None) -> tuple[list[Item], Receipt] | None:
        """The next batch: `size` items (fewer only at the very end), all drawn with the newest weights.

        While every source with a weight is dry it waits, calling `idle`, which may change weights. Returns None when
        no sample will ever come again, or when `idle` returns False; what was read for the batch is then kept for the
        next call.
        """
        self._open()
        rows: list[Item] = []
        names: list[str] = []
        redraws: list[Redraw] = []
        weights = self._weights_at(self._cursor)
        pick, polls, first = self._draws.pick, self._polls, self._cursor
        while len(rows) < size:
            draw = first + len(rows)
            name = pick(weights, draw)
            item = polls[name]()
            if item is None:
                again = self._redraw(weights, draw, name)
                if again is None:
                    if self._finished(weights, idle is not None):
                        break
                    going_on = self._wait(idle)
                    if not going_on or self._weights_at(first) is not weights:
                        self._put_back(names, rows)
                        if not going_on:
                            return None
                        rows, names, redraws = [], [], []
                        weights = self._weights_at(first)
                    continue
                name, item, dry = again
                redraws.append(Redraw(draw, dry))
            rows.append(item)
            names.append(name)
        if not rows:
            return None
        self._cursor += len(rows)
        return rows, self._receipt(weights, first, names, rows, redraws)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Samples one by one; each is consumed when the next is asked for. Begins after what was completed."""
        worker = get_worker_info()
        if worker is not None:
            raise LayoutError(
                f"num_workers is {worker.num_workers}: weights that change could not reach worker processes, and each "
                "would read the same samples; use num_workers=0, or put a MixtureLoader around the mixture"
            )
        self.rewind()
        while (taken := self.take(1)) is not None:
            (item,), receipt = taken
            yield item.sample
            self.complete([receipt])

    def rewind(self) -> None:
        """Give up batches that were taken and not completed; the next one begins after what was completed."""
        if self._cursor != self._completed or any(self._aside.values()):
            self.close()
            self._cursor = self._completed
            self._stream += 1

    def close(self) -> None:
        """Close the readers. The next use opens them where training stands."""
        for name, reader in self._readers.items():
            self._states[name] = self._states_of(name, reader)
        self._close_readers()

    # Booking

    def complete(self, receipts: Iterable[Receipt]) -> None:
        """Book the batches that a completed optimizer step used: all of its accumulation, in the order taken.

        Raises `ReceiptError` for one that is not the next, and then nothing is booked.
        """
        batches = list(receipts)
        self._check(batches)
        for receipt in batches:
            for name, spans in receipt.spans.items():
                for span in spans:
                    self._consumed.add(name, span)
                    self._passed.add(name, span)
            for name, spans in receipt.jumped.items():
                for span in spans:
                    self._jumped.add(name, span)
                    self._passed.add(name, span)
            self._redraws.book(receipt)
            self._tally.book(receipt, time.time())
            self._completed = receipt.next_draw
        self._follow()

    @property
    def consumed(self) -> Consumed:
        """What completed steps of this rank used (and of all ranks before the last load)."""
        return self._consumed.copy()

    def statistics(self) -> MixtureStatistics:
        """Shares, rates and ages over the last completed batches, and each source's counters."""
        stats = {name: reader.stats() for name, reader in self._readers.items()}
        return self._tally.statistics(self.weights, stats, time.time())

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """The state after the last completed step, for this rank; JSON types, a few kilobytes."""
        self._open()
        rank = RankState(self._completed, tuple(self._in_force), self._redraws.dump())
        return MixtureState(
            seed=self.seed,
            world=self.world,
            ranks={str(self.rank): rank},
            sources={
                name: SourceState(source.fingerprint, self._states_of(name, self._readers[name]))
                for name, source in self.sources.items()
            },
            consumed=self._consumed.dump(),
            jumped=self._jumped.dump(),
        ).dump()

    def load_state_dict(
        self, state: Mapping[str, Any], forget: Collection[str] = (), trust: Collection[str] = ()
    ) -> None:
        """Go on where `state` stands (that of one rank out of one, or what `merge_states` gave).

        On the layout that saved it the stream goes on bit by bit; on another one without loss or repetition, with
        fresh draws. A state of other sources is refused with `StateError`; sources in `forget` begin anew, and those
        in `trust` keep their positions although their fingerprint is another one (data that moved). Sources that the
        state does not know begin at their beginning, with the weight that they were made with.
        """
        loaded = MixtureState.load(state)
        self._refuse_foreign(loaded, forget, trust)
        self._reset(loaded.without(forget))

    def _refuse_foreign(self, state: MixtureState, forget: Collection[str], trust: Collection[str]) -> None:
        if state.seed != self.seed:
            raise StateError(
                f"the state was made with seed {state.seed}, not {self.seed}; make the mixture with that one"
            )
        missing = [str(rank) for rank in range(state.world) if str(rank) not in state.ranks]
        if missing:
            raise StateError(
                f"the state lacks rank {', '.join(missing)} of {state.world}; merge those of all with merge_states"
            )
        for name, saved in state.sources.items():
            if name in forget:
                continue
            if name not in self.sources:
                raise StateError(
                    f'the state has a source "{name}" ({saved.fingerprint}), and the mixture has none of that name '
                    f'(it has {", ".join(self.sources)}); add it, or forget it: forget=["{name}"]'
                )
            fingerprint = self.sources[name].fingerprint
            if fingerprint != saved.fingerprint and name not in trust:
                raise StateError(
                    f'source "{name}" is {fingerprint}, but the state was made with {saved.fingerprint}; begin it anew '
                    f'with forget=["{name}"], or, if the same data moved, keep its positions with trust=["{name}"]'
                )

    def _reset(self, state: MixtureState | None) -> None:
        self._close_readers()
        self._loaded = state
        self._stream += 1
        self._consumed = Consumed.load(state.consumed) if state else Consumed()
        self._jumped = Consumed.load(state.jumped) if state else Consumed()
        self._passed = self._consumed.copy()
        self._passed.update(self._jumped)
        self._states = {name: source.shares for name, source in state.sources.items()} if state else {}
        rank = rank_state(state, self.rank, self.world, self._initial)
        self._in_force = list(rank.weights)
        self._redraws = RedrawRecord(rank.redraws)
        self._loaded_draw = self._completed = self._cursor = rank.next_draw
        self._draws = Draws(self.seed, self.rank)
        self._tally = Tally(self.sources)

    # Within

    def _open(self) -> None:
        if self._readers:
            return
        for name, source in self.sources.items():
            share = Share(self.rank, self.world, seed_of(self.seed, name))
            shares = self._states.get(name, {})
            state = shares.get(self._share) or next((shares[key] for key in sorted(shares)), None)
            self._readers[name] = source.open(share, self._passed.of(name), state)
        self._polls = {name: reader.poll for name, reader in self._readers.items()}
        self._follow()

    def _close_readers(self) -> None:
        readers, self._readers = self._readers, {}
        self._polls, self._aside = {}, {}
        for reader in readers.values():
            reader.close()

    @property
    def _share(self) -> str:
        return f"{self.rank}/{self.world}"

    def _states_of(self, name: str, reader: SourceReader) -> dict[str, Mapping[str, Any]]:
        return {self._share: reader.state()}

    def _weights_at(self, draw: int) -> Weights:
        return next(entry.weights for entry in reversed(self._in_force) if entry.from_draw <= draw)

    def _redraw(self, weights: Weights, draw: int, name: str) -> tuple[str, Item, tuple[str, ...]] | None:
        """An item of another source, as `name` is dry, and the sources that were; None when all are."""
        dry = [name]
        while (again := self._draws.again(weights, draw, dry)) is not None:
            item = self._polls[again]()
            if item is not None:
                return again, item, tuple(dry)
            dry.append(again)
        return None

    def _wait(self, idle: Idle | None) -> bool:
        if idle is not None and not idle():
            return False
        time.sleep(WAIT)
        return True

    def _finished(self, weights: Weights, can_change: bool) -> bool:
        """Whether nothing will come: from no source if weights can still change, else from none with a weight."""
        return all(
            self._readers[name].exhausted() for name, weight in weights.by_source.items() if can_change or weight > 0
        )

    def _put_back(self, names: Sequence[str], rows: Sequence[Item]) -> None:
        """Keep what was read for a batch that is given up; it is the first to be polled again, in the same order."""
        for name, item in zip(reversed(names), reversed(rows), strict=True):
            self._aside.setdefault(name, deque()).appendleft(item)
        for name, items in self._aside.items():
            if items:
                self._polls[name] = partial(self._poll_aside, name)

    def _poll_aside(self, name: str) -> Item | None:
        items = self._aside[name]
        item = items.popleft()
        if not items:
            self._polls[name] = self._readers[name].poll
        return item

    def _receipt(
        self, weights: Weights, first: int, names: list[str], rows: list[Item], redraws: list[Redraw]
    ) -> Receipt:
        spans: dict[str, list[Span]] = {}
        jumped: dict[str, list[Span]] = {}
        sizes: dict[str, int] = {}
        for name, item in zip(names, rows, strict=True):
            _join(spans.setdefault(name, []), item.span)
            if item.jumped is not None:
                _join(jumped.setdefault(name, []), item.jumped)
            sizes[name] = sizes.get(name, 0) + item.size
        return Receipt(
            rank=self.rank,
            world=self.world,
            stream=self._stream,
            version=weights.version,
            first_draw=first,
            sources=tuple(names),
            keys=tuple(item.key for item in rows),
            times=tuple(item.time for item in rows),
            spans={name: tuple(stretches) for name, stretches in spans.items()},
            jumped={name: tuple(stretches) for name, stretches in jumped.items()},
            sizes=sizes,
            redraws=tuple(redraws),
        )

    def _check(self, receipts: Sequence[Receipt]) -> None:
        expected = self._completed
        for receipt in receipts:
            if receipt.stream != self._stream:
                raise ReceiptError(
                    f"the receipt of draws {receipt.first_draw} to {receipt.next_draw - 1} was made before the stream "
                    "was restored or rewound; drop it: its samples come again"
                )
            if receipt.first_draw != expected:
                raise ReceiptError(
                    f"the receipt begins at draw {receipt.first_draw}, but the next to be completed is {expected}; "
                    "complete each batch once, in the order taken"
                )
            expected = receipt.next_draw

    def _follow(self) -> None:
        for name, source in self.sources.items():
            reader = self._readers.get(name)
            followed = getattr(source, "follows", None)
            if followed is not None and isinstance(reader, FollowingReader):
                reader.follow(self._passed.sources.get(followed, {}))


def _join(stretches: list[Span], span: Span) -> None:
    """Append `span`, as one with the last stretch if it goes on where that ended."""
    if stretches:
        last = stretches[-1]
        if last.partition == span.partition and last.end == span.start:
            stretches[-1] = Span(span.partition, last.start, span.end)
            return
    stretches.append(span)
