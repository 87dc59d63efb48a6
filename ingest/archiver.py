"""The archiver: every record of `steps` and `samples` into shards, each exactly once.

It stores no position of its own. Where a partition's chain of shards ends is where it goes on, after a crash too; when
another archiver has published a shard first, it drops what it had gathered and goes on where that one ends. So any
number of them may run by mistake, and one that was asleep for an hour harms nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Container, Sequence
from enum import StrEnum

import msgspec
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ingest.deletions import DeletedSessions
from ingest.entries import Entry, record_entries, sample_entry
from ingest.errors import ShardError
from ingest.log import Log, LogReader, Record
from ingest.records import annotated, session_record
from ingest.shard_reader import ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import ShardStore, chain_folder
from ingest.types import SAMPLES, STEPS, SessionDeleted

logger = logging.getLogger(__name__)


_LOOK_EVERY = 1.0
"""Seconds between two looks at the lag."""


class ArchiverSettings(BaseModel):
    """When a shard is full. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: PositiveInt = 64 << 20
    max_count: PositiveInt = 10_000
    max_age: PositiveFloat = 60.0
    """Seconds from the first record that went into a shard until it is published, however small it is."""
    poll_interval: PositiveFloat = 0.25
    """Seconds between two looks at a log that is quiet; many records taken at once cost less."""


class Rotation(StrEnum):
    """Why a shard was closed."""

    BYTES = "bytes"
    COUNT = "count"
    AGE = "age"
    SHUTDOWN = "shutdown"


class ArchiverHealth(msgspec.Struct, frozen=True):
    """What the archiver did since it started, and how far it is behind; measured after publication.

    `lag_offsets` are records in no shard yet, `lag_seconds` is the age of the oldest of them (0 if there is none);
    `conflicts` are shards that another archiver had published first.
    """

    time: float
    shards: int = 0
    entries: int = 0
    bytes: int = 0
    conflicts: int = 0
    lag_offsets: int = 0
    lag_seconds: float = 0.0


class ArchiveLane:
    """One partition of one topic on its way into shards. `advance`, then `rotate` when it is due."""

    def __init__(
        self,
        store: ShardStore,
        reader: LogReader,
        topic: str,
        partition: int,
        settings: ArchiverSettings,
        deleted: Container[str] = (),
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.shards = self.entries = self.bytes = self.conflicts = 0
        self._store = store
        self._reader = reader
        self._settings = settings
        self._deleted = deleted
        self._writer: ShardWriter | None = None
        self._born = 0.0
        store.clean(chain_folder(topic, partition))
        store.settle(chain_folder(topic, partition))
        archived = ShardChain(store, topic, partition).next_offset
        bounds = reader.bounds(topic, partition)  # after the chain: it cannot lie ahead of this
        if archived is not None and archived > bounds.end:
            raise ShardError(
                f"{topic}/{partition} ends at {bounds.end} in the log, but is archived up to {archived}: the archive "
                "is of another log; give this log an archive of its own, or restore the log"
            )
        self.published = bounds.start if archived is None else archived
        self._cursor = self.published

    def advance(self) -> bool:
        """Take in what the log has next, publishing full shards on the way; False when there was nothing."""
        fetched = self._reader.fetch(self.topic, self.partition, self._cursor)
        for record in fetched.records:
            self._take(record)
            if (full := self._full()) is not None and not self.rotate(full):
                return True  # the cursor went elsewhere
        self._cursor = fetched.next_offset
        return bool(fetched.records)

    def aged(self) -> bool:
        """Whether the shard in the making has waited long enough."""
        return self._writer is not None and time.monotonic() - self._born >= self._settings.max_age

    def rotate(self, reason: Rotation) -> bool:
        """Publish what was gathered, if anything; False when another archiver was first, and this one gave way."""
        writer, self._writer = self._writer, None
        if writer is None:
            return True
        if writer.publish() and self._on_chain(writer):
            self.published = writer.next_offset
            self.shards += 1
            self.entries += writer.rows
            self.bytes += writer.size
            logger.info("%s: %d entries, %d bytes (%s)", writer.name, writer.rows, writer.size, reason)
            return True
        self.conflicts += 1
        end = ShardChain(self._store, self.topic, self.partition).next_offset
        if end is None or end <= writer.first_offset:
            raise ShardError(f"{writer.name} is said to be there, but is not on the chain, which ends at {end}")
        self.published = self._cursor = end
        logger.warning("%s was published by another archiver: going on at %d", writer.name, self.published)
        return False

    def _on_chain(self, writer: ShardWriter) -> bool:
        """Whether the shard that was just published is on the chain.

        It is not where another archiver had published it long ago, and it was replaced and removed since, so that its
        name was free again. Then there are names beyond it, as the last shard of a chain is never removed.
        """
        if not self._store.names(chain_folder(self.topic, self.partition), writer.first_offset):
            return True
        holds = ShardChain(self._store, self.topic, self.partition).covering(writer.first_offset)
        return holds is not None and holds.name == writer.name

    def discard(self) -> None:
        """Drop what was gathered; it is read again by whoever goes on."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def lag(self) -> tuple[int, float]:
        """How many records are in no shard yet, and the age of the oldest in seconds."""
        waiting = self._reader.fetch(self.topic, self.partition, self.published, 1).records
        if not waiting:
            return 0, 0.0
        end = self._reader.bounds(self.topic, self.partition).end
        return end - self.published, max(0.0, time.time() - waiting[0].time)

    def _take(self, record: Record) -> None:
        if self._writer is None:
            self._writer = ShardWriter(self._store, self.topic, self.partition, self.published)
            self._born = time.monotonic()
        for entry in self._entries(record):
            self._writer.add(entry)
        self._writer.record(record.offset, record.time)

    def _entries(self, record: Record) -> Sequence[Entry]:
        if self.topic == STEPS:
            value = session_record(record)
            gone = value.session_id in self._deleted and not isinstance(value, SessionDeleted)
            return () if gone else record_entries(value, record.offset)
        if record.key in self._deleted:
            return ()
        samples = annotated(record).samples
        return [sample_entry(sample, record.offset, index) for index, sample in enumerate(samples)]

    def _full(self) -> Rotation | None:
        if self._writer is None:
            return None
        if self._writer.size >= self._settings.max_bytes:
            return Rotation.BYTES
        return Rotation.COUNT if self._writer.rows >= self._settings.max_count else None


class Archiver:
    """Archives every partition of `steps` and `samples`, in the thread that calls `run`."""

    def __init__(self, log: Log, store: ShardStore, settings: ArchiverSettings | None = None) -> None:
        self._log = log
        self._store = store
        self._settings = settings or ArchiverSettings()
        self.health = ArchiverHealth(time.time())

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then publish what was gathered. Errors of the log and of the store pass."""
        reader = self._log.reader()
        lanes: list[ArchiveLane] = []
        deleted = DeletedSessions(reader)
        try:
            lanes += (
                ArchiveLane(self._store, reader, topic, partition, self._settings, deleted)
                for topic in (STEPS, SAMPLES)
                for partition in range(reader.partitions(topic))
            )
            while not stop.is_set():
                moved = any([lane.advance() for lane in lanes])
                for lane in lanes:
                    if lane.aged():
                        lane.rotate(Rotation.AGE)
                if time.time() - self.health.time >= _LOOK_EVERY:
                    self._look(lanes)
                if not moved:
                    stop.wait(self._settings.poll_interval)
            for lane in lanes:
                lane.advance()  # what the annotator put out last
                lane.rotate(Rotation.SHUTDOWN)
            self._look(lanes)
        finally:
            for lane in lanes:
                lane.discard()
            reader.close()

    def _look(self, lanes: Sequence[ArchiveLane]) -> None:
        """Measure how far the shards are behind."""
        lags = [lane.lag() for lane in lanes]
        self.health = ArchiverHealth(
            time=time.time(),
            shards=sum(lane.shards for lane in lanes),
            entries=sum(lane.entries for lane in lanes),
            bytes=sum(lane.bytes for lane in lanes),
            conflicts=sum(lane.conflicts for lane in lanes),
            lag_offsets=sum(offsets for offsets, _ in lags),
            lag_seconds=max((seconds for _, seconds in lags), default=0.0),
        )
