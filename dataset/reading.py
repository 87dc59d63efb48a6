"""What is open of a mixture in one process: readers, workers, and the batches that are made with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dataset.batching import Batch
from dataset.books import Books
from dataset.loading import Loading
from dataset.mixture import Draws, Weights
from dataset.planning import LoadingSource
from dataset.pool import Pool
from dataset.readers import Readers
from dataset.receipt import Head
from dataset.source import Share, Source

WAIT = 0.001
"""Seconds between two looks at sources that are all dry."""

Idle: TypeAlias = Callable[[], bool]
"""Called while there is nothing to make a batch of: about every millisecond while all sources are dry, and every 50 ms
while a worker takes more than two seconds over what comes next. False gives up waiting."""


class Reading:
    """The reading of one rank, from where its books say. Files, sockets and processes are opened at the first use."""

    books: Books

    def __init__(self, sources: Mapping[str, Source], seed: int, loading: Loading) -> None:
        self.loading = loading
        self.pool: Pool | None = None
        self.readers: Readers | None = None
        self.next = self.stream = 0
        self._sources, self._seed = sources, seed

    def begin(self, books: Books, stream: int | None = None) -> None:
        """Read where `books` begin, as another stream than before (or as `stream`)."""
        self.close_readers()
        self.books = books
        self.next = books.first
        self.stream = self.stream + 1 if stream is None else stream
        self._draws = Draws(self._seed, books.rank)

    def opened(self) -> Readers:
        """The readers; opens them where they are not, where completed steps stand."""
        if self.readers is None:
            share = Share(self.books.rank, self.books.world, self._seed)
            if self.loading.workers and self.pool is None:
                loading = {name: source for name, source in self._sources.items() if isinstance(source, LoadingSource)}
                self.pool = Pool(loading, self.loading) if loading else None
            self.readers = Readers(self._sources, share, self.books.passed, self.books.states, self.pool)
        return self.readers

    def take(self, size: int, idle: Idle | None = None) -> Batch | None:
        """The next batch; see `InteractiveMixture.take`."""
        readers, schedule, first = self.opened(), self.books.schedule, self.next
        batch = self._begun(readers, size)
        try:
            while True:
                if batch.advance() or (not batch.loading and self._ended(readers, batch.weights, idle)):
                    if not readers.hold_deleted(batch.keys()):
                        break
                    batch.put_back()  # some of it was deleted while it was made: it begins again, without that
                    batch = self._begun(readers, size)
                    continue
                if not self._waited(readers, idle, batch.loading):
                    if self.readers is readers:
                        batch.put_back()
                    return None
                if schedule.at(first) is not batch.weights:  # the whole batch obeys: it begins again
                    batch.put_back()
                    batch = self._begun(readers, size)
        except BaseException:  # what was read for this batch must not get lost, whatever ended it
            self.go_back()
            raise
        self.next += len(batch)
        return batch if len(batch) else None

    def rewind(self) -> None:
        """Give up batches that were taken and not completed."""
        if self.next != self.books.next_draw:
            self.go_back()

    def go_back(self) -> None:
        """Read from where completed steps stand, as another stream."""
        self.close_readers()
        self.next = self.books.next_draw
        self.stream += 1
        self.books.draw_again(self.next)

    def follow(self) -> None:
        """Steps were completed."""
        if self.readers is not None:
            self.readers.follow(self.books.passed)

    def note_states(self) -> None:
        """Let the books know of the states of open readers."""
        if self.readers is not None:
            self.books.note_states(self.readers.states())

    def close_readers(self) -> None:
        """Close the readers; the books keep their states."""
        if self.readers is not None:
            self.note_states()
            self.readers.close()
            self.readers = None

    def close(self) -> None:
        """Close the readers and end the workers."""
        self.close_readers()
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def left_behind(self) -> tuple[Readers | None, Pool | None]:
        """What was open in the process that forked this one, which is no concern of this one any more."""
        behind = self.readers, self.pool
        self.readers = self.pool = None
        self.loading = Loading()  # a worker of a DataLoader cannot have workers of its own
        return behind

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open."""
        return {**self.__dict__, "readers": None, "pool": None}

    def _begun(self, readers: Readers, size: int) -> Batch:
        weights = self.books.schedule.at(self.next)
        readers.adjust(weights)
        head = Head(self.books.rank, self.books.world, self.stream, weights.version, self.next)
        return Batch(readers, self._draws, weights, size, head)

    def _waited(self, readers: Readers, idle: Idle | None, loading: bool) -> bool:
        """Whether to go on waiting; not where `idle` gives up, or has restored or closed the stream."""
        if idle is not None and (not idle() or self.readers is not readers):
            return False
        if not loading:  # else the poll waits
            time.sleep(WAIT)
        return True

    def _ended(self, readers: Readers, weights: Weights, idle: Idle | None) -> bool:
        """Whether nothing will come: from no source if `idle` may change weights, else from none with a weight."""
        names = (name for name, weight in weights.by_source.items() if weight > 0 or idle is not None)
        return readers.exhausted(names, for_now=idle is None)
