"""A board that one process writes and others read: the newest notice reaches processes that were started before it.

A small file in memory, mapped by all, with two slots: a notice is written into the slot that does not hold the newest
one, with a checksum, so that a reader finds a whole one at any time, also where the writer died while it wrote. The
file has no name: it goes with a fork, and is handed over where a process is started otherwise.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
import zlib
from multiprocessing.reduction import DupFd
from typing import Any

from dataset.errors import StateError
from dataset.ring import unnamed_file

SLOT = 1 << 16
"""Bytes of a notice, at most, with its head."""
ANNEX = 8 << 20
"""Bytes of what is too large for a notice; memory is taken only for what is written."""
_SEQUENCE = struct.Struct("<Q")
_HEAD = struct.Struct("<QII")  # number of the notice, its length, its CRC-32
_START = 64
_SIZE = _START + 2 * SLOT + ANNEX


class Board:
    """The newest notice, and an annex to it."""

    def __init__(self, file: int | None = None) -> None:
        self._file = unnamed_file(_SIZE) if file is None else file
        weakref.finalize(self, os.close, self._file)
        self._memory = mmap.mmap(self._file, _SIZE)
        self._written = self._seen = 0

    def __reduce__(self) -> Any:
        return _attached, (DupFd(self._file),)

    def write(self, notice: bytes) -> None:
        """Replace the notice. From one process only."""
        if len(notice) > SLOT - _HEAD.size:
            raise StateError(
                f"a notice for worker processes has {len(notice)} bytes, but {SLOT - _HEAD.size} fit; "
                "give the sources shorter names, or read with num_workers=0"
            )
        self._written += 1
        _put(self._memory, _START + self._written % 2 * SLOT, self._written, notice)
        _SEQUENCE.pack_into(self._memory, 0, self._written)

    def write_annex(self, data: bytes) -> bool:
        """Replace the annex, before the notice that tells of it; False where it is too large, and it is left out."""
        fits = len(data) <= ANNEX - _HEAD.size
        _put(self._memory, _START + 2 * SLOT, 0, data if fits else b"")
        return fits

    def news(self) -> bytes | None:
        """The notice, if it is another one than at the last look; some 0.2 us where it is not."""
        if _SEQUENCE.unpack_from(self._memory, 0)[0] == self._seen:
            return None
        found = [each for slot in (0, 1) if (each := _get(self._memory, _START + slot * SLOT, SLOT)) is not None]
        number, notice = max(found, default=(0, b""))
        if number <= self._seen:  # it is being written
            return None
        self._seen = number
        return notice

    def annex(self) -> bytes | None:
        """The annex; None where it is not whole."""
        found = _get(self._memory, _START + 2 * SLOT, ANNEX)
        return None if found is None else found[1]


def _put(memory: mmap.mmap, at: int, number: int, data: bytes) -> None:
    _HEAD.pack_into(memory, at, 0, 0, 0)  # not whole until the end
    memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
    _HEAD.pack_into(memory, at, number, len(data), zlib.crc32(data))


def _get(memory: mmap.mmap, at: int, most: int) -> tuple[int, bytes] | None:
    number, length, checksum = _HEAD.unpack_from(memory, at)
    if length > most - _HEAD.size:
        return None
    data = memory[at + _HEAD.size : at + _HEAD.size + length]
    return (number, data) if zlib.crc32(data) == checksum else None


def _attached(file: Any) -> Board:
    return Board(file.detach())
