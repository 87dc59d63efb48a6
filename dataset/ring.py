"""A stretch of shared memory through which one process sends bytes to another: its size is what may lie in it.

It has no name, so that nothing is left behind whoever dies: its descriptor is handed to the process that is started.
(Segments of `multiprocessing.shared_memory` are unlinked when any process that attached to one exits, up to Python
3.12: https://github.com/python/cpython/issues/82300.)
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.reduction import DupFd
from typing import Any

_HEADER = 64
_PAUSE = 0.0005


def unnamed_file(size: int) -> int:
    """The descriptor of a file in memory (or in the folder for temporary files) that has no name."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("stovetop", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    os.ftruncate(file, size)
    return file


class Ring:
    """Bytes from one writer to one reader, first in, first out. Pickled only while a process is started."""

    def __init__(self, size: int, file: int | None = None) -> None:
        self.size = size
        self._file = unnamed_file(_HEADER + size) if file is None else file
        self._memory = mmap.mmap(self._file, _HEADER + size)
        self._counters = memoryview(self._memory)[:8].cast("Q")  # bytes that were read so far
        self._data = memoryview(self._memory)[_HEADER:]
        self._at = 0

    def __reduce__(self) -> Any:
        return _attached, (self.size, DupFd(self._file))

    def write(self, pieces: Iterable[bytes | memoryview], announce: Callable[[int], None]) -> None:
        """Write pieces as room comes free; `announce` tells the reader of bytes that are there."""
        told = self._at
        for piece in pieces:
            view = memoryview(piece).cast("B")
            while view:
                room = self.size - (self._at - self._counters[0])
                if room:
                    place = self._at % self.size
                    count = min(room, len(view), self.size - place)
                    self._data[place : place + count] = view[:count]
                    self._at += count
                    view = view[count:]
                elif self._at > told:  # the reader makes room once it knows of what is there
                    announce(self._at - told)
                    told = self._at
                else:
                    time.sleep(_PAUSE)
        announce(self._at - told)

    def read_into(self, target: memoryview) -> None:
        """Fill `target` with bytes that were announced, and make room."""
        done = 0
        while done < len(target):
            place = self._at % self.size
            count = min(len(target) - done, self.size - place)
            target[done : done + count] = self._data[place : place + count]
            self._at += count
            done += count
        self._counters[0] = self._at

    def handed_over(self) -> None:
        """The other process has it: the descriptor is not needed any more."""
        os.close(self._file)

    def close(self) -> None:
        """Let go of the memory."""
        self._counters.release()
        self._data.release()
        self._memory.close()


def _attached(size: int, file: Any) -> Ring:
    ring = Ring(size, file.detach())
    ring.handed_over()
    return ring
