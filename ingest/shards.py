"""Where shards live: the contract of a store, and a directory as one.

    {root}/{steps|samples}/{partition}/{first offset, 20 digits}.tar

Exactly-once rests on one operation, `create_if_absent`. There is at most one shard a first offset, its end is fixed by
its summary, so the first offset of the next is fixed: by induction the chain of names has no gap and no overlap,
whoever writes, however often, however late. Nothing is ever renamed into place, since a rename replaces what is there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from ingest.errors import ShardError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<folder>[a-z]+/\d+)/(?P<offset>\d{20})\.tar")
_STRAY_AGE = 60.0
"""Seconds that an unlocked temporary file is left alone: its writer may be about to lock it."""


def chain_folder(topic: str, partition: int) -> str:
    """The folder of one chain of shards."""
    return f"{topic}/{partition}"


def shard_name(topic: str, partition: int, first_offset: int) -> str:
    """The name of the shard that begins at an offset."""
    return f"{topic}/{partition}/{first_offset:020d}.tar"


def first_offset_of(name: str) -> int:
    """The offset at which a shard of this name begins."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ShardError(f"{name!r} is no name of a shard; expected topic/partition/first offset in 20 digits.tar")
    return int(match["offset"])


class ArchiveSettings(BaseModel):
    """Where shards are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["directory"] = "directory"
    folder: Path

    def open(self) -> ShardStore:
        """The store itself: only configuration, nothing is made yet."""
        return DirectoryStore(self.folder)


class StagedShard:
    """A shard in the making: a file that nobody sees until its store takes it."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path

    def discard(self) -> None:
        """Close and forget it; a second time does nothing."""
        self.file.close()
        self.path.unlink(missing_ok=True)


class ShardStore(Protocol):
    """A place where shards live. Only configuration, so it can be pickled."""

    def names(self, folder: str) -> list[str]:
        """The names of all shards of a chain, in order."""
        ...

    def size(self, name: str) -> int | None:
        """The size of a shard in bytes, None where there is none (yet): the cheap way to notice a new one."""
        ...

    def read(self, name: str, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on; raises `ShardError` where there is no such shard."""
        ...

    def stage(self, folder: str) -> StagedShard:
        """A file to write a shard into, then to be given to `create_if_absent` or discarded."""
        ...

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        """Publish it under `name`, whole and durably; False when another shard has the name. It is used up anyway."""
        ...

    def settle(self, folder: str) -> None:
        """Make durable what can be seen in a chain, also where its writer died right after publishing."""
        ...

    def clean(self, folder: str) -> int:
        """Remove what dead writers left staged; return how many."""
        ...


class DirectoryStore:
    """Shards as files below `root`, on one file system (hard links publish them)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.root)!r})"

    def names(self, folder: str) -> list[str]:
        try:
            files = os.listdir(self.root / folder)
        except FileNotFoundError:
            return []
        return sorted(name for file in files if _NAME.fullmatch(name := f"{folder}/{file}"))

    def size(self, name: str) -> int | None:
        try:
            return os.stat(self.root / name).st_size
        except FileNotFoundError:
            return None

    def read(self, name: str, start: int, size: int) -> bytes:
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ShardError(f"{name}: there is no such shard under {self.root}; was it removed?") from None
        try:
            return _read_fully(descriptor, start, size)
        finally:
            os.close(descriptor)

    def stage(self, folder: str) -> StagedShard:
        parent = self.root / folder
        self._make(parent)
        path = parent / f".{os.getpid()}-{os.urandom(6).hex()}.tmp"
        file = open(path, "x+b", buffering=1 << 20)  # noqa: SIM115  # lives as long as the shard is built
        fcntl.flock(file, fcntl.LOCK_EX)  # held until the end of its process, however it ends: see `clean`
        return StagedShard(file, path)

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        created = True
        try:
            staged.file.flush()
            os.fsync(staged.file.fileno())
            try:
                os.link(staged.path, self.root / name)
            except FileExistsError:
                created = False
            self.settle(os.path.dirname(name))
        finally:
            staged.discard()
        return created

    def settle(self, folder: str) -> None:
        path = self.root / folder
        if path.exists():
            _fsync_folder(path)

    def clean(self, folder: str) -> int:
        removed = 0
        for path in (self.root / folder).glob(".*.tmp"):
            try:
                with open(path, "rb") as file:
                    if time.time() - os.fstat(file.fileno()).st_mtime < _STRAY_AGE:
                        continue
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue  # its writer lives, or has just finished
            removed += 1
            logger.info("removed %s, which a writer that died had left", path)
        return removed

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
