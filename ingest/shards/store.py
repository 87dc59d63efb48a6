"""The contract of a store of shards.

Exactly-once rests on one operation, `create_if_absent`. There is at most one shard a first offset, its end is fixed by
its summary, so the first offset of the next is fixed: by induction the chain of names has no gap and no overlap,
whoever writes, however often, however late. What replaces a shard is created in the same way, under the name of its
next generation. Nothing is ever renamed into place or overwritten, since that replaces what is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ingest.log import Log
from ingest.shard_format import ShardSummary


class Head(NamedTuple):
    """The first bytes of a shard (its summary's), its size in bytes, and when it was published in Unix seconds.

    `version` tells it from any other that had its name before, in a store that can tell.
    """

    data: bytes
    size: int
    published: float
    version: str = ""


class StagedShard:
    """A shard in the making: a file that nobody sees until its store takes it.

    `durable` says that this very file becomes the shard, so that its bytes are to reach the disk; `summary` is set when
    it is complete.
    """

    def __init__(self, file: BinaryIO, path: Path, *, durable: bool) -> None:
        self.file = file
        self.path = path
        self.durable = durable
        self.summary: ShardSummary | None = None

    def discard(self) -> None:
        """Close and forget it; a second time does nothing."""
        with contextlib.suppress(OSError):  # on a full disk its last bytes cannot be written, nor need they be
            self.file.close()
        self.path.unlink(missing_ok=True)


class ShardStore(Protocol):
    """A place where shards live. Only configuration, so it can be pickled."""

    def names(self, folder: str, beyond: int = -1) -> list[str]:
        """The names in a chain's folder, of all generations, in order; those that begin beyond an offset."""
        ...

    def size(self, name: str) -> int | None:
        """The size of a shard in bytes, None where there is none (yet): the cheap way to notice a new one."""
        ...

    def head(self, name: str) -> Head:
        """How a shard begins, in one look; raises `ShardGone` where there is no such shard."""
        ...

    def read(self, name: str, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on; raises `ShardGone` where there is no such shard."""
        ...

    def expect(self, names: Iterable[str]) -> None:
        """These are wanted soon, in this order; a store may fetch them meanwhile."""
        ...

    def stage(self, folder: str) -> StagedShard:
        """A file to write a shard into, then to be given to `create_if_absent` or discarded."""
        ...

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        """Publish it under `name`, whole and durably; False when another shard has the name.

        It is used up, but where `StoreError` is raised: then this may be tried again. Raises `ShardClaimed` where another
        writer has decided what will stand under this name, and has not published it (yet).
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a shard that is on no chain any more; nothing happens where there is none."""
        ...

    def settle(self, folder: str) -> None:
        """Make durable what can be seen in a chain, also where its writer died right after publishing."""
        ...

    def beside(self, folder: str) -> ShardStore:
        """The archive of its own that lies in a folder of this one; nothing is made yet."""
        ...

    def folders(self, below: str) -> list[str]:
        """The names of the folders right below one, in order."""
        ...

    def for_writing(self, log: Log) -> ShardStore:
        """This store for one that publishes what `log` holds; raises `StoreError` where the promises cannot be kept."""
        ...

    def clean(self, folder: str) -> int:
        """Remove what dead writers left staged; return how many."""
        ...
