"""Where a log lives, as configuration that can be pickled into any process."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ingest.sqlite.claims import SqliteClaims
from ingest.sqlite.layout import Layout, path_of
from ingest.sqlite.reader import SqliteReader, open_read_only
from ingest.sqlite.writer import SqliteWriter, read_state


class SqliteLog(msgspec.Struct, frozen=True):
    """Implements `ingest.log.Log`: a folder with one file for each writer.

    `vfs` names a registered SQLite VFS for the writer, for tests that watch the disk.
    """

    folder: Path
    layout: Layout = msgspec.field(default_factory=Layout)
    vfs: str | None = None

    def writer(self, name: str) -> SqliteWriter:
        """Open the only writer called `name`; raises `LogLocked` while another process has it."""
        return SqliteWriter(self.folder, self.layout, name, self.vfs)

    def reader(self) -> SqliteReader:
        """Open a reader; the files need not exist yet."""
        return SqliteReader(self.folder, self.layout)

    def claims(self) -> SqliteClaims:
        """Open what decides for stores of shards that cannot (see `ingest.claims`)."""
        return SqliteClaims(self.folder)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        """The committed state of the writer `name`; nothing while its file was not made yet."""
        self.layout.topics(name)
        path = path_of(self.folder, name)
        if not path.exists():
            return {}
        connection = open_read_only(path, self.layout, name)
        try:
            return read_state(connection, prefix)
        finally:
            connection.close()
