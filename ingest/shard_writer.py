"""Writes one shard: entries in order, then the index, then the summary, and then it is there all at once."""

from __future__ import annotations

import hashlib
import logging
import os

import msgspec
from crc32c import crc32c

from ingest.entries import Entry
from ingest.errors import ShardError, StoreError
from ingest.shard_format import (
    BODY,
    END,
    FORMAT,
    INDEX_NAME,
    ROW,
    TRACED,
    Made,
    ShardSummary,
    encode_summary,
    member_header,
    padding,
    told,
)
from ingest.shards import ShardStore, chain_folder, shard_name

logger = logging.getLogger(__name__)

_SYNC_EVERY = 8 << 20
"""Bytes after which what was written is pushed to the disk, so that publishing never waits for a whole shard (nor does
another process's fsync, which on ext4 may wait behind it)."""


class ShardWriter:
    """A shard in the making, of the records from `first_offset` on. Used from one thread.

    Tell it of every record with `record`, those without entries too: `next_offset` is the last record's offset + 1,
    and so a shard covers the gaps between its records. Give it up with `discard`, or leave it to `publish`.
    """

    def __init__(
        self, store: ShardStore, topic: str, partition: int, first_offset: int, *, generation: int = 0
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = first_offset
        self.generation = generation
        self.next_offset = first_offset
        self.oldest_time = self.newest_time = 0.0
        self.count = 0
        self.rows = 0
        self.size = BODY
        self._store = store
        self._index = bytearray()
        self._versions: dict[Made, int] = {(None, None): 0}
        self._digest = hashlib.sha256()
        self._unsynced = 0
        self._last = (-1, -1)
        self._published: bool | None = None
        self._staged = store.stage(chain_folder(topic, partition))
        self._file = self._staged.file
        self._file.write(bytes(BODY))

    @property
    def name(self) -> str:
        """The name under which it will be published."""
        return shard_name(self.topic, self.partition, self.first_offset, self.generation)

    @property
    def records(self) -> bool:
        """Whether it holds any record."""
        return self.next_offset > self.first_offset

    def record(self, offset: int, time: float) -> None:
        """The record at `offset`, taken in at `time`, is in this shard with all of its entries."""
        self.oldest_time = time if not self.records else min(self.oldest_time, time)
        self.newest_time = max(self.newest_time, time)
        self.next_offset = offset + 1

    def add(self, entry: Entry) -> None:
        """Append one entry; they come in order of (offset, index)."""
        here = (entry.offset, entry.index)
        self._check_order(*here)
        if not entry.members:
            raise ShardError(f"{self.name}: entry {here} ({entry.key}) has no member, and so no reader would see it")
        parts: list[bytes] = []
        for extension, value in entry.members.items():
            parts += (member_header(f"{entry.key}.{extension}", len(value)), value, padding(len(value)))
        block = b"".join(parts)
        made = (entry.model_version, entry.traceparent)
        version = self._versions.setdefault(made, len(self._versions))
        self._index += ROW.pack(*here, self.size, len(block), entry.time, crc32c(block), version)
        self._write(block)
        self._last = here
        self.rows += 1
        self.count += not entry.hidden

    def add_removed(self, offset: int, index: int, time: float = 0.0) -> None:
        """Keep the place of an entry that was deleted: nothing of it is left but that it was there, and when.

        The time stays because draws may be weighed by it: those of all other entries must not change.
        """
        self._check_order(offset, index)
        self._index += ROW.pack(offset, index, self.size, 0, time, 0, 0)
        self._last = (offset, index)
        self.rows += 1

    def cover(self, next_offset: int, oldest: float, newest: float) -> None:
        """It holds all records below `next_offset`, taken in between two times: those of shards that it replaces."""
        self.oldest_time = oldest if not self.records else min(self.oldest_time, oldest)
        self.newest_time = max(self.newest_time, newest)
        self.next_offset = next_offset

    def publish(self) -> bool:
        """Make it visible, whole and durable; False when another writer has published a shard of this name.

        After `StoreError` it may be tried again, or discarded; after it has succeeded, it tells the same again.
        """
        if self._published is None:
            try:
                if self._staged.summary is None:
                    self._finish()
                self._published = self._store.create_if_absent(self.name, self._staged)
            except StoreError:
                raise
            except BaseException:
                self.discard()
                raise
        return self._published

    def _finish(self) -> None:
        index_position = self.size
        versions = msgspec.json.encode([told(made) for made in self._versions])
        index = b"".join((self._index, versions))
        self._write(b"".join((member_header(INDEX_NAME, len(index)), index, padding(len(index)), END)))
        traced = any(trace is not None for _, trace in self._versions)
        summary = ShardSummary(
            format=TRACED if traced else FORMAT,
            topic=self.topic,
            partition=self.partition,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
            count=self.count,
            rows=self.rows,
            oldest_time=self.oldest_time,
            newest_time=self.newest_time,
            index_position=index_position,
            length=self.size,
            sha256=self._digest.hexdigest(),
        )
        self._file.seek(0)
        self._file.write(encode_summary(summary))
        self._file.flush()
        self._staged.summary = summary

    def discard(self) -> None:
        """Leave nothing behind."""
        self._staged.discard()

    def _check_order(self, offset: int, index: int) -> None:
        if (offset, index) <= self._last or offset < self.next_offset:
            raise ShardError(
                f"{self.name}: entry {(offset, index)} after {self._last}; entries are added in order, each once"
            )

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)
        self._unsynced += len(block)
        if self._staged.durable and self._unsynced >= _SYNC_EVERY:
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._unsynced = 0
