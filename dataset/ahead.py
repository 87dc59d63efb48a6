"""A reader whose samples are loaded ahead by workers: the same items in the same order as without."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from dataset.planning import PASSED_OVER, Loaded, Planned, PlanningReader
from dataset.pool import Pool
from dataset.positions import IntervalSet
from dataset.source import FollowingReader, Item, RecencyReader, SourceStats
from dataset.worker import Raised

TOGETHER = 8
"""Samples that are loaded as one task, at most."""
FURTHEST = 256
"""Samples of a source that are planned and not asked for, at most."""
FURTHEST_BEHIND = 16
"""The same for a source that follows another: what it planned is void when there is more to draw from."""


class AheadReader:
    """Plans in the process that mixes, has it loaded by workers, and finishes it when it is polled.

    What is ahead was not consumed: it comes again after a restore, whatever the number of workers is then. A poll waits
    for a sample that is being loaded, as it would wait for its decoding without workers, and calls a source dry only
    where nothing is planned. It does not wait for a worker that hangs: then less is given, and `loading` says so.
    """

    def __init__(self, name: str, reader: PlanningReader, pool: Pool, ahead_bytes: int) -> None:
        self._name, self._reader, self._pool, self._ahead_bytes = name, reader, pool, ahead_bytes
        self._furthest = FURTHEST_BEHIND if isinstance(reader, FollowingReader) else FURTHEST
        self._given: deque[tuple[int, list[Planned]]] = deque()
        self._ready: deque[tuple[Planned, Loaded | Raised]] = deque()
        self._ahead = 0
        self._held: Planned | None = None  # planned, and not given yet
        self._mean: float | None = None  # bytes of a sample, as it comes from a worker
        self.loading = False

    def poll(self) -> Item | None:
        """The next item, if it was loaded."""
        return next(iter(self.poll_many(1)), None)

    def poll_many(self, count: int) -> list[Item]:
        """The next items, as far as they were loaded."""
        items: list[Item] = []
        self.loading, passed_over = False, 0
        while len(items) < count and passed_over < PASSED_OVER and (self._ready or self._take()):
            planned, loaded = self._ready.popleft()
            if isinstance(loaded, Raised):
                raise loaded.error
            item = self._reader.finish(planned, loaded)
            passed_over = passed_over + 1 if item is None else 0
            if item is not None:
                items.append(item)
        return items

    def exhausted(self) -> bool:
        """Whether nothing is planned, and never will be."""
        return not (self._ready or self._given or self._held) and self._reader.exhausted()

    def stats(self) -> SourceStats:
        """The reader's counters; what is ahead still waits."""
        stats, ahead = self._reader.stats(), self._ahead + len(self._ready)
        return stats if stats.lag < 0 or not ahead else msgspec.structs.replace(stats, lag=stats.lag + ahead)

    def state(self) -> Mapping[str, Any]:
        """The reader's, which also serves the positions before what is ahead."""
        return self._reader.state()

    def follow(self, passed: Mapping[str, IntervalSet]) -> bool | None:
        """As the reader does; what it will plan anew is dropped."""
        if isinstance(self._reader, FollowingReader) and self._reader.follow(passed):
            self._drop()
        return None

    def prefer_recent(self, half_life: float | None, half_life_seconds: float | None = None) -> bool:
        """As the reader does, if it can; what it will plan anew is dropped."""
        if isinstance(self._reader, RecencyReader) and self._reader.prefer_recent(half_life, half_life_seconds):
            self._drop()
        return False

    def close(self) -> None:
        """Drop what is ahead, and close the reader."""
        self._drop()
        self._reader.close()

    def _take(self) -> bool:
        """Plan as far as may be, and take in the oldest answer; False where nothing is planned, or it is not there."""
        self._plan()
        if not self._given:
            return False
        ticket, planned = self._given[0]
        answer = self._pool.answer(ticket)
        if answer is None:
            self.loading = True
            return False
        self._given.popleft()
        self._ahead -= len(planned)
        answers, size = answer
        self._ready.extend(zip(planned, answers, strict=True))
        mean = size / len(planned)
        self._mean = mean if self._mean is None else 0.8 * self._mean + 0.2 * mean
        self._plan()
        return True

    def _plan(self) -> None:
        workers = self._pool.workers
        furthest = 2 * workers  # until the size of samples is known
        if self._mean is not None:
            furthest = max(2, min(self._furthest, int(self._ahead_bytes / self._mean)))
        together = max(1, min(TOGETHER, furthest // (2 * workers)))
        while self._ahead < furthest:
            task: list[Planned] = []
            while len(task) < together and (planned := self._held or self._reader.plan()) is not None:
                self._held = planned if task and planned.lane != task[0].lane else None
                if self._held is not None:
                    break
                task.append(planned)
            if not task:
                return
            whats, lane = [planned.what for planned in task], task[0].lane
            self._given.append((self._pool.submit(self._name, whats, lane), task))
            self._ahead += len(task)

    def _drop(self) -> None:
        self._held = None
        self._pool.forget([ticket for ticket, _ in self._given])
        self._given.clear()
        self._ready.clear()
        self._ahead = 0
