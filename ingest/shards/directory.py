"""A directory as a store of shards, on one file system: hard links publish them, which never replace what is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from ingest.errors import ShardGone, StoreRefused, StoreUnavailable
from ingest.log import Log
from ingest.shard_format import BODY
from ingest.shards.names import first_offset_of, in_order, is_shard_name
from ingest.shards.staging import clean_in, stage_in
from ingest.shards.store import Head, StagedShard

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV}


class DirectoryStore:
    """Shards as files below `root`, on one file system (hard links publish them)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.root)!r})"

    def names(self, folder: str, beyond: int = -1) -> list[str]:
        try:
            files = os.listdir(self.root / folder)
        except FileNotFoundError:
            return []
        found = (name for file in files if is_shard_name(name := f"{folder}/{file}"))
        return in_order(name for name in found if first_offset_of(name) > beyond)

    def size(self, name: str) -> int | None:
        try:
            return os.stat(self.root / name).st_size
        except FileNotFoundError:
            return None

    def head(self, name: str) -> Head:
        descriptor = self._opened(name)
        try:
            status = os.fstat(descriptor)
            return Head(_read_fully(descriptor, 0, BODY), status.st_size, status.st_ctime)
        finally:
            os.close(descriptor)

    def read(self, name: str, start: int, size: int) -> bytes:
        descriptor = self._opened(name)
        try:
            return _read_fully(descriptor, start, size)
        finally:
            os.close(descriptor)

    def _opened(self, name: str) -> int:
        try:
            return os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ShardGone(f"{name}: there is no such shard under {self.root}; was it removed?") from None

    def expect(self, names: Iterable[str]) -> None:
        """Nothing to do: shards are read where they are."""

    def stage(self, folder: str) -> StagedShard:
        self._make(self.root / folder)
        return stage_in(self.root / folder, durable=True)

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        try:
            staged.file.flush()
            os.fsync(staged.file.fileno())
            created = self._linked(staged.path, self.root / name)
            self.settle(os.path.dirname(name))
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreRefused(
                    f"{self.root}: its file system has no hard links ({error.strerror}), by which shards are published; "
                    "keep them on another one, or in S3"
                ) from error
            raise StoreUnavailable(f"{self.root}: {name} cannot be published: {error}") from error
        except BaseException:
            staged.discard()
            raise
        staged.discard()
        return created

    def _linked(self, staged: Path, path: Path) -> bool:
        try:
            os.link(staged, path)
        except FileExistsError:
            return os.path.samefile(staged, path)  # of an attempt that failed after this
        return True

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        self.settle(os.path.dirname(name))

    def settle(self, folder: str) -> None:
        path = self.root / folder
        if path.exists():
            _fsync_folder(path)

    def clean(self, folder: str) -> int:
        return clean_in(self.root / folder)

    def beside(self, folder: str) -> DirectoryStore:
        return DirectoryStore(self.root / folder)

    def folders(self, below: str) -> list[str]:
        try:
            with os.scandir(self.root / below) as found:
                return sorted(entry.name for entry in found if entry.is_dir())
        except FileNotFoundError:
            return []

    def for_writing(self, log: Log) -> DirectoryStore:
        return self

    def _make(self, folder: Path) -> None:
        """Create a folder and its parents so that they survive a power cut."""
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _fsync_folder(path.parent)


def _read_fully(descriptor: int, start: int, size: int) -> bytes:
    data = os.pread(descriptor, size, start)
    if len(data) == size or not data:
        return data
    parts = [data]
    have = len(data)
    while have < size and (data := os.pread(descriptor, size - have, start + have)):
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
