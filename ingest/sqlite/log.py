"""Where a log lives, as configuration that can be pickled into any process."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ingest.errors import LogError
from ingest.sharing import Alone
from ingest.sqlite.claims import SqliteClaims
from ingest.sqlite.layout import Layout, path_of, told
from ingest.sqlite.reader import SqliteReader, open_read_only
from ingest.sqlite.writer import SqliteWriter, read_state
from ingest.types import ARCHIVER


class SqliteLog(msgspec.Struct, frozen=True):
    """Implements `ingest.log.Log`: a folder with one file for each writer.

    `vfs` names a registered SQLite VFS for the writer, for tests that watch the disk.
    """

    folder: Path
    layout: Layout = msgspec.field(default_factory=Layout)
    vfs: str | None = None

    @property
    def shares(self) -> int:
        """See `Log.shares`: a file has one writer."""
        return 1

    def join(self, name: str, address: str = "") -> Alone:
        """See `Log.join`: nobody else can write."""
        return Alone(self.layout.partitions if name == ARCHIVER else 1)

    def partitions_of(self, share: int) -> tuple[int, ...]:
        """See `Log.partitions_of`."""
        return tuple(range(self.layout.partitions))

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> SqliteWriter:
        """Open the only writer called `name`; raises `LogLocked` while another process has it."""
        if share != 0:
            raise LogError(f"a log in SQLite has the share 0 only, but {share} was asked for")
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
            with told(path):
                return read_state(connection, prefix)
        finally:
            connection.close()
