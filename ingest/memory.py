"""A log in memory, for tests of what reads and writes one: the same contract, nothing durable.

It can leave gaps in the offsets, as Kafka's aborted transactions do, so a reader that counts on its own is found out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from ingest.errors import LogError, LogLocked, OffsetOutOfRange
from ingest.log import Append, Bounds, Fetch, Record
from ingest.sharing import Alone
from ingest.types import ARCHIVER, OWNERS


class MemoryLog:
    """Implements `ingest.log.Log` for one process; cannot be pickled. Safe to use from several threads."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.changed = threading.Condition()
        self.version = 0
        self.lanes = {(topic, number): _Lane() for topic in OWNERS for number in range(partitions)}
        self.states: dict[str, dict[str, bytes]] = {}
        self.writing: set[str] = set()
        self.claimed: dict[str, bytes] = {}

    @property
    def shares(self) -> int:
        """See `Log.shares`."""
        return 1

    def join(self, name: str, address: str = "") -> Alone:
        """See `Log.join`: nobody else can write."""
        return Alone(self.partitions if name == ARCHIVER else 1)

    def partitions_of(self, share: int) -> tuple[int, ...]:
        """See `Log.partitions_of`."""
        return tuple(range(self.partitions))

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> MemoryWriter:
        """Open the only writer called `name`; raises `LogLocked` while another one is open."""
        with self.changed:
            if name in self.writing:
                raise LogLocked(f"{name} has an open writer; close that one first")
            self.writing.add(name)
        return MemoryWriter(self, name)

    def reader(self) -> MemoryReader:
        """Open a reader."""
        return MemoryReader(self)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        """See `Log.writer_state`."""
        with self.changed:
            stored = self.states.get(name, {})
            return {key: value for key, value in stored.items() if key.startswith(prefix)}

    def claims(self) -> MemoryClaims:
        """Open its claims."""
        return MemoryClaims(self)

    def skip(self, topic: str, partition: int, count: int) -> None:
        """Leave a gap of `count` offsets at the end, as an aborted transaction does."""
        with self.changed:
            self.lanes[topic, partition].end += count
            self.news()

    def news(self) -> None:
        """Wake those who wait; called with `changed` held."""
        self.version += 1
        self.changed.notify_all()


class MemoryClaims:
    """Implements `ingest.claims.Claims`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def claim(self, name: str, value: bytes) -> bytes:
        """See `Claims.claim`."""
        with self._log.changed:
            return self._log.claimed.setdefault(name, value)

    def close(self) -> None:
        """Nothing is open."""


class _Lane:
    """One partition of one topic."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self.records: list[Record] = []


class MemoryWriter:
    """Implements `ingest.log.LogWriter`."""

    def __init__(self, log: MemoryLog, name: str) -> None:
        self.log = log
        self._name = name

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        """See `LogWriter.commit`."""
        for append in appends:
            if OWNERS.get(append.topic) != self._name:
                raise LogError(f"the writer {self._name!r} does not own the topic {append.topic!r}")
            if (append.topic, append.partition) not in self.log.lanes or not isinstance(append.value, bytes):
                raise LogError(f"{append.topic}/{append.partition} does not exist, or the value is not bytes")
        with self.log.changed:
            offsets = [self._append(append) for append in appends]
            stored = self.log.states.setdefault(self._name, {})
            for key, value in (state or {}).items():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            self.log.news()
        return offsets

    def recover(self) -> None:
        """See `LogWriter.recover`: never needed."""

    @property
    def max_record_bytes(self) -> int:
        """See `LogWriter.max_record_bytes`."""
        return 1 << 30

    def state(self, prefix: str = "") -> dict[str, bytes]:
        """See `LogWriter.state`."""
        return self.log.writer_state(self._name, prefix)

    def trim(self, topic: str, partition: int, before: int) -> int:
        """See `LogWriter.trim`."""
        with self.log.changed:
            lane = self.log.lanes[topic, partition]
            kept = [record for record in lane.records if record.offset >= before]
            count = len(lane.records) - len(kept)
            lane.records = kept
            lane.start = max(lane.start, min(before, lane.end))
            return count

    def tidy(self) -> None:
        """See `LogWriter.tidy`."""

    def close(self) -> None:
        """Let the next writer in."""
        with self.log.changed:
            self.log.writing.discard(self._name)

    def _append(self, append: Append) -> int:
        lane = self.log.lanes[append.topic, append.partition]
        record = Record(append.topic, append.partition, lane.end, append.key, append.value, append.time)
        lane.records.append(record)
        lane.end += 1
        return record.offset


class MemoryReader:
    """Implements `ingest.log.LogReader`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._seen = log.version

    @property
    def silent(self) -> bool:
        """See `LogReader.silent`."""
        return False

    def partitions(self, topic: str) -> int:
        """See `LogReader.partitions`."""
        return self._log.partitions

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See `LogReader.bounds`."""
        with self._log.changed:
            lane = self._log.lanes[topic, partition]
            return Bounds(lane.start, lane.end, sum(len(record.value) for record in lane.records))

    def ends(self, topic: str) -> list[int]:
        """See `LogReader.ends`."""
        with self._log.changed:
            return [self._log.lanes[topic, partition].end for partition in range(self._log.partitions)]

    def fetch(self, topic: str, partition: int, offset: int, max_bytes: int = 4 << 20) -> Fetch:
        """See `LogReader.fetch`."""
        with self._log.changed:
            lane = self._log.lanes[topic, partition]
            if offset < lane.start:
                raise OffsetOutOfRange(topic, partition, offset, lane.start)
            records: list[Record] = []
            size = 0
            for record in lane.records:
                if record.offset < offset:
                    continue
                size += len(record.value)
                if records and size > max_bytes:
                    return Fetch(tuple(records), record.offset)
                records.append(record)
            return Fetch(tuple(records), max(offset, lane.end))

    def wait(self, timeout: float) -> bool:
        """See `LogReader.wait`."""
        deadline = time.monotonic() + timeout
        with self._log.changed:
            while self._log.version == self._seen:
                left = deadline - time.monotonic()
                if left <= 0 or not self._log.changed.wait(left):
                    return False
            self._seen = self._log.version
            return True

    def close(self) -> None:
        """Nothing is held."""
