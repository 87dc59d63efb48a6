"""The stream itself: sources read by one rank, drawn from by weights, and booked once they were trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from multiprocessing.context import get_spawning_popen
from typing import Any

import msgspec
from torch.utils.data import IterableDataset, get_worker_info

from dataset.board import Board
from dataset.books import Books
from dataset.crew import Notice
from dataset.errors import LayoutError, ParameterError
from dataset.forgetting import knowing_deletions
from dataset.loading import AHEAD_BYTES, WORKER_PATIENCE, WORKER_TIMEOUT, Loading
from dataset.metrics import MixtureMetrics
from dataset.mixture import Weights
from dataset.parameters import NAMES, changed_weights
from dataset.positions import Consumed
from dataset.reading import Idle, Reading
from dataset.receipt import Receipt
from dataset.remake import Known, chosen, described
from dataset.seat import Seat
from dataset.source import Item, Source
from dataset.state import MixtureState, refuse_foreign
from dataset.statistics import MixtureStatistics


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

    interactive_parameter_names = NAMES

    _books: Books
    _notice: Notice

    def __init__(
        self,
        sources: Mapping[str, Source],
        weights: Weights,
        seed: int = 0,
        workers: int = 0,
        ahead_bytes: int = AHEAD_BYTES,
        decode: Callable[[Any], Mapping[str, Any]] | None = None,
        worker_timeout: float | None = WORKER_TIMEOUT,
        worker_patience: float = WORKER_PATIENCE,
    ) -> None:
        self.sources = knowing_deletions(sources)
        self.seed = seed
        self.metrics = MixtureMetrics()
        self.rank, self.world = 0, 1
        self._reading = Reading(self.sources, seed, Loading(workers, ahead_bytes, worker_timeout, worker_patience))
        self._board = Board()
        self._seat: Seat | None = None
        self._decode = decode  # of sources that are added
        self._known: Known = {name: (source, None) for name, source in sources.items()}  # with those taken out
        self._made_with = weights
        self._restore(None)

    # What an operator changes

    @property
    def weights(self) -> Weights:
        """The newest weights: those of the next batch."""
        return self._books.weights

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
        source, in samples, of a history, or `half_life_seconds` (see `Weights`). A limit that is None is lifted.
        """
        changed, before = self.changed_parameters(values, at_version), self.interactive_parameters()
        self._let_hold(changed)
        return {name: before[name] for name in values}

    def changed_parameters(self, values: Mapping[str, Any], at_version: int | None = None) -> Weights:
        """What `set_interactive_parameters` would let hold; nothing is changed. Raises `ParameterError`, `WeightsError`."""
        return changed_weights(self.sources, self.weights, values, at_version)

    def statistics(self) -> MixtureStatistics:
        """Shares, rates and ages over the last completed batches, and the counters of each source's reader."""
        readers = self._reading.readers
        stats = readers.stats() if readers is not None else {}
        statistics = self._books.tally.statistics(self.weights, stats, time.time())
        self.metrics.take(statistics)
        return statistics

    @property
    def construction(self) -> dict[str, Any]:
        """What it is made of, as `reconstructed` takes it: the sources by name, None for those that were taken out."""
        told = {name: described(*known) if name in self.sources else None for name, known in self._known.items()}
        return {"sources": told}

    def reconstructed(self, **changes: Any) -> InteractiveMixture:
        """A mixture with other `sources`, at its beginning; load the state of this one, and the others go on.

        By name, a path to shards, `{"path": …, "weight": …}` or `{"kind": …, "arguments": …, "weight": …}` adds one (see
        `register_source`; without a weight it is paused until it is given one), None takes one out, and those that are
        not named stay. Raises `ParameterError`.
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
        ahead = self._reading.loading
        anew = InteractiveMixture(
            sources, first, self.seed, ahead.workers, ahead.ahead_bytes, self._decode, ahead.timeout, ahead.patience
        )
        anew._known = {**self._known, **made_of}
        anew.metrics = self.metrics  # whoever scrapes them goes on
        return anew

    def constructed(self, construction: Mapping[str, Any]) -> InteractiveMixture:
        """A mixture as `construction` tells of it, at its beginning: that of an older or newer state of this one.

        Sources that were added since are taken out, those that were taken out since come back.
        """
        added = {name for name, (_, newcomer) in self._known.items() if newcomer is not None and name in self.sources}
        since = added - construction["sources"].keys()
        return self.reconstructed(**{**construction, "sources": {**dict.fromkeys(since), **construction["sources"]}})

    # Reading

    @property
    def workers(self) -> int:
        """Processes that load ahead."""
        return self._reading.loading.workers

    def set_layout(self, rank: int, world: int) -> None:
        """Read as one of `world` ranks; before the first batch, or right after `load_state_dict`."""
        if not 0 <= rank < world:
            raise LayoutError(f"rank {rank} of {world}: a rank is at least 0 and below the number of ranks")
        if (rank, world) == (self.rank, self.world):
            return
        read = self._reading.next - self._books.first
        if read:
            raise LayoutError(
                f"{read} samples were read as rank {self.rank} of {self.world}; "
                "set the layout before the first, or load a state first"
            )
        self.rank, self.world = rank, world
        newest = self.weights
        self._restore(self._books.loaded)
        if newest.version > self.weights.version:  # they were changed before the layout was told
            self._let_hold(newest)

    def take(self, size: int, idle: Idle | None = None) -> tuple[list[Item], Receipt] | None:
        """The next batch: `size` items, fewer only at the very end, all drawn with the newest weights.

        While every source with a weight is dry, and while a worker hangs over what comes next, it waits, calling `idle`,
        which may change weights. Returns None when no sample will ever come again, or when `idle` returns False; what was
        read by then comes first next time.
        An error of a source, or one raised by `idle`, passes, and rewinds the stream.
        """
        self._read_here()
        batch = self._reading.take(size, idle)
        return None if batch is None else (batch.items(), batch.taken()[1])

    def take_samples(self, size: int, idle: Idle | None = None) -> tuple[list[Mapping[str, Any]], Receipt] | None:
        """The same with the samples alone, which is quicker."""
        self._read_here()
        batch = self._reading.take(size, idle)
        return None if batch is None else batch.taken()

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
        while (taken := self.take_samples(1)) is not None:
            (sample,), receipt = taken
            yield sample
            self.complete([receipt])

    def rewind(self) -> None:
        """Give up batches that were taken and not completed: the next one begins after what was completed.

        It is drawn with the newest weights, also where it was drawn before.
        """
        self._reading.rewind()

    def close(self) -> None:
        """Close the readers and end the workers. The next use opens them again, where training stands."""
        self._reading.close()

    # Booking

    def complete(self, receipts: Iterable[Receipt]) -> None:
        """Book the batches that a completed optimizer step used: all of its accumulation, in the order taken.

        Raises `ReceiptError` where one is not the next, and then nothing is booked.
        """
        self._books.complete(list(receipts), self._reading.stream)
        if self._books.crew is not None:
            self._tell()
        else:
            self._reading.follow()

    @property
    def consumed(self) -> Consumed:
        """What completed steps of this rank used, and those of all ranks up to the last load."""
        return self._books.consumed

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """The state after the last completed step, of this rank; JSON types, a few kilobytes."""
        if self._books.crew is None:
            self._reading.opened()
            self._reading.note_states()
        return self._books.snapshot().dump()

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
        self._books.let_hold(changed, self._reading.next)
        self._tell()
        return changed

    def _tell(self) -> None:
        """Let worker processes of a `DataLoader` know."""
        completed = self._books.crew.completed if self._books.crew is not None else {}
        self._notice = Notice(self._reading.stream, self.weights, completed)
        self._board.write(msgspec.json.encode(self._notice))

    def __getstate__(self) -> dict[str, Any]:
        """As it is sent to a worker process; a copy has a board of its own, on which nobody tells it anything."""
        self._reading.note_states()
        return {**self.__dict__, "_board": self._board if get_spawning_popen() is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._board = self._board or Board()

    def _restore(self, state: MixtureState | None, stream: int | None = None) -> None:
        self._books = Books(self.sources, self.seed, self._made_with, self.rank, self.world, state)
        self._reading.begin(self._books, stream)
        if self._seat is None:
            self._board.write_annex(msgspec.json.encode(state))
            self._tell()

    def _read_here(self) -> None:
        """From here on this process reads, where worker processes of a `DataLoader` may have done so until now."""
        if self._books.crew is not None:
            self._restore(self._books.ends_workers())
