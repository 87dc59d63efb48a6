"""The log: an append-only, partitioned record of topics, with one small contract for every backend.

Offsets of a partition only grow; they may have gaps (aborted transactions, compaction), so a reader goes on from the
`next_offset` it was given and never from arithmetic of its own. A writer commits records and its own state in one
atomic, durable step: that is how an annotator's outputs and its input position are kept together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from ingest.errors import OffsetOutOfRange
from ingest.sharing import Sharing


class Append(msgspec.Struct, frozen=True):
    """A record to be written. `key` is the session id: it tells the owner, not the partition.

    `traceparent` (W3C Trace Context) goes into the record's headers where a backend has them.
    """

    topic: str
    partition: int
    key: str
    value: bytes
    time: float
    traceparent: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A record as it stands in the log; `time` is when the writer took it in, in Unix seconds (whole milliseconds last)."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    time: float


class Bounds(msgspec.Struct, frozen=True):
    """The offsets that can be read now: `start` (first retained) up to, not including, `end`.

    `size` is how many bytes the values of those records have (0 where a backend cannot tell).
    """

    start: int
    end: int
    size: int = 0


class Fetch(msgspec.Struct, frozen=True):
    """Records in order, and where to go on (past any gap), also when there were none."""

    records: tuple[Record, ...]
    next_offset: int


class LogWriter(Protocol):
    """The only writer of its share of its topics. A second one is refused with `LogLocked`."""

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        """Append all records and set all state (None deletes a key), atomically; return the offsets once durable."""
        ...

    def recover(self) -> None:
        """After `LogUnavailable`: find out what became of the commit; `state` is then what the log holds."""
        ...

    @property
    def max_record_bytes(self) -> int:
        """The largest value that a record can have."""
        ...

    def state(self, prefix: str = "") -> dict[str, bytes]:
        """The writer's own committed state, of keys that begin with `prefix`."""
        ...

    def trim(self, topic: str, partition: int, before: int) -> int:
        """Forget records of offsets below `before`; return how many (with gaps, where a backend counts only offsets).

        Offsets are never used again.
        """
        ...

    def tidy(self) -> None:
        """Do housekeeping that would delay a commit (in SQLite a checkpoint). Best when nobody waits; never needed.

        Raises `LogLocked` where it is known that another writer has taken the share over: who has nothing to commit
        would not learn of it otherwise.
        """
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads any topic from any process. Holds no lock between calls. Use from one thread, and open after a fork."""

    @property
    def silent(self) -> bool:
        """Whether nobody answered when the log was last asked: what it tells until then is what was known before."""
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has (also before the first record)."""
        ...

    def bounds(self, topic: str, partition: int) -> Bounds: ...

    def ends(self, topic: str) -> Sequence[int]:
        """For each partition an offset that nothing lies beyond that is durable by now, if it can be read yet or not.

        Asked often, by those who only want to know whether there is news. Raises `LogUnavailable` while it cannot be told.
        """
        ...

    def fetch(self, topic: str, partition: int, offset: int, max_bytes: int = 4 << 20) -> Fetch:
        """Records from `offset` on, at least one if there is one, else about `max_bytes` of values; never blocks.

        Raises `OffsetOutOfRange` when records from `offset` on were already trimmed.
        """
        ...

    def wait(self, timeout: float) -> bool:
        """Block up to `timeout` seconds; True at once when something was committed since the last call of `wait`.

        News of partitions that were never fetched from may go unnoticed.
        """
        ...

    def close(self) -> None: ...


class Log(Protocol):
    """A place where logs live: opens readers and writers. Only configuration, so it can be pickled.

    The partitions of every topic are dealt out in `shares`, so that several processes may write a topic, each its own
    shares; where there is one share, it has all partitions. State is the share's own.
    """

    @property
    def shares(self) -> int:
        """How many writers of one name there can be at a time."""
        ...

    def partitions_of(self, share: int) -> tuple[int, ...]:
        """The partitions that belong to a share."""
        ...

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> LogWriter:
        """Open the writer called `name` (`gateway`: topic steps; `annotator`: topics samples and dead) of a share.

        Raises `LogLocked` while another one is open; with `force` it is replaced, where a backend can do that.
        """
        ...

    def reader(self) -> LogReader: ...

    def join(self, name: str, address: str = "") -> Sharing:
        """Become one of those who divide the work of `name`: of a writer its shares, of `archiver` the partitions.

        `address` is where the others can reach this member.
        """
        ...

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        """Another process's committed state, of all shares, for those who only watch (retention, lag)."""
        ...


def partition_of(session_id: str, partitions: int) -> int:
    """The partition of a session, the same for ever: FNV-1a over its UTF-8 bytes, modulo `partitions`."""
    value = 0xCBF29CE484222325
    for byte in session_id.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value % partitions


def next_record(reader: LogReader, topic: str, partition: int, offset: int) -> int:
    """The offset of the first record at `offset` or beyond; where none can be read now, one that none lies before."""
    while True:
        try:
            fetched = reader.fetch(topic, partition, offset, max_bytes=1)
        except OffsetOutOfRange as trimmed:
            offset = max(offset + 1, trimmed.start)
            continue
        return fetched.records[0].offset if fetched.records else fetched.next_offset
