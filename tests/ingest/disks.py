"""Disks that can be watched, and that fail when told to: a SQLite VFS between the log's writer and the real one."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import apsw

_numbers = itertools.count()


class Disk(apsw.VFS):
    """Records writes and syncs in the order in which they happen.

    `full` refuses writes, `failing` refuses syncs, `sync_seconds` slows them; `syncing` is set while one is under way.
    """

    def __init__(self) -> None:
        self.name = f"disk{next(_numbers)}"
        self.events: list[tuple[str, str]] = []
        self.full = self.failing = False
        self.sync_seconds = 0.0
        self.syncing = threading.Event()
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> DiskFile:  # noqa: N802  (SQLite's name)
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    """A file of a `Disk`."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk, self.name = disk, Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        if self.disk.full:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)
        self.disk.events.append(("write", self.name))

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.disk.failing:
            raise apsw.IOError("the disk is gone")
        self.disk.syncing.set()
        time.sleep(self.disk.sync_seconds)  # a slow disk, not a wait for something
        super().xSync(flags)
        self.disk.syncing.clear()
        self.disk.events.append(("sync", self.name))
