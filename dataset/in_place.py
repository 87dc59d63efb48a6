"""Samples of tars read in place: each from one stretch of a file, as the index of its tar tells.

Headers were checked when the tar was indexed, so here they are only followed. A small stretch is read at once; of a large
one the headers are, and each large member by itself, so that its bytes are copied by nobody but the kernel.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from dataset.errors import SourceError
from dataset.tar import BLOCK, LONG_NAME, PAX, REGULAR, Stretch, identity, name_in, opened, pax_path, size_in

OPEN = 64
"""Files that one `Files` keeps open, at most."""
OPEN_TOGETHER = 256
"""The same of all in a process, but for one each: a process may have 1024 files open, where nobody said otherwise."""
Known: TypeAlias = tuple[int, int, int, int]
"""Which file it is, see `identity`."""
_AT_ONCE = 1 << 15
_HEADERS = 1 << 12


class Files:
    """Reads samples from files, of which the last few that were read stay open."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Known], int] = {}
        _tables[id(self._open)] = self._open
        self._closed = weakref.finalize(self, _end, self._open)

    def read(self, stretches: Sequence[Stretch]) -> list[tuple[str, dict[str, bytes]]]:
        """Of each sample its key, and its members by extension.

        Raises `SourceError` where a file is not the same any more: it was changed, replaced or removed.
        """
        samples, same = [], set[tuple[str, Known]]()
        for path, start, size, known in stretches:
            which = (path, known)
            file = self._open.get(which)
            if file is None:
                file = self._opened(which)
            if which not in same:
                self._look_at(which)
                same.add(which)
            head = os.pread(file, size if size <= _AT_ONCE else _HEADERS, start)
            samples.append(sample_in(head, size, path, partial(_read, file, start)))
        return samples

    def close(self) -> None:
        """Close all; the next sample that is read opens them again."""
        _close_all(self._open)

    def _opened(self, which: tuple[str, Known]) -> int:
        if self._open and (len(self._open) >= OPEN or sum(map(len, list(_tables.values()))) >= OPEN_TOGETHER):
            self._forget(next(iter(self._open)))
        file = self._open[which] = opened(which[0])  # before its name is looked at
        return file

    def _look_at(self, which: tuple[str, Known]) -> None:
        """Raise `SourceError` unless the file is as it was, also where only its name belongs to another one now."""
        path, known = which
        try:
            same = identity(os.stat(path)) == known
        except OSError as error:
            self._forget(which)
            raise SourceError(f"{path}: cannot be opened ({error.strerror})") from error
        if not same:
            self._forget(which)
            raise SourceError(
                f"{path}: it was changed or replaced while it is read; publish shards whole, under new names"
            )

    def _forget(self, which: tuple[str, Known]) -> None:
        os.close(self._open.pop(which))


def _read(file: int, start: int, at: int, count: int) -> bytes:
    return os.pread(file, count, start + at)


def sample_in(
    head: bytes, size: int, path: str, read: Callable[[int, int], bytes] | None = None
) -> tuple[str, dict[str, bytes]]:
    """The key of the sample whose members are `size` bytes that begin with `head`, and its members by extension.

    `read` gives so many bytes from a place on; it may be left out where `head` is all. Raises `SourceError` where a member
    goes beyond the end.
    """
    key, contents, long_name = "", dict[str, bytes](), None
    position, first, end = 0, 0, len(head)  # `head` holds the bytes from `first` up to `end`
    while position < size:
        content = position + BLOCK
        if content > end and read is not None:
            head, first = read(position, min(_HEADERS, size - position)), position
            end = first + len(head)
        at = position - first
        length = size_in(head[at + 124 : at + 136]) if content <= end else size
        behind = content + length
        position = behind + -length % BLOCK
        if position > size:
            raise _torn(path)
        data = head[content - first : behind - first] if behind <= end or read is None else read(content, length)
        if len(data) != length:
            raise _torn(path)
        kind = head[at + 156]
        if kind in REGULAR:
            name = long_name or name_in(head, at)
            # all have the same key, or they would not lie together
            key = key or name[: name.index(".", name.rfind("/") + 1)]
            contents[name[len(key) + 1 :].lower()] = data
            long_name = None
        elif kind == PAX:
            long_name = pax_path(data) or long_name
        else:
            long_name = data.rstrip(b"\0").decode() if kind == LONG_NAME else None
    return key, contents


# of all `Files`; each closes none but its own, as the others may be read by other threads
_tables: dict[int, dict[tuple[str, Known], int]] = {}


def _close_all(files: dict[tuple[str, Known], int]) -> None:
    while files:
        os.close(files.popitem()[1])


def _end(files: dict[tuple[str, Known], int]) -> None:
    _close_all(files)
    del _tables[id(files)]


def _torn(path: str) -> SourceError:
    return SourceError(f"{path}: it is torn: a member goes beyond its end; restore the whole file")
