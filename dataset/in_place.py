"""Samples of tars read in place: each from one stretch of a file, as the index of its tar tells.

Headers were checked when the tar was indexed, so here they are only followed. A small stretch is read at once; of a large
one the headers are, and each large member by itself, so that its bytes are copied by nobody but the kernel.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TypeAlias

from dataset.errors import SourceError
from dataset.tar import BLOCK, LONG_NAME, PAX, REGULAR, Stretch, identity, name_in, opened, pax_path, size_in

OPEN = 64
"""Files that stay open, at most."""
Known: TypeAlias = tuple[int, int, int, int]
"""Which file it is, see `identity`."""
_AT_ONCE = 1 << 15
_HEADERS = 1 << 12


class Files:
    """Reads samples from files, of which the last few that were read stay open."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Known], int] = {}
        self._closed = weakref.finalize(self, _close_all, self._open)

    def read(self, stretch: Stretch) -> tuple[str, dict[str, bytes]]:
        """The key of a sample and its members by extension.

        Raises `SourceError` where the file is not the same any more: it was changed, replaced or removed.
        """
        path, start, size, known = stretch
        file = self._open.get((path, known))
        if file is None:
            file = self._opened(path, known)
        if _identity_of(path) != known:  # also where the file that is open has only lost its name
            self._forget((path, known))
            raise SourceError(
                f"{path}: it was changed or replaced while it is read; publish shards whole, under new names"
            )
        head = os.pread(file, size if size <= _AT_ONCE else _HEADERS, start)
        return sample_in(head, size, path, lambda at, count: os.pread(file, count, start + at))

    def close(self) -> None:
        """Close all; the next sample that is read opens them again."""
        _close_all(self._open)

    def _opened(self, path: str, known: Known) -> int:
        if len(self._open) >= OPEN:
            self._forget(next(iter(self._open)))
        file = self._open[path, known] = opened(path)  # before its name is looked at
        return file

    def _forget(self, which: tuple[str, Known]) -> None:
        os.close(self._open.pop(which))


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
        if position + BLOCK > end and read is not None:
            head, first = read(position, min(_HEADERS, size - position)), position
            end = first + len(head)
        at = position - first
        if position + BLOCK > end:
            raise _torn(path)
        kind, length = head[at + 156], size_in(head[at + 124 : at + 136])
        content = position + BLOCK
        position = content + length + (-length % BLOCK)
        if position > size:
            raise _torn(path)
        if content + length <= end:
            data = head[content - first : content - first + length]
        elif read is not None:
            data = read(content, length)
        else:
            raise _torn(path)
        if len(data) != length:
            raise _torn(path)
        if kind in REGULAR:
            name = long_name or name_in(head, at)
            key = (
                key or name[: name.index(".", name.rfind("/") + 1)]
            )  # all have the same, or they would not lie together
            contents[name[len(key) + 1 :].lower()] = data
            long_name = None
        elif kind == LONG_NAME:
            long_name = data.rstrip(b"\0").decode()
        elif kind == PAX:
            long_name = pax_path(data) or long_name
        else:
            long_name = None
    return key, contents


def _identity_of(path: str) -> Known:
    try:
        return identity(os.stat(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror})") from error


def _close_all(files: dict[tuple[str, Known], int]) -> None:
    while files:
        os.close(files.popitem()[1])


def _torn(path: str) -> SourceError:
    return SourceError(f"{path}: it is torn: a member goes beyond its end; restore the whole file")
