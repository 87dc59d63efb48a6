"""The index of a WebDataset tar: where each of its samples lies.

Reads uncompressed ustar, GNU and PAX archives. Grouping is webdataset's: members in a row whose names agree up to the
first dot of the last part are one sample; names with a part `__…__`, links and folders are not read.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset.errors import SourceError
from ingest import ShardError
from ingest.shard_format import BODY, SUMMARY_NAME, decode_summary

BLOCK = 512
_END = bytes(2 * BLOCK)
REGULAR, LONG_NAME, PAX = (ord("0"), 0, ord("7")), ord("L"), ord("x")
"""Kinds of members: files, and GNU's and POSIX's way of giving a name to the member after them."""
_USTAR = b"ustar\0"
_SPLIT = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
_HIDDEN = re.compile(r"(?:^|/)__[^/]*__(?:/|$)")


class Member(NamedTuple):
    """A regular file in a tar: its (first) header is at `start`, its content at `data`, the next header at `end`."""

    name: str
    start: int
    data: int
    size: int
    end: int


class Stretch(NamedTuple):
    """Where the members of one sample lie in a file, and which file it was when it was indexed."""

    path: str
    start: int
    size: int
    identity: tuple[int, int, int, int]


class TarShard:
    """One tar, indexed when it is made: refused, by name, if it is torn or not what its summary says."""

    def __init__(self, path: Path) -> None:
        self.path, self._name = path, str(path)
        file = opened(self._name)
        try:
            self._identity = identity(os.fstat(file))
            self._starts, self._sizes = self._indexed(file)
        finally:
            os.close(file)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._starts)

    def stretch(self, number: int) -> Stretch:
        """Where a sample lies."""
        return Stretch(self._name, int(self._starts[number]), int(self._sizes[number]), self._identity)

    def _indexed(self, file: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if os.fstat(file).st_size == 0:
            raise SourceError(f"{self.path}: it is empty, not a tar; is it still being written?")
        starts: list[int] = []
        ends: list[int] = []
        last = None
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
            if data[:2] == b"\x1f\x8b":
                raise SourceError(
                    f"{self.path}: it is compressed, so samples cannot be read in place; unpack it (gunzip)"
                )
            _verify(data, self.path)
            for member in members(data, self.path):
                key, _ = _split(member.name) or (None, None)
                if key is not None and key == last:
                    ends[-1] = member.end
                elif key is not None:
                    starts.append(member.start)
                    ends.append(member.end)
                last = key
        begins = np.array(starts, dtype=np.int64)
        return begins, np.array(ends, dtype=np.int64) - begins


def members(data: mmap.mmap, path: Path) -> Iterator[Member]:
    """The regular files in a tar, in order."""
    position, start, long_name = 0, 0, None
    while position < len(data):
        if not data[position] and data[position : position + 2 * BLOCK] == _END:
            return
        _check(data[position : position + BLOCK], path, position)
        kind, size = data[position + 156], size_in(data[position + 124 : position + 136])
        content = position + BLOCK
        end = content + size + (-size % BLOCK)
        if end > len(data):
            raise SourceError(
                f"{path}: it is torn: a member at byte {position} goes beyond its end; restore the whole file"
            )
        if kind == LONG_NAME:
            long_name = data[content : content + size].rstrip(b"\0").decode()
        elif kind == PAX:
            long_name = pax_path(data[content : content + size]) or long_name
        else:
            if kind in REGULAR:
                yield Member(long_name or name_in(data, position), start, content, size, end)
            start, long_name = end, None
        position = end


def _verify(data: mmap.mmap, path: Path) -> None:
    """Refuse a tar that was cut, which reads short without an error, and a shard of ours that is not as it was made."""
    # every writer ends with two empty blocks; one that was cut between two members lacks them
    if data[-2 * BLOCK :] != _END:
        raise SourceError(f"{path}: it is torn: the two empty blocks at its end are missing; restore the whole file")
    if not data[:BLOCK].startswith(SUMMARY_NAME.encode() + b"\0"):
        return
    try:
        summary = decode_summary(str(path), data[:BODY])
    except ShardError as error:
        raise SourceError(str(error)) from error
    digest = hashlib.sha256(memoryview(data)[BODY:]).hexdigest()
    if len(data) != summary.length or digest != summary.sha256:
        raise SourceError(
            f"{path}: {len(data)} bytes with sha256 {digest}, but its summary says {summary.length} and "
            f"{summary.sha256}; restore it from a copy"
        )


def _split(name: str) -> tuple[str, str] | None:
    """The key and the extension of a member; None where webdataset does not read it."""
    match = None if _HIDDEN.search(name) else _SPLIT.fullmatch(name)
    return None if match is None else (match[1], match[2].lower())


def name_in(data: bytes | mmap.mmap, header: int) -> str:
    """The name that the header at a place tells."""
    end = data.find(b"\0", header, header + 100)
    own = data[header : end if end >= 0 else header + 100].decode(errors="surrogateescape")
    if data[header + 345] and data[header + 257 : header + 263] == _USTAR:
        prefix = data[header + 345 : header + 500].partition(b"\0")[0]
        return f"{prefix.decode(errors='surrogateescape')}/{own}"
    return own


def _check(header: bytes, path: Path | str, position: int) -> None:
    """Raise `SourceError` unless this is the header of a member: its checksum counts itself as spaces."""
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    try:
        whole = len(header) == BLOCK and int(header[148:156].rstrip(b" \0"), 8) == total
    except ValueError:
        whole = False
    if not whole:
        raise SourceError(f"{path}: no tar header at byte {position}; it is damaged or not a tar")


def opened(path: str) -> int:
    """The descriptor of a file, to read. Raises `SourceError`."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror})") from error


def identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """Tells a file from one that took its place, and from what it was before it was changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def size_in(digits: bytes) -> int:
    """The number in the size field of a header."""
    if digits[0] & 0x80:  # GNU's base 256, for 8 GiB and more
        return int.from_bytes(digits[1:])
    return int(digits.rstrip(b" \0") or b"0", 8)


def pax_path(records: bytes) -> str | None:
    """The `path` of a PAX header (POSIX.1-2001: "length key=value\\n")."""
    while b" path=" in records:
        length, _, rest = records.partition(b" ")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path":
            return value.decode()
        records = records[int(length) :]
    return None
