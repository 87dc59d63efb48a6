"""The store's file: its tables, its format, and the way from older formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from control.errors import StoreLocked, UnknownFormat
from control.protocol import new_uuid

FORMAT = 3

EVENTS = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The record. AUTOINCREMENT: a sequence number is never used again, whatever is thinned out.
-- thinned: how often a row of metrics was put together from others; span: what it stands for, null where it was not.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  time REAL NOT NULL,
  run TEXT NOT NULL,
  branch TEXT NOT NULL,
  step INTEGER,
  type TEXT NOT NULL,
  level TEXT NOT NULL,
  body TEXT NOT NULL,
  thinned INTEGER NOT NULL DEFAULT 0,
  span TEXT
);
CREATE INDEX events_by_run ON events (run, seq);
CREATE INDEX events_by_type ON events (run, type, seq);
CREATE INDEX events_series ON events (run, branch, seq) WHERE type IN ('metrics', 'evaluation');
CREATE INDEX events_thinned ON events (run, thinned, seq) WHERE type = 'metrics';
CREATE INDEX command_history ON events (json_extract(body, '$.uuid'), seq) WHERE type = 'command';

-- Not in the record: who is connected, how far each instance was heard, what it last said of itself.
CREATE TABLE actors (
  run TEXT NOT NULL,
  actor TEXT NOT NULL,
  kind TEXT NOT NULL,
  instance TEXT NOT NULL,
  stored INTEGER NOT NULL,
  connected INTEGER NOT NULL,
  since REAL NOT NULL,
  commands TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (run, actor)
) WITHOUT ROWID;
"""

SAMPLES = """
-- Not in the record either: pictures of what versions paint, of the newest ones.
CREATE TABLE samples (
  run TEXT NOT NULL,
  version INTEGER NOT NULL,
  place INTEGER NOT NULL,
  label TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  png BLOB NOT NULL,
  PRIMARY KEY (run, version, place)
);
CREATE INDEX samples_by_content ON samples (sha256);
"""

DERIVED = """
CREATE TABLE runs (
  run TEXT PRIMARY KEY,
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  desired TEXT NOT NULL,
  desired_by TEXT NOT NULL,
  desired_at REAL NOT NULL,
  revision INTEGER NOT NULL,
  numbered INTEGER NOT NULL,
  branch TEXT NOT NULL,
  step INTEGER,
  max_steps INTEGER,
  created_at REAL NOT NULL,
  last_event_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE commands (
  uuid TEXT PRIMARY KEY,
  client_uuid TEXT,
  run TEXT NOT NULL,
  number INTEGER NOT NULL,
  received_at REAL NOT NULL,
  first_seq INTEGER NOT NULL,
  outcome TEXT,
  record TEXT NOT NULL
);
CREATE INDEX commands_by_run ON commands (run, number);
CREATE INDEX commands_by_client ON commands (client_uuid, first_seq) WHERE client_uuid IS NOT NULL;
CREATE UNIQUE INDEX commands_by_seq ON commands (first_seq);
CREATE INDEX commands_open ON commands (first_seq) WHERE outcome IS NULL;
CREATE TABLE segments (
  run TEXT NOT NULL,
  segment TEXT NOT NULL,
  branch TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (run, segment)
) WITHOUT ROWID;
CREATE TABLE branches (
  run TEXT NOT NULL,
  branch TEXT NOT NULL,
  step INTEGER,
  PRIMARY KEY (run, branch)
) WITHOUT ROWID;
CREATE TABLE branch_notes (
  run TEXT NOT NULL,
  branch TEXT NOT NULL,
  title TEXT NOT NULL DEFAULT '',
  note TEXT NOT NULL DEFAULT '',
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, branch)
) WITHOUT ROWID;
CREATE TABLE metrics (
  run TEXT NOT NULL,
  name TEXT NOT NULL,
  value REAL,
  step INTEGER,
  time REAL NOT NULL,
  branch TEXT NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE checkpoints (
  run TEXT NOT NULL, uuid TEXT NOT NULL, time REAL NOT NULL, record TEXT NOT NULL, PRIMARY KEY (run, uuid)
) WITHOUT ROWID;
CREATE TABLE versions (
  run TEXT NOT NULL, version INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (run, version)
) WITHOUT ROWID;
CREATE TABLE channels (
  run TEXT NOT NULL,
  channel TEXT NOT NULL,
  version INTEGER NOT NULL,
  time REAL NOT NULL,
  held INTEGER NOT NULL,
  PRIMARY KEY (run, channel)
) WITHOUT ROWID;
CREATE TABLE followers (
  run TEXT NOT NULL, follower TEXT NOT NULL, time REAL NOT NULL, record TEXT NOT NULL, PRIMARY KEY (run, follower)
) WITHOUT ROWID;
"""

DERIVED_TABLES = (
    "runs", "commands", "segments", "branches", "branch_notes", "metrics", "checkpoints", "versions", "channels",
    "followers",
)  # fmt: skip
"""Everything here can be made again from the events: see `Store.rebuild`."""


def _branch_notes(connection: apsw.Connection) -> None:
    connection.execute(
        "CREATE TABLE branch_notes (run TEXT NOT NULL, branch TEXT NOT NULL, title TEXT NOT NULL DEFAULT '', "
        "note TEXT NOT NULL DEFAULT '', deleted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, branch)) WITHOUT ROWID"
    )


def _samples(connection: apsw.Connection) -> None:
    connection.execute(SAMPLES)


MIGRATIONS: dict[int, Callable[[apsw.Connection], None]] = {1: _branch_notes, 2: _samples}
"""By format: what turns a store of that format into one of the next."""


def open_writer(path: Path) -> apsw.Connection:
    """Open the store to write, made where there is none and brought up to date. Raises StoreLocked or UnknownFormat.

    The connection holds the file's write lock for a moment only; that one process writes is the role's own lock's work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(2000)
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL")
        connection.pragma("journal_size_limit", 64 << 20)
        with connection:
            _bring_up_to_date(connection, path)
    except apsw.BusyError as error:
        connection.close()
        raise StoreLocked(
            f"{path}: another process is writing it; stop that one, or give this server its own folder"
        ) from error
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open the store to read only. Use from one thread at a time; hold no transaction between calls."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(2000)
    return connection


def store_format(connection: apsw.Connection) -> int:
    """The format of the file, 0 for an empty one."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    if not found:
        return 0
    return int(connection.execute("SELECT value FROM meta WHERE key = 'format'").get)


def _bring_up_to_date(connection: apsw.Connection, path: Path) -> None:
    found = store_format(connection)
    if found == 0:
        connection.execute(EVENTS)
        connection.execute(SAMPLES)
        connection.execute(DERIVED)
        connection.execute("INSERT INTO meta VALUES ('format', ?), ('store', ?)", (str(FORMAT), new_uuid()))
        return
    while found < FORMAT and found in MIGRATIONS:
        MIGRATIONS[found](connection)
        found += 1
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(found),))
    if found != FORMAT:
        raise UnknownFormat(
            f"{path}: format {found} is not known here, only up to {FORMAT}; use the version that wrote it"
        )
