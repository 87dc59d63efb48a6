"""The archiver: every record of `steps` and `samples` into shards, each exactly once.

It stores no position of its own. Where a partition's chain of shards ends is where it goes on, after a crash too; when
another archiver has published a shard first, it drops what it had gathered and goes on where that one ends. So any
number of them may run by mistake, and one that was asleep for an hour harms nothing. While the store is away it waits,
and the log keeps what is not archived.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from ingest.archive_lane import FIRST_PAUSE, LONGEST_PAUSE, ArchiveLane, ArchiverSettings, Rotation
from ingest.compaction import Compactor
from ingest.deletions import PASSING, DeletedSessions
from ingest.errors import StoreUnavailable
from ingest.log import Log, LogReader
from ingest.shards import ShardStore
from ingest.types import SAMPLES, STEPS

logger = logging.getLogger(__name__)

SIZES = tuple(1 << power for power in range(12, 31, 2))
"""Upper bounds, in bytes, of the classes that shards are counted in: 4 KiB to 1 GiB."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at the lag."""
T = TypeVar("T")


class ArchiverHealth(msgspec.Struct, frozen=True):
    """What the archiver did since it started, and how far it is behind; measured after publication.

    `lag_offsets` are records in no shard yet, `lag_seconds` is the age of the oldest of them (0 if there is none);
    `conflicts` are shards that another archiver had published first, `failures` attempts that the store did not take,
    `rotations` the shards by why they were closed, `sizes` by the class of `SIZES` (the last one is of larger ones).
    """

    time: float
    shards: int = 0
    entries: int = 0
    bytes: int = 0
    conflicts: int = 0
    failures: int = 0
    lag_offsets: int = 0
    lag_seconds: float = 0.0
    rotations: Mapping[str, int] = {}
    sizes: tuple[int, ...] = (0,) * (len(SIZES) + 1)


class Archiver:
    """Archives every partition of `steps` and `samples`, in the thread that calls `run`."""

    def __init__(self, log: Log, store: ShardStore, settings: ArchiverSettings | None = None) -> None:
        self._log = log
        self._store = store
        self._settings = settings or ArchiverSettings()
        self.health = ArchiverHealth(time.time())

    def run(self, stop: threading.Event, partitions: Iterable[int] | None = None) -> None:
        """Archive `partitions` (all of them) until `stop` is set, then publish what was gathered.

        Errors of the log pass, and so does `StoreRefused` at the start: settings that cannot work.
        """
        reader = self._log.reader()
        lanes: list[ArchiveLane] = []
        deleted = DeletedSessions(reader, PASSING)
        try:
            store = _patiently(lambda: self._store.for_writing(self._log), stop)
            mine = range(reader.partitions(STEPS)) if partitions is None else sorted(partitions)
            chains = [(topic, number) for topic in (STEPS, SAMPLES) for number in mine]
            for topic, partition in chains if store is not None else ():
                lane = _patiently(lambda: self._lane(store, reader, topic, partition, deleted), stop)  # noqa: B023  # called here
                lanes += [lane] if lane is not None else []
            if store is not None and self._settings.compaction is not None:
                compactor = Compactor(store, chains, self._settings.compaction)
                threading.Thread(target=compactor.run, args=(stop,), name="compaction", daemon=True).start()
            while not stop.is_set():
                self._advance(lanes, stop)
            self._finish(lanes)
        finally:
            for lane in lanes:
                lane.discard()
            reader.close()

    def _lane(
        self, store: ShardStore | None, reader: LogReader, topic: str, partition: int, deleted: DeletedSessions
    ) -> ArchiveLane:
        assert store is not None
        return ArchiveLane(store, reader, topic, partition, self._settings, deleted)

    def _advance(self, lanes: Sequence[ArchiveLane], stop: threading.Event) -> None:
        moved = any([lane.advance() for lane in lanes])
        for lane in lanes:
            if lane.aged():
                lane.rotate(Rotation.AGE)
        if time.time() - self.health.time >= _LOOK_EVERY:
            self._look(lanes)
        if not moved:
            stop.wait(self._settings.poll_interval)

    def _finish(self, lanes: Sequence[ArchiveLane]) -> None:
        for lane in lanes:
            failures = lane.failures
            lane.advance()  # what the annotator put out last
            lane.rotate(Rotation.SHUTDOWN)
            if lane.failures > failures:
                logger.warning("the store is not there: what is not archived stays in the log")
                break
        self._look(lanes)

    def _look(self, lanes: Sequence[ArchiveLane]) -> None:
        """Measure how far the shards are behind."""
        lags = [lane.lag() for lane in lanes]
        before = self.health
        sizes, total = list(before.sizes), before.bytes
        for lane in lanes:
            for size in lane.sizes:
                sizes[bisect_left(SIZES, size)] += 1
                total += size
            lane.sizes.clear()
        rotations: Counter[str] = sum((lane.rotations for lane in lanes), Counter())
        self.health = ArchiverHealth(
            time=time.time(),
            shards=rotations.total(),
            entries=sum(lane.entries for lane in lanes),
            bytes=total,
            conflicts=sum(lane.conflicts for lane in lanes),
            failures=sum(lane.failures for lane in lanes),
            lag_offsets=sum(offsets for offsets, _ in lags),
            lag_seconds=max((seconds for _, seconds in lags), default=0.0),
            rotations=dict(rotations),
            sizes=tuple(sizes),
        )


def _patiently(attempt: Callable[[], T], stop: threading.Event) -> T | None:
    """What an attempt gives, repeated while the store cannot be reached; None where `stop` was set before that."""
    pause = FIRST_PAUSE
    while True:
        try:
            return attempt()
        except StoreUnavailable as error:
            logger.warning("%s; trying again in %g s, the log keeps everything until then", error, pause)
        if stop.wait(pause):
            return None
        pause = min(2 * pause, LONGEST_PAUSE)
