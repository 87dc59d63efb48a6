"""The stream itself: sources read by one rank, drawn from by weights, and booked once they were trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from torch.utils.data import IterableDataset, get_worker_info

from dataset.errors import LayoutError, ParameterError, StateError
from dataset.ledger import Ledger
from dataset.mixture import Draws, Schedule, Weights
from dataset.planning import LoadingSource
from dataset.pool import AHEAD_BYTES, Pool
from dataset.positions import Consumed, joined
from dataset.readers import Readers, States
from dataset.receipt import Receipt, Redraw
from dataset.source import Item, Share, Source
from dataset.state import MixtureState, RankState, SourceState, rank_state
from dataset.statistics import MixtureStatistics, Tally

WAIT = 0.001
"""Seconds between two looks at sources that are all dry."""

Idle: TypeAlias = Callable[[], bool]
"""Called about every millisecond while all sources are dry; False gives up waiting."""


class InteractiveMixture(IterableDataset[Mapping[str, Any]]):
    """Named sources, mixed by weights that can be changed at any time.

    For training, put a `MixtureLoader` around it and hand each batch's receipt back through `complete`: what was
    consumed is then what a completed optimizer step used, and nothing else. Iterated by itself (or by a plain
    `DataLoader` with `num_workers=0`) it yields samples, and each counts as consumed when the next is asked for.

    One instance serves one rank, from one thread; sources are opened at the first use, in the process that uses them.
    With `workers`, samples are fetched and decoded ahead by as many processes (of sources that can, see `planning`), at
    most about `ahead_bytes` of them. They are mixed here, when a batch is made, so that it obeys whatever was said
    before; and the stream is the same sample by sample on any number of workers.
    """

    interactive_parameter_names = ("weights",)

    _ledger: Ledger
    _schedule: Schedule
    _draws: Draws
    _states: States
    _tally: Tally
    _next: int
    _loaded_next: int

    def __init__(
        self,
        sources: Mapping[str, Source],
        weights: Weights,
        seed: int = 0,
        workers: int = 0,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        if workers < 0 or ahead_bytes < 1:
            raise LayoutError(
                f"workers is {workers} and ahead_bytes is {ahead_bytes}, but there are at least 0 workers, and they "
                "load at least 1 byte ahead; to load in this process, set workers to 0"
            )
        self.workers, self.ahead_bytes = workers, ahead_bytes
        self._pool: Pool | None = None
        self.sources = dict(sources)
        self.seed = seed
        self.rank, self.world = 0, 1
        self._made_with = weights
        self._stream = 0
        self._readers: Readers | None = None
        self._restore(None)

    # What an operator changes

    @property
    def weights(self) -> Weights:
        """The newest weights: those of the next batch."""
        return self._schedule.newest

    def set_weights(self, weights: Mapping[str, float], at_version: int | None = None) -> Weights:
        """Change weights from the next batch on; a batch that waits for a dry source begins again.

        Sources that are not named keep theirs. On several ranks call it on each after the same step, with the version
        that rank 0 announces as `at_version`. Raises `WeightsError`, and then the old weights stay in force.
        """
        changed = self.weights.changed(weights, at_version)
        self._schedule.change(changed, self._next)
        return changed

    def interactive_parameters(self) -> dict[str, Any]:
        """The current value of every parameter that `set_interactive_parameters` takes."""
        return {"weights": dict(self.weights.by_source)}

    def set_interactive_parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change parameters by name; returns what they were. `{"weights": …}` is `set_weights`."""
        unknown = [name for name in values if name not in self.interactive_parameter_names]
        if unknown:
            known = ", ".join(self.interactive_parameter_names)
            raise ParameterError(f'"{unknown[0]}" is no parameter of the mixture; these are: {known}')
        before = self.interactive_parameters()
        if "weights" in values:
            self.set_weights(values["weights"])
        return {name: before[name] for name in values}

    def statistics(self) -> MixtureStatistics:
        """Shares, rates and ages over the last completed batches, and the counters of each source's reader."""
        stats = self._readers.stats() if self._readers is not None else {}
        return self._tally.statistics(self.weights, stats, time.time())

    # Reading

    def set_layout(self, rank: int, world: int) -> None:
        """Read as one of `world` ranks; before the first batch, or right after `load_state_dict`."""
        if not 0 <= rank < world:
            raise LayoutError(f"rank {rank} of {world}: a rank is at least 0 and below the number of ranks")
        if (rank, world) == (self.rank, self.world):
            return
        if self._next != self._loaded_next:
            raise LayoutError(
                f"{self._next - self._loaded_next} samples were read as rank {self.rank} of {self.world}; "
                "set the layout before the first, or load a state first"
            )
        self.rank, self.world = rank, world
        newest = self.weights
        self._restore(self._loaded)
        if newest.version > self.weights.version:  # they were changed before the layout was told
            self._schedule.change(newest, self._next)

    def take(self, size: int, idle: Idle | None = None) -> tuple[list[Item], Receipt] | None:
        """The next batch: `size` items, fewer only at the very end, all drawn with the newest weights.

        While every source with a weight is dry it waits, calling `idle`, which may change weights. Returns None when
        no sample will ever come again, or when `idle` returns False; what was read by then comes first next time.
        An error of a source, or one raised by `idle`, passes, and rewinds the stream.
        """
        readers, first = self._opened(), self._next
        weights = self._schedule.at(first)
        picks, polls = self._draws.picks(weights, first, size), readers.polls
        items: list[Item] = []
        redraws: list[Redraw] = []
        try:
            while True:
                for name in islice(picks, len(items), None):
                    item = polls[name]()
                    if item is None:
                        break
                    items.append(item)
                else:
                    break
                draw = first + len(items)
                dry, name, item = self._redraw(readers, weights, draw, name)
                if item is not None:
                    picks[len(items)] = name
                    redraws.append(Redraw(draw, dry))
                    items.append(item)
                    continue
                if self._ended(readers, weights, idle):
                    break
                if not self._waited(readers, idle):
                    readers.put_back(picks[: len(items)], items)
                    return None
                if self._schedule.at(first) is not weights:  # the whole batch obeys: it begins again
                    readers.put_back(picks[: len(items)], items)
                    weights = self._schedule.at(first)
                    picks, items, redraws = self._draws.picks(weights, first, size), [], []
        except BaseException:  # what was read for this batch must not get lost, whatever ended it
            self._go_back()
            raise
        if not items:
            return None
        self._next += len(items)
        return items, self._receipt(weights, first, picks[: len(items)], items, redraws)

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
        """Give up batches that were taken and not completed: the next one begins after what was completed."""
        if self._next != self._ledger.next_draw:
            self._go_back()

    def close(self) -> None:
        """Close the readers and end the workers. The next use opens them again, where training stands."""
        self._close_readers()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _close_readers(self) -> None:
        if self._readers is not None:
            self._states = _merged(self._states, self._readers.states())
            self._readers.close()
            self._readers = None

    # Booking

    def complete(self, receipts: Iterable[Receipt]) -> None:
        """Book the batches that a completed optimizer step used: all of its accumulation, in the order taken.

        Raises `ReceiptError` where one is not the next, and then nothing is booked.
        """
        batches = list(receipts)
        self._ledger.check(batches, self._stream)
        now = time.time()
        for receipt in batches:
            self._ledger.book(receipt)
            self._tally.book(receipt, now)
        if self._readers is not None:
            self._readers.follow(self._ledger.passed)

    @property
    def consumed(self) -> Consumed:
        """What completed steps of this rank used, and those of all ranks up to the last load."""
        return self._ledger.consumed.copy()

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """The state after the last completed step, of this rank; JSON types, a few kilobytes."""
        states = self._opened().states()
        rank = RankState(self._ledger.next_draw, self._schedule.dump(), self._ledger.redraws.dump())
        return MixtureState(
            seed=self.seed,
            world=self.world,
            ranks={str(self.rank): rank},
            sources={name: SourceState(source.fingerprint, states[name]) for name, source in self.sources.items()},
            consumed=self._ledger.consumed.dump(),
            jumped=self._ledger.jumped.dump(),
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
        self._restore(loaded.without(forget))

    # Within

    def _refuse_foreign(self, state: MixtureState, forget: Collection[str], trust: Collection[str]) -> None:
        if state.seed != self.seed:
            raise StateError(f"the state was made with seed {state.seed}, not {self.seed}; make the mixture with it")
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

    def _restore(self, state: MixtureState | None) -> None:
        self._close_readers()
        self._loaded = state
        self._stream += 1
        self._states = {name: source.shares for name, source in state.sources.items()} if state else {}
        rank = rank_state(state, self.rank, self.world, self._made_with)
        self._ledger = Ledger(state, rank)
        self._schedule = Schedule(rank.weights)
        self._draws = Draws(self.seed, self.rank)
        self._next = self._loaded_next = rank.next_draw
        self._tally = Tally(self.sources)

    def _go_back(self) -> None:
        self._close_readers()
        self._next = self._ledger.next_draw
        self._stream += 1

    def _opened(self) -> Readers:
        if self._readers is None:
            share = Share(self.rank, self.world, self.seed)
            if self.workers and self._pool is None:
                loading = {name: source for name, source in self.sources.items() if isinstance(source, LoadingSource)}
                self._pool = Pool(loading, self.workers, self.ahead_bytes) if loading else None
            self._readers = Readers(self.sources, share, self._ledger.passed, self._states, self._pool)
        return self._readers

    def _redraw(
        self, readers: Readers, weights: Weights, draw: int, name: str
    ) -> tuple[tuple[str, ...], str, Item | None]:
        """An item of another source than `name`, which is dry; also those that were found dry before it."""
        dry = [name]
        while (again := self._draws.again(weights, draw, dry)) is not None:
            item = readers.polls[again]()
            if item is not None:
                return tuple(dry), again, item
            dry.append(again)
        return tuple(dry), name, None

    def _waited(self, readers: Readers, idle: Idle | None) -> bool:
        """Whether to go on waiting; not where `idle` gives up, or has restored or closed the stream."""
        if idle is not None and (not idle() or self._readers is not readers):
            return False
        time.sleep(WAIT)
        return True

    def _ended(self, readers: Readers, weights: Weights, idle: Idle | None) -> bool:
        """Whether nothing will come: from no source if `idle` may change weights, else from none with a weight."""
        return readers.exhausted(name for name, weight in weights.by_source.items() if weight > 0 or idle is not None)

    def _receipt(
        self, weights: Weights, first: int, names: list[str], items: list[Item], redraws: list[Redraw]
    ) -> Receipt:
        by_source: dict[str, list[Item]] = {name: [] for name in dict.fromkeys(names)}
        for name, item in zip(names, items, strict=True):
            by_source[name].append(item)
        jumped = {name: tuple([item.jumped for item in own if item.jumped]) for name, own in by_source.items()}
        return Receipt(
            rank=self.rank,
            world=self.world,
            stream=self._stream,
            version=weights.version,
            first_draw=first,
            sources=tuple(names),
            keys=tuple([item.key for item in items]),
            times=tuple([item.time for item in items]),
            spans={name: joined([item.span for item in own]) for name, own in by_source.items()},
            jumped={name: spans for name, spans in jumped.items() if spans},
            sizes={name: sum([item.size for item in own]) for name, own in by_source.items()},
            redraws=tuple(redraws),
        )


def _merged(before: States, now: States) -> States:
    return {name: {**before.get(name, {}), **shares} for name, shares in now.items()}
