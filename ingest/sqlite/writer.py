"""The one writer of a log's file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import apsw

from ingest.errors import LogBroken, LogError, LogForked, LogFull
from ingest.log import Append
from ingest.sqlite import layout as file
from ingest.sqlite.layout import Layout
from ingest.sqlite.lock import WriterLock

Lane: TypeAlias = tuple[str, int]

logger = logging.getLogger(__name__)

CHECKPOINT_PAGES = 1_000
"""Once the WAL grew by this many pages (4 MB), `tidy` moves them to the file proper."""
LATEST_CHECKPOINT_PAGES = 4_000
"""Once it grew by this many, a commit does so itself: nobody calls `tidy`."""
RESTART_PAGES = 32_000
"""From this many on, a checkpoint asks readers to step aside for a moment, so that the WAL begins anew."""
WAL_BYTES_KEPT = 64 << 20
"""A WAL that grew beyond this is cut back to it."""
RESTART_MILLISECONDS = 100

STATE_UPSERT = "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class SqliteWriter:
    """Implements `ingest.log.LogWriter`. One process, one thread at a time; `vfs` is for tests that watch the disk."""

    def __init__(self, folder: Path, layout: Layout, name: str, vfs: str | None = None) -> None:
        file.check_library()
        self._name, self._layout, self._topics = name, layout, layout.topics(name)
        self._pid = os.getpid()
        self._broken: str | None = None
        self._wal_pages = self._moved_pages = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._path = file.path_of(folder, name)
        self._lock = WriterLock(self._path.with_name(f"{name}.lock"))
        try:
            with file.told(self._path):
                self._connection = self._open(vfs)
                self._next: dict[Lane, int] = {
                    (topic, partition): after
                    for topic, partition, after in self._connection.execute("SELECT topic, partition, next FROM lanes")
                }
        except BaseException:
            self._lock.release()
            raise

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        """See `LogWriter.commit`. Raises `LogFull` when nothing was written for want of space: try again later.

        After any other failure of the disk the writer refuses everything (`LogBroken`): what an fsync that failed
        left behind is not known, and trying again may report a success that is none.
        """
        self._check_usable()
        offsets, after = self._assign(appends)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._insert(appends, offsets, after)
            self._set_state(state or {})
            self._connection.execute("COMMIT")
        except BaseException as error:
            raise self._failed(error) from error
        self._next.update(after)
        if self._wal_pages - self._moved_pages >= LATEST_CHECKPOINT_PAGES:
            self.tidy()
        return offsets

    def recover(self) -> None:
        """See `LogWriter.recover`: never needed, as a disk that fails is `LogBroken`."""

    @property
    def max_record_bytes(self) -> int:
        """See `LogWriter.max_record_bytes`: SQLite's limit of a row."""
        return 900 << 20

    def state(self, prefix: str = "") -> dict[str, bytes]:
        """See `LogWriter.state`."""
        self._check_usable()
        return read_state(self._connection, prefix)

    def trim(self, topic: str, partition: int, before: int) -> int:
        """See `LogWriter.trim`. One transaction: forget a great many records in several calls, or commits will wait."""
        self._check_usable()
        self._check_owned(topic, partition)
        before = min(before, self._next[topic, partition])
        records = file.table(topic, partition)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            ((count, size),) = self._connection.execute(
                f"SELECT count(*), coalesce(sum(length(value)), 0) FROM {records} WHERE offset < ?", (before,)
            )
            self._connection.execute(f"DELETE FROM {records} WHERE offset < ?", (before,))
            self._connection.execute(
                "UPDATE lanes SET start = max(start, ?), size = size - ? WHERE topic = ? AND partition = ?",
                (before, size, topic, partition),
            )
            self._connection.execute("COMMIT")
        except BaseException as error:
            raise self._failed(error) from error
        return int(count)

    def skip(self, topic: str, partition: int, count: int) -> None:
        """Leave a gap of `count` offsets, as an aborted transaction leaves one in Kafka. For tests of readers."""
        self._check_usable()
        self._check_owned(topic, partition)
        self._connection.execute(
            "UPDATE lanes SET next = next + ? WHERE topic = ? AND partition = ?", (count, topic, partition)
        )
        self._next[topic, partition] += count

    def tidy(self) -> None:
        """See `LogWriter.tidy`: a checkpoint, when the WAL has grown. Readers may be at work meanwhile."""
        self._check_usable()
        if self._wal_pages - self._moved_pages < CHECKPOINT_PAGES:
            return
        try:
            self._checkpoint()
        except apsw.BusyError:  # a reader is at work; there will be another time
            pass
        except apsw.Error as error:
            raise self._failed(error) from error
        self._moved_pages = self._wal_pages

    def close(self) -> None:
        """Close the file and let the next writer in. A second call does nothing."""
        if os.getpid() == self._pid:
            try:
                self._connection.close()
            except apsw.Error as error:  # every commit is in the WAL; the next writer takes it from there
                logger.warning("%s: the last checkpoint failed: %r", self._path, error)
        self._lock.release()

    def _open(self, vfs: str | None) -> apsw.Connection:
        if not self._path.exists():
            file.create(self._path, self._layout, self._name)
        flags = apsw.SQLITE_OPEN_READWRITE
        connection = apsw.Connection(str(self._path), flags=flags, vfs=vfs)
        file.wait_when_busy(connection)
        file.check(connection, self._path, self._layout, self._name)
        connection.pragma("synchronous", "FULL")
        file.add_later_topics(connection, self._layout, self._name)
        connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        connection.wal_autocheckpoint(0)  # tidy() does it, when nobody waits
        connection.set_wal_hook(self._grown)
        # A WAL that a failed fsync left behind may have holes on disk that the page cache hides
        # (lwn.net/Articles/752063): nothing is appended to an old one.
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return connection

    def _checkpoint(self) -> None:
        if self._wal_pages < RESTART_PAGES:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return
        self._connection.set_busy_timeout(RESTART_MILLISECONDS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            file.wait_when_busy(self._connection)

    def _grown(self, connection: apsw.Connection, database: str, pages: int) -> int:
        if pages < self._wal_pages:  # it began anew
            self._moved_pages = 0
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _assign(self, appends: Sequence[Append]) -> tuple[list[int], dict[Lane, int]]:
        offsets: list[int] = []
        after: dict[Lane, int] = {}
        for append in appends:
            lane = append.topic, append.partition
            if lane not in after:
                self._check_owned(*lane)
                after[lane] = self._next[lane]
            offsets.append(after[lane])
            after[lane] += 1
        return offsets, after

    def _insert(self, appends: Sequence[Append], offsets: list[int], after: Mapping[Lane, int]) -> None:
        sizes = dict.fromkeys(after, 0)
        statements = {lane: f"INSERT INTO {file.table(*lane)} VALUES (?, ?, ?, ?)" for lane in after}
        execute = self._connection.execute
        for append, offset in zip(appends, offsets, strict=True):
            lane = append.topic, append.partition
            sizes[lane] += len(append.value)
            execute(statements[lane], (offset, append.key, append.time, append.value))
        for (topic, partition), next_offset in after.items():
            execute(
                "UPDATE lanes SET next = ?, size = size + ? WHERE topic = ? AND partition = ?",
                (next_offset, sizes[topic, partition], topic, partition),
            )

    def _set_state(self, state: Mapping[str, bytes | None]) -> None:
        for key, value in state.items():
            if value is None:
                self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                self._connection.execute(STATE_UPSERT, (key, value))

    def _failed(self, error: BaseException) -> BaseException:
        with suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if isinstance(error, apsw.FullError):
            return LogFull(f"{self._path}: no space is left; nothing of the commit was written")
        if isinstance(error, apsw.BusyError):
            return file.held(self._path)
        if isinstance(error, (apsw.TooBigError, apsw.NoMemError)):
            return LogError(f"{self._path}: {error}; nothing of the commit was written")
        if isinstance(error, apsw.Error):
            self._broken = f"{self._path}: a write failed ({error!r}); restart this process"
            return LogBroken(self._broken)
        return error

    def _check_owned(self, topic: str, partition: int) -> None:
        if topic not in self._topics:
            raise LogError(f"the writer {self._name!r} owns {', '.join(self._topics)}, not {topic!r}")
        self._layout.check(topic, partition)

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise LogForked(
                f"{self._path}: opened by process {self._pid}, used by {os.getpid()}; open it after the fork"
            )
        if self._broken is not None:
            raise LogBroken(self._broken)


def read_state(connection: apsw.Connection, prefix: str) -> dict[str, bytes]:
    """The state of keys that begin with `prefix`."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"  # a range, for which there is an index
    rows = connection.execute("SELECT key, value FROM state WHERE key >= ? AND key < ?", (prefix, after))
    return {str(key): bytes(value) for key, value in rows}
