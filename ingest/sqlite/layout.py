"""What a log's file holds, how it is made, and how a foreign one is refused.

    layout(topic, partitions)                           who may be asked for what; fixed when the file is made
    lanes(topic, partition, start, next, size)          the first retained and the next offset, bytes of values held
    "steps/0"(offset, key, time, value), …              the records, a table for each partition
    state(key, value)                                   the writer's own state, committed together with its records

The next offset is stored, not derived: row ids start again after the last row was deleted. Every partition has a
table of its own because SQLite fills pages densely only where rows are appended at the end of a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from ingest.errors import LayoutMismatch, LogCorrupt, LogError
from ingest.types import DELETIONS, OWNERS

FORMAT = 1
APPLICATION_ID = 0x53746F76
"""Marks the file as one of ours ("Stov"), as SQLite's file header provides for."""

LATER = frozenset({DELETIONS})
"""Topics that files of the first versions lack; their writer adds them when it opens the file."""

FIRST_SAFE_SQLITE = (3, 51, 3)
"""Older ones may lose commits when two connections write or checkpoint: sqlite.org/wal.html#walresetbug."""


PATIENCE_SECONDS = 30.0
"""How long a file that is being closed, or checkpointed, is waited for: on a disk that stalls this takes seconds."""


class Layout(msgspec.Struct, frozen=True):
    """Which writer owns which topic, and how many partitions every topic has."""

    partitions: int = 4
    owners: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(OWNERS))

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 1024:
            raise LogError(f"a topic has 1 to 1024 partitions, not {self.partitions}")

    def owner(self, topic: str) -> str:
        """The writer of `topic`."""
        try:
            return self.owners[topic]
        except KeyError:
            raise LogError(f"no topic {topic!r} in this log; it has {', '.join(self.owners)}") from None

    def topics(self, writer: str) -> tuple[str, ...]:
        """The topics that `writer` owns."""
        owned = tuple(topic for topic, owner in self.owners.items() if owner == writer)
        if not owned:
            raise LogError(f"no writer {writer!r} in this log; it has {', '.join(sorted(set(self.owners.values())))}")
        return owned

    def check(self, topic: str, partition: int) -> None:
        """Raise `LogError` unless `topic` has `partition`."""
        self.owner(topic)
        if not 0 <= partition < self.partitions:
            raise LogError(f"{topic} has partitions 0 to {self.partitions - 1}, but {partition} was asked for")


def path_of(folder: Path, writer: str) -> Path:
    """The file of `writer`."""
    return folder / f"{writer}.sqlite"


def table(topic: str, partition: int) -> str:
    """The quoted name of a partition's table."""
    return f'"{topic}/{partition}"'


def create(path: Path, layout: Layout, writer: str) -> None:
    """Make the file, whole or not at all: it takes its name only when it is complete and on disk."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    for leftover in (staged, path):  # beside a new file, an old one's WAL would be taken for its own
        for suffix in ("-wal", "-shm"):
            leftover.with_name(leftover.name + suffix).unlink(missing_ok=True)
    connection = apsw.Connection(str(staged))
    try:
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
        with connection:
            _make_tables(connection, layout, layout.topics(writer))
    finally:
        connection.close()
    _sync(staged)
    os.replace(staged, path)
    _sync(path.parent)


def wait_when_busy(connection: apsw.Connection) -> None:
    """Let a connection wait for others."""
    connection.set_busy_timeout(round(PATIENCE_SECONDS * 1000))


@contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Raise `LogError` where somebody did not let go of the file in time."""
    try:
        yield
    except apsw.BusyError as error:
        raise held(path) from error


def held(path: Path | str) -> LogError:
    """What is said of a file that nobody lets go of."""
    return LogError(f"{path}: held by a foreign program for {PATIENCE_SECONDS:g} s; close it there")


def check(connection: apsw.Connection, path: Path, layout: Layout, writer: str) -> None:
    """Refuse a file that is not a log, is of an unknown format, or was made with another layout."""
    try:
        application_id = connection.pragma("application_id")
        known = connection.pragma("user_version")
        if application_id != APPLICATION_ID:
            raise LogCorrupt(f"{path}: not a log (application id {application_id:#x}); give the log another folder")
        if known != FORMAT:
            raise LogCorrupt(f"{path}: log format {known} is not known here, only {FORMAT}; update this installation")
        found: dict[str, int] = dict(connection.execute("SELECT topic, partitions FROM layout"))
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise LogCorrupt(f"{path}: not a log ({error}); give the log another folder") from error
    expected = dict.fromkeys(layout.topics(writer), layout.partitions)
    if {**dict.fromkeys(LATER & expected.keys(), layout.partitions), **found} != expected:
        raise LayoutMismatch(f"{path} was made with {_told(found)}, but {_told(expected)} was asked for; set it back")


def add_later_topics(connection: apsw.Connection, layout: Layout, writer: str) -> None:
    """Give a file of an earlier version the topics that it lacks; for its writer, after `check`."""
    found = {topic for (topic,) in connection.execute("SELECT topic FROM layout")}
    missing = tuple(topic for topic in layout.topics(writer) if topic not in found)
    if missing:
        with connection:
            _add_topics(connection, layout, missing)


def _make_tables(connection: apsw.Connection, layout: Layout, topics: tuple[str, ...]) -> None:
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT)
    connection.execute("CREATE TABLE layout (topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL)")
    connection.execute(
        "CREATE TABLE lanes (topic TEXT, partition INTEGER, start INTEGER NOT NULL, next INTEGER NOT NULL,"
        " size INTEGER NOT NULL, PRIMARY KEY (topic, partition))"
    )
    connection.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
    _add_topics(connection, layout, topics)


def _add_topics(connection: apsw.Connection, layout: Layout, topics: tuple[str, ...]) -> None:
    for topic in topics:
        connection.execute("INSERT INTO layout VALUES (?, ?)", (topic, layout.partitions))
        for partition in range(layout.partitions):
            connection.execute("INSERT INTO lanes VALUES (?, ?, 0, 0, 0)", (topic, partition))
            connection.execute(
                f"CREATE TABLE {table(topic, partition)}"
                " (offset INTEGER PRIMARY KEY, key TEXT NOT NULL, time REAL NOT NULL, value BLOB NOT NULL)"
            )


def _told(layout: Mapping[str, int]) -> str:
    return ", ".join(f"{topic} in {count} partitions" for topic, count in sorted(layout.items()))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_library() -> None:
    """Refuse a SQLite that can lose commits."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < FIRST_SAFE_SQLITE:
        raise LogError(f"SQLite {apsw.sqlite_lib_version()} can lose commits; install apsw 3.51.3 or later")
