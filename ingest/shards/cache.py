"""A folder of copies of remote shards, bounded in bytes, which several processes share.

A copy is written under another name, checked, and takes its own by one rename: it is whole or absent. One process
fetches it while the others that want it wait. Those that were used longest ago go first; whoever reads one at that
moment has it open, and a later look fetches it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ingest.errors import StoreRefused
from ingest.shards.staging import clean_in, stage_in

logger = logging.getLogger(__name__)

_LOCKS = ".locks"
_TOUCH = 30.0
"""Seconds after which the use of a copy is noted again."""


class ShardCache:
    """Copies below `folder`, of `max_bytes` together. Only configuration: may be pickled, and used from any thread."""

    def __init__(self, folder: Path | str, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes

    def find(self, place: str) -> Path | None:
        """The copy called `place` (a relative path), if there is one; notes that it is used."""
        path = self.folder / place
        try:
            status = path.stat()
            if time.time() - status.st_mtime > _TOUCH:
                os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def get(self, place: str, size: int, fetch: Callable[[BinaryIO], None]) -> Path:
        """The copy called `place`, fetched and checked by `fetch` where it is not there; what that raises passes."""
        if (found := self.find(place)) is not None:
            return found
        if size > self.max_bytes:
            raise StoreRefused(
                f"{place}: {size} bytes, but the cache at {self.folder} takes {self.max_bytes}; give it more (cache_bytes)"
            )
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(hashlib.sha256(place.encode()).hexdigest()[:2]):
            if (found := self.find(place)) is not None:
                return found
            with self._locked("room"):
                self._make_room(size)
                staged = stage_in(self.folder, durable=True)
                staged.file.truncate(size)  # so that others count it
            try:
                fetch(staged.file)
                staged.file.flush()
                os.fsync(staged.file.fileno())
                os.rename(staged.path, path)
            finally:
                staged.discard()
        return path

    def keep_only(self, folder: str, names: set[str]) -> None:
        """Remove the copies in a folder, called `name~version`, of other names: those were removed where they came from."""
        for path in (self.folder / folder).glob("*"):
            if path.is_file() and path.name.partition("~")[0] not in names:
                path.unlink(missing_ok=True)
                logger.info("removed the copy %s, as the shard is gone", path)

    def _make_room(self, size: int) -> None:
        clean_in(self.folder)
        files = []
        total = size
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.is_file() and path.parent.name != _LOCKS:
                    total += status.st_size
                    if not path.name.startswith("."):
                        files.append((status.st_mtime, status.st_size, path))
        for _, bytes_of, path in sorted(files):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= bytes_of

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.folder / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
