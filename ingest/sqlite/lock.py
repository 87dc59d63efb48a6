"""The lock that keeps a log's file to one writer."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from ingest.errors import LogLocked

_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


class WriterLock:
    """An flock on a file of its own, held until `release` or the end of the process, however it ends.

    The file beside the log's holds the owner's process id, for people; it stays behind, which means nothing.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise LogLocked(f"{path.stem} is being written by process {owner}; stop that one first") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Let the next writer in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _forget() -> None:
    # A forked child shares the lock for as long as it keeps the descriptor: it would outlive the writer.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget)
