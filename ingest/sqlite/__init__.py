"""The log on one machine: SQLite files in WAL mode, one for each writing process.

It promises what `ingest.log` asks for: a commit is atomic and fsynced before it returns (`synchronous=FULL`), offsets
are never used twice, a second writer is refused, readers of other processes see news within milliseconds and hold
nothing back between calls. Open writers and readers after a fork, never before: SQLite's locks do not survive one.
"""

from ingest.sqlite.layout import Layout
from ingest.sqlite.log import SqliteLog
from ingest.sqlite.reader import SqliteReader
from ingest.sqlite.writer import SqliteWriter

__all__ = ["Layout", "SqliteLog", "SqliteReader", "SqliteWriter"]
