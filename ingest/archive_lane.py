"""One partition of one topic on its way into shards."""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter
from collections.abc import Container, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ingest.compaction import CompactionSettings
from ingest.entries import Entry, record_entries, sample_entry
from ingest.errors import OffsetOutOfRange, ShardClaimed, ShardError, StoreError
from ingest.log import LogReader, Record
from ingest.records import annotated, session_record
from ingest.retention import loss
from ingest.shard_reader import ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import ShardStore, chain_folder
from ingest.types import STEPS

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two attempts on a store that does not take a shard; doubled each time."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class ArchiverSettings(BaseModel):
    """When a shard is full. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: PositiveInt = 64 << 20
    max_count: PositiveInt = 10_000
    max_age: PositiveFloat = 60.0
    """Seconds from the first record that went into a shard until it is published, however small it is."""
    poll_interval: PositiveFloat = 0.25
    """Seconds between two looks at a log that is quiet; many records taken at once cost less."""
    compaction: CompactionSettings | None = CompactionSettings()


class Rotation(StrEnum):
    """Why a shard was closed."""

    BYTES = "bytes"
    COUNT = "count"
    AGE = "age"
    SHUTDOWN = "shutdown"
    CLAIM = "claim"
    """It ends where another archiver had said that it would, before it died."""


class ArchiveLane:
    """Gathers records into shards: `advance`, then `rotate` when it is due.

    Where the store does not take a shard, the lane holds it, takes in nothing more, and tries again; where there is no
    room to build one, it lets go of what it has. Either way the log keeps what is not published. Of sessions in `deleted`
    only the places of their entries are archived.
    """

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
        self.rotations: Counter[str] = Counter()
        self.sizes: list[int] = []
        """Of the shards published since somebody took the list."""
        self.entries = self.conflicts = self.failures = 0
        self._store = store
        self._reader = reader
        self._settings = settings
        self._deleted = deleted
        self._writer: ShardWriter | None = None
        self._born = 0.0
        self._held: Rotation | None = None
        self._until: int | None = None
        self._pause = FIRST_PAUSE
        self._due = 0.0
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
        """Take in what the log has next, publishing full shards on the way; False when there was nothing to do."""
        if time.monotonic() < self._due:
            return False
        if self._held is not None:
            return self.rotate(self._held)
        try:
            fetched = self._reader.fetch(self.topic, self.partition, self._cursor)
        except OffsetOutOfRange as trimmed:
            self._pass_trimmed(trimmed)
            return True
        for record in fetched.records:
            if not self._took(record):
                return False
            if (full := self._full()) is not None and not self.rotate(full):
                return True  # the cursor went elsewhere
        self._cursor = fetched.next_offset
        return bool(fetched.records)

    def aged(self) -> bool:
        """Whether the shard in the making has waited long enough."""
        waiting = self._writer is not None and self._held is None and self._until is None
        return waiting and time.monotonic() - self._born >= self._settings.max_age

    def rotate(self, reason: Rotation) -> bool:
        """Publish what was gathered, if anything; False when it is not published, or another archiver was first."""
        writer = self._writer
        if writer is None:
            return True
        if self._until is not None and writer.next_offset < self._until:
            return False  # it would not be what was claimed
        try:
            created = writer.publish() and self._on_chain(writer)
            if not created:
                self._give_way(writer.first_offset)
                return False
        except StoreError as error:
            self._hold(reason, error)
            return False
        except ShardClaimed as claimed:
            self._take_over(claimed, writer.first_offset)
            return False
        except OSError as error:
            self._let_go(error)
            return False
        self._writer = self._held = self._until = None
        self._pause, self.published = FIRST_PAUSE, writer.next_offset
        self.rotations[reason] += 1
        self.sizes.append(writer.size)
        self.entries += writer.rows
        logger.info("%s: %d entries, %d bytes (%s)", writer.name, writer.rows, writer.size, reason)
        return True

    def discard(self) -> None:
        """Drop what was gathered; it is read again by whoever goes on."""
        if self._writer is not None:
            self._writer.discard()
        self._writer = self._held = None

    def lag(self) -> tuple[int, float]:
        """How many records are in no shard yet, and the age of the oldest in seconds."""
        bounds = self._reader.bounds(self.topic, self.partition)
        waiting = self._reader.fetch(self.topic, self.partition, max(self.published, bounds.start), 1).records
        if not waiting:
            return 0, 0.0
        return bounds.end - self.published, max(0.0, time.time() - waiting[0].time)

    def _took(self, record: Record) -> bool:
        try:
            if self._writer is None:
                self._writer = ShardWriter(self._store, self.topic, self.partition, self.published)
                self._born = time.monotonic()
            gone = record.key in self._deleted
            for entry in self._entries(record):
                if gone and not entry.tombstone:
                    self._writer.add_removed(entry.offset, entry.index, entry.time)
                else:
                    self._writer.add(entry)
            self._writer.record(record.offset, record.time)
        except OSError as error:
            self._let_go(error)
            return False
        return True

    def _entries(self, record: Record) -> Sequence[Entry]:
        if self.topic == STEPS:
            return record_entries(session_record(record), record.offset)
        samples = annotated(record).samples
        return [sample_entry(sample, record.offset, index) for index, sample in enumerate(samples)]

    def _full(self) -> Rotation | None:
        if self._writer is None:
            return None
        if self._until is not None:
            return Rotation.CLAIM if self._writer.next_offset >= self._until else None
        if self._writer.size >= self._settings.max_bytes:
            return Rotation.BYTES
        return Rotation.COUNT if self._writer.rows >= self._settings.max_count else None

    def _on_chain(self, writer: ShardWriter) -> bool:
        """Whether the shard that was just published is on the chain.

        It is not where another archiver had published it long ago, and it was replaced and removed since, so that its
        name was free again. Then there are names beyond it, as the last shard of a chain is never removed.
        """
        if not self._store.names(chain_folder(self.topic, self.partition), writer.first_offset):
            return True
        holds = ShardChain(self._store, self.topic, self.partition).covering(writer.first_offset)
        return holds is not None and holds.name == writer.name

    def _pass_trimmed(self, trimmed: OffsetOutOfRange) -> None:
        """Go on though the log has no more what comes next: mostly because another archiver has archived it.

        Else it was lost to a hard limit of the brokers: the chain goes on without it.
        """
        if (ShardChain(self._store, self.topic, self.partition).next_offset or 0) >= trimmed.start:
            self._give_way(self.published)
            return
        if self._until is not None:
            raise trimmed  # what another archiver had claimed cannot be made any more
        logger.error("%s", loss(self.topic, self.partition, self._cursor, trimmed.start, "archived"))
        self._cursor = trimmed.start

    def _give_way(self, first_offset: int) -> None:
        """Another archiver was first: go on where the chain ends, which is beyond this offset."""
        end = ShardChain(self._store, self.topic, self.partition).next_offset
        if end is None or end <= first_offset:
            raise ShardError(
                f"{self.topic}/{self.partition}: a shard at {first_offset} is said to be there, but the chain ends at {end}"
            )
        self.discard()
        self.conflicts += 1
        self._until, self._pause = None, FIRST_PAUSE
        self.published = self._cursor = end
        logger.warning("%s/%d: another archiver was first; going on at %d", self.topic, self.partition, end)

    def _hold(self, reason: Rotation, error: StoreError) -> None:
        """Keep the shard, which is complete, for another attempt."""
        assert self._writer is not None
        self._held = reason
        self._cursor = self._writer.next_offset
        self._wait(f"{self._writer.name} is held back", error)

    def _let_go(self, error: OSError) -> None:
        """Give back the room that a shard in the making has taken, and gather it again later."""
        if error.errno not in _NO_ROOM:
            raise error
        self.discard()
        self._cursor = self.published
        self._wait(f"{self.topic}/{self.partition}: no room to build a shard", error)

    def _wait(self, what: str, error: Exception) -> None:
        self.failures += 1
        self._due = time.monotonic() + self._pause
        logger.warning("%s (%s); trying again in %g s, the log keeps it until then", what, error, self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _take_over(self, claimed: ShardClaimed, first_offset: int) -> None:
        """Publish what another archiver has said that it would, unless it does: the same records, so the same bytes."""
        try:
            end = ShardChain(self._store, self.topic, self.partition).next_offset
            if end is not None and end > first_offset:  # it did, long ago, and that was replaced since
                self._give_way(first_offset)
                return
        except StoreError as error:
            logger.warning("%s", error)
        logger.warning("%s; publishing that in its place", claimed)
        self.discard()
        self.conflicts += 1
        self._until, self._cursor = claimed.end, self.published
