"""The stream itself: sources read by one rank, drawn from by weights, and booked once they were trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from multiprocessing.context import get_spawning_popen
from typing import Any, TypeAlias

import msgspec
from torch.utils.data import IterableDataset, get_worker_info

from dataset.board import Board
from dataset.crew import Crew, Notice
from dataset.errors import LayoutError, ParameterError
from dataset.ledger import Ledger
from dataset.metrics import MixtureMetrics
from dataset.mixture import KEPT, Draws, Schedule, Weights
from dataset.planning import LoadingSource
from dataset.pool import AHEAD_BYTES, Pool
from dataset.positions import Consumed
from dataset.readers import Readers, States
from dataset.receipt import Receipt, Redraw, filled
from dataset.remake import Known, chosen, described
from dataset.seat import Seat
from dataset.source import Item, Share, Source
from dataset.state import MixtureState, RankState, SourceState, rank_state, refuse_foreign
from dataset.statistics import MixtureStatistics, Tally

WAIT = 0.001
"""Seconds between two looks at sources that are all dry."""

Idle: TypeAlias = Callable[[], bool]
"""Called about every millisecond while all sources are dry; False gives up waiting."""


class InteractiveMixture(IterableDataset[Mapping[str, Any]]):
    """Named sources, mixed by weights that can be changed at any time.

    For training, put a `MixtureLoader` around it and hand each batch's receipt back through `complete`: what was
    consumed is then what a completed optimizer step used, and nothing else. Iterated by itself (or by a plain
    `DataLoader` without workers) it yields samples, and each counts as consumed when the next is asked for.

    One instance serves one rank, from one thread; sources are opened at the first use, in the process that uses them.
    With `workers`, samples are fetched and decoded ahead by as many processes (of sources that can, see `planning`), at
    most about `ahead_bytes` of them. They are mixed here, when a batch is made, so that it obeys whatever was said
    before; and the stream is the same sample by sample on any number of workers.
    """

    interactive_parameter_names = ("weights", "temperature", "epochs", "half_life")

    _ledger: Ledger
    _schedule: Schedule
    _draws: Draws
    _states: States
    _tally: Tally
    _next: int
    _loaded_next: int
    _notice: Notice
    _by_version: dict[int, Weights]

    def __init__(
        self,
        sources: Mapping[str, Source],
        weights: Weights,
        seed: int = 0,
        workers: int = 0,
        ahead_bytes: int = AHEAD_BYTES,
        decode: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        if workers < 0 or ahead_bytes < 1:
            raise LayoutError(
                f"workers is {workers} and ahead_bytes is {ahead_bytes}, but there are at least 0 workers, and they "
                "load at least 1 byte ahead; to load in this process, set workers to 0"
            )
        self.workers, self.ahead_bytes = workers, ahead_bytes
        self._pool: Pool | None = None
        self._board = Board()
        self._crew: Crew | None = None
        self._seat: Seat | None = None
        self.sources = dict(sources)
        self.seed = seed
        self.metrics = MixtureMetrics()
        self._decode = decode  # of sources that are added
        self._known: Known = {name: (source, None) for name, source in sources.items()}  # with those taken out
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
        return self._let_hold(self.weights.changed(weights, at_version))

    def interactive_parameters(self) -> dict[str, Any]:
        """The current value of every parameter that `set_interactive_parameters` takes."""
        return self.weights.parameters()

    def set_interactive_parameters(self, values: Mapping[str, Any], at_version: int | None = None) -> dict[str, Any]:
        """Change parameters by name, all or none, from the next batch on; returns what they were.

        `weights` by source; `temperature`; `epochs` by source, after so many of which it counts as dry; `half_life` by
        source, in samples, of a history (see `Weights`). A limit that is None is lifted.
        """
        changed, before = self.changed_parameters(values, at_version), self.interactive_parameters()
        self._let_hold(changed)
        return {name: before[name] for name in values}

    def changed_parameters(self, values: Mapping[str, Any], at_version: int | None = None) -> Weights:
        """What `set_interactive_parameters` would let hold; nothing is changed. Raises `ParameterError`, `WeightsError`."""
        unknown = [name for name in values if name not in self.interactive_parameter_names]
        if unknown:
            known = ", ".join(self.interactive_parameter_names)
            raise ParameterError(f'"{unknown[0]}" is no parameter of the mixture; these are: {known}')
        for name, fits in (("epochs", "has_epochs"), ("half_life", "has_half_life")):
            limits = values.get(name)
            for source in limits if isinstance(limits, Mapping) else ():
                if source in self.sources and not getattr(self.sources[source], fits, False):
                    able = [each for each, held in self.sources.items() if getattr(held, fits, False)]
                    raise ParameterError(
                        f'{name}: "{source}" has none, it is {self.sources[source].fingerprint}; '
                        f"these have: {', '.join(able) or 'none'}"
                    )
        others = {name: value for name, value in values.items() if name != "weights"}
        return self.weights.changed(values.get("weights"), at_version, **others)

    def statistics(self) -> MixtureStatistics:
        """Shares, rates and ages over the last completed batches, and the counters of each source's reader."""
        stats = self._readers.stats() if self._readers is not None else {}
        statistics = self._tally.statistics(self.weights, stats, time.time())
        self.metrics.take(statistics)
        return statistics

    @property
    def construction(self) -> dict[str, Any]:
        """What it is made of, as `reconstructed` takes it: the sources by name, None for those that were taken out."""
        told = {name: described(*known) if name in self.sources else None for name, known in self._known.items()}
        return {"sources": told}

    def reconstructed(self, **changes: Any) -> InteractiveMixture:
        """A mixture with other `sources`, at its beginning; load the state of this one, and the others go on.

        By name, a path to shards or `{"path": …, "weight": …}` adds one (without a weight it is paused until it is given
        one), None takes one out, and those that are not named stay. Raises `ParameterError`.
        """
        if set(changes) != {"sources"}:
            raise ParameterError(f"{', '.join(changes) or 'nothing'}: a mixture is made anew with other sources=…")
        made_of = chosen(changes["sources"], self.sources, self._known, self._decode)
        before = self._made_with.by_source
        weights = {
            name: newcomer.weight if newcomer else before.get(name, 0.0) for name, (_, newcomer) in made_of.items()
        }
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1.0)
        first = Weights.first(made_of, weights)
        sources = {name: source for name, (source, _) in made_of.items()}
        anew = InteractiveMixture(sources, first, self.seed, self.workers, self.ahead_bytes, self._decode)
        anew._known = {**self._known, **made_of}
        anew.metrics = self.metrics  # whoever scrapes them goes on
        return anew

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
            self._let_hold(newest)

    def take(self, size: int, idle: Idle | None = None) -> tuple[list[Item], Receipt] | None:
        """The next batch: `size` items, fewer only at the very end, all drawn with the newest weights.

        While every source with a weight is dry it waits, calling `idle`, which may change weights. Returns None when
        no sample will ever come again, or when `idle` returns False; what was read by then comes first next time.
        An error of a source, or one raised by `idle`, passes, and rewinds the stream.
        """
        readers, first = self._opened(), self._next
        weights = self._schedule.at(first)
        readers.adjust(weights)
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
                    if not readers.hold_deleted(items):
                        break
                    readers.put_back(picks[: len(items)], items)  # without those that were deleted meanwhile
                    picks, items, redraws = self._draws.picks(weights, first, size), [], []
                    continue
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
                    readers.adjust(weights)
                    picks, items, redraws = self._draws.picks(weights, first, size), [], []
        except BaseException:  # what was read for this batch must not get lost, whatever ended it
            self._go_back()
            raise
        if not items:
            return None
        self._next += len(items)
        blank = Receipt(
            rank=self.rank, world=self.world, stream=self._stream, version=weights.version, first_draw=first
        )
        return items, filled(blank, picks[: len(items)], items, redraws)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Samples one by one; each is consumed when the next is asked for. Begins after what was completed.

        In worker processes of a `DataLoader` each carries its receipt, and is consumed when that is completed.
        """
        worker = get_worker_info()
        if worker is not None:
            seat = self._seat or Seat(self, worker.id, worker.num_workers)
            yield from seat.samples()
            return
        self.rewind()
        while (taken := self.take(1)) is not None:
            (item,), receipt = taken
            yield item.sample
            self.complete([receipt])

    def rewind(self) -> None:
        """Give up batches that were taken and not completed: the next one begins after what was completed.

        It is drawn with the newest weights, also where it was drawn before.
        """
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
        crew = self._crew_of(batches)
        (crew or self._ledger).check(batches, self._stream)
        self._crew = crew
        now = time.time()
        for receipt in batches:
            if crew is not None:
                crew.book(receipt, self._by_version)
            else:
                self._ledger.book(receipt)
            self._tally.book(receipt, now)
        if crew is not None:
            self._tell()
        elif self._readers is not None:
            self._readers.follow(self._ledger.passed)

    @property
    def consumed(self) -> Consumed:
        """What completed steps of this rank used, and those of all ranks up to the last load."""
        return self._crew.consumed if self._crew is not None else self._ledger.consumed.copy()

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """The state after the last completed step, of this rank; JSON types, a few kilobytes."""
        if self._crew is None:
            self._opened()
        return self._snapshot().dump()

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
        forget = {*forget, *(self._known.keys() - self.sources.keys())}
        refuse_foreign(loaded, self.sources, self.seed, forget, trust)
        self._restore(loaded.without(forget))

    # Within

    def _let_hold(self, changed: Weights) -> Weights:
        """New weights, from the next batch on."""
        self._schedule.change(changed, self._next)
        self._by_version[changed.version] = changed
        while len(self._by_version) > KEPT:
            del self._by_version[next(iter(self._by_version))]
        self._tell()
        return changed

    def _snapshot(self) -> MixtureState:
        """The state, without opening anything for it."""
        if self._crew is not None:
            return self._crew.state(self.weights)
        states = self._states if self._readers is None else _merged(self._states, self._readers.states())
        rank = RankState(self._ledger.next_draw, self._schedule.dump(), self._ledger.redraws.dump())
        return MixtureState(
            seed=self.seed,
            world=self.world,
            ranks={str(self.rank): rank},
            sources={name: SourceState(each.fingerprint, states.get(name, {})) for name, each in self.sources.items()},
            consumed=self._ledger.consumed.dump(),
            jumped=self._ledger.jumped.dump(),
        )

    def _crew_of(self, receipts: Sequence[Receipt]) -> Crew | None:
        """The books of worker processes of a `DataLoader`, if it is they who drew these."""
        if self._crew is None and receipts and receipts[0].versions:
            workers = receipts[0].world // self.world
            return Crew(self._begun_with(), self.rank, self.world, workers, self._made_with)
        return self._crew

    def _begun_with(self) -> MixtureState:
        """What worker processes begin with, that are started now."""
        if self._crew is None and self._ledger.next_draw == self._loaded_next and self._loaded is not None:
            return self._loaded
        if self._crew is None and self.world > 1 and self._ledger.next_draw != self._loaded_next:
            raise LayoutError(
                f"rank {self.rank} of {self.world} has read without worker processes until now; to go on with them, "
                "merge the states of all ranks and load them first"
            )
        return self._snapshot()

    def _tell(self) -> None:
        """Let worker processes know."""
        completed = self._crew.completed if self._crew is not None else {}
        self._notice = Notice(self._stream, self.weights, completed)
        self._board.write(msgspec.json.encode(self._notice))

    def __getstate__(self) -> dict[str, Any]:
        """As it is sent to a worker process: without what is open."""
        state = dict(self.__dict__)
        if self._readers is not None:
            state["_states"] = _merged(self._states, self._readers.states())
        state["_readers"] = state["_pool"] = None
        if get_spawning_popen() is None:  # a copy, which nobody tells anything
            state["_board"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._board = self._board or Board()

    def _restore(self, state: MixtureState | None) -> None:
        self._close_readers()
        self._loaded = state
        self._crew = None
        self._stream += 1
        self._states = {name: source.shares for name, source in state.sources.items()} if state else {}
        rank = rank_state(state, self.rank, self.world, self._made_with)
        self._ledger = Ledger(state, rank)
        self._schedule = Schedule(rank.weights)
        self._draws = Draws(self.seed, self.rank)
        self._next = self._loaded_next = rank.next_draw
        self._tally = Tally(self.sources)
        self._by_version = {entry.weights.version: entry.weights for entry in rank.weights}
        if self._seat is None:
            self._board.write_annex(msgspec.json.encode(state))
            self._tell()

    def _go_back(self) -> None:
        self._close_readers()
        self._next = self._ledger.next_draw
        self._stream += 1
        if self._schedule.at(self._next) is not self.weights:  # changed since: what is drawn again obeys
            self._schedule.change(self.weights, self._next)

    def _opened(self) -> Readers:
        if self._crew is not None:  # worker processes have read until now
            if self.world > 1:
                raise LayoutError(
                    f"rank {self.rank} of {self.world} has read with worker processes until now; to go on without, "
                    "merge the states of all ranks and load them first"
                )
            self._restore(self._crew.state(self.weights))
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
        names = (name for name, weight in weights.by_source.items() if weight > 0 or idle is not None)
        return readers.exhausted(names, for_now=idle is None)


def _merged(before: States, now: States) -> States:
    return {name: {**before.get(name, {}), **shares} for name, shares in now.items()}
