"""A reader of all of a log's files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import apsw

from ingest.errors import LogCorrupt, LogError, LogForked, OffsetOutOfRange
from ingest.log import Bounds, Fetch, Record
from ingest.sqlite import layout as file
from ingest.sqlite.layout import Layout

SHORTEST_PAUSE = 0.002
LONGEST_PAUSE = 0.020
"""Between two looks for news, in seconds. A look costs about 3 us a file."""
PATIENCE = 100.0
"""A pause is this many times shorter than the silence so far, within those bounds."""


class SqliteReader:
    """Implements `ingest.log.LogReader`. Use from one thread; it copes with files that are not made yet."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        file.check_library()
        self._layout = layout
        self._pid = os.getpid()
        self._files = {writer: _File(folder, layout, writer) for writer in sorted(set(layout.owners.values()))}
        self._last_news = time.monotonic()
        self._news()

    @property
    def silent(self) -> bool:
        """See `LogReader.silent`."""
        return False

    def partitions(self, topic: str) -> int:
        """See `LogReader.partitions`."""
        self._layout.owner(topic)
        return self._layout.partitions

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See `LogReader.bounds`."""
        connection = self._connection(topic, partition)
        if connection is None:
            return Bounds(0, 0)
        with file.told(connection.filename):
            return _bounds(connection, topic, partition)

    def ends(self, topic: str) -> list[int]:
        """See `LogReader.ends`."""
        return [self.bounds(topic, partition).end for partition in range(self.partitions(topic))]

    def fetch(self, topic: str, partition: int, offset: int, max_bytes: int = 4 << 20) -> Fetch:
        """See `LogReader.fetch`."""
        connection = self._connection(topic, partition)
        if connection is None:
            return Fetch((), offset)
        connection.execute("BEGIN")  # bounds and records of one moment: a trim in between would go unnoticed
        try:
            bounds = _bounds(connection, topic, partition)
            if offset < bounds.start:
                raise OffsetOutOfRange(topic, partition, offset, bounds.start)
            if bounds.end == 0:
                return Fetch((), offset)
            return _records(connection, topic, partition, offset, bounds.end, max_bytes)
        except apsw.CorruptError as error:
            raise LogCorrupt(f"{topic}/{partition}: {error}; restore the file from a copy") from error
        except apsw.Error as error:
            raise LogError(f"{topic}/{partition}: cannot be read ({error!r})") from error
        finally:
            connection.execute("ROLLBACK")

    def wait(self, timeout: float) -> bool:
        """See `LogReader.wait`. News are noticed within 2 ms, and within 20 ms after a silence of seconds."""
        deadline = time.monotonic() + timeout
        while True:
            if self._news():
                self._last_news = time.monotonic()
                return True
            now = time.monotonic()
            if now >= deadline:
                return False
            pause = min(max((now - self._last_news) / PATIENCE, SHORTEST_PAUSE), LONGEST_PAUSE)
            time.sleep(min(pause, deadline - now))

    def close(self) -> None:
        """Close all files. A second call does nothing."""
        if os.getpid() == self._pid:
            for each in self._files.values():
                each.close()

    def _news(self) -> bool:
        self._check_process()
        return any([each.changed() for each in self._files.values()])  # all of them: each remembers what it saw

    def _connection(self, topic: str, partition: int) -> apsw.Connection | None:
        self._check_process()
        self._layout.check(topic, partition)
        return self._files[self._layout.owner(topic)].connection()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LogForked(f"a reader of process {self._pid} was used by {os.getpid()}; open it after the fork")


class _File:
    """One writer's file, opened when it is there."""

    def __init__(self, folder: Path, layout: Layout, writer: str) -> None:
        self._path, self._layout, self._writer = file.path_of(folder, writer), layout, writer
        self._connection: apsw.Connection | None = None
        self._version = -1
        self._closed = False

    def connection(self) -> apsw.Connection | None:
        """The open file; None while it was not made yet."""
        if self._closed:
            raise LogError(f"{self._path}: this reader is closed; open another one")
        if self._connection is None and self._path.exists():
            self._connection = open_read_only(self._path, self._layout, self._writer)
        return self._connection

    def changed(self) -> bool:
        """Whether the file was made or committed to since the last call."""
        connection = self.connection()
        if connection is None:
            return False
        with file.told(self._path):
            ((version,),) = connection.execute("PRAGMA data_version")
        news = bool(version != self._version)
        self._version = version
        return news

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()


def open_read_only(path: Path, layout: Layout, writer: str) -> apsw.Connection:
    """Open a file that exists; it is never changed, checkpointed or deleted from here."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.CantOpenError as error:
        raise LogError(
            f"{path}: cannot be opened ({error}); may this user read it, and write to its folder?"
        ) from error
    file.wait_when_busy(connection)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    try:
        with file.told(path):
            file.check(connection, path, layout, writer)
    except BaseException:
        connection.close()
        raise
    return connection


def _bounds(connection: apsw.Connection, topic: str, partition: int) -> Bounds:
    rows: list[Any] = connection.execute(
        "SELECT start, next, size FROM lanes WHERE topic = ? AND partition = ?", (topic, partition)
    ).fetchall()
    return Bounds(*rows[0]) if rows else Bounds(0, 0)  # a file of an earlier version, which its writer has yet to open


def _records(connection: apsw.Connection, topic: str, partition: int, offset: int, end: int, max_bytes: int) -> Fetch:
    rows = connection.execute(
        f"SELECT offset, key, value, time FROM {file.table(topic, partition)} WHERE offset >= ? ORDER BY offset",
        (offset,),
    )
    records: list[Record] = []
    size = 0
    try:
        for row in rows:
            size += len(row[2])
            if records and size > max_bytes:
                return Fetch(tuple(records), row[0])
            records.append(Record(topic, partition, *row))
    finally:
        rows.close(True)
    return Fetch(tuple(records), max(offset, end))
