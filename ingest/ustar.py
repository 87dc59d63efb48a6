"""The tar files that apps post: POSIX ustar, read strictly, without `tarfile` (which takes some 40 us a member).

Only regular files in the top folder are taken. pax headers are passed over, for webdataset writes one before each
member for its fractional mtime, unless they would change a name or a size. Links, folders, devices, sparse files, long
GNU names, other number encodings, a wrong checksum and a missing end are refused: a tar that was cut between two
members looks whole otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast
from zlib import adler32

from ingest.errors import InvalidBody
from ingest.shard_format import BLOCK, END, member_header, padding

EXTENSION = re.compile(r"(?=.{1,32}$)[a-z0-9]+(?:[._-][a-z0-9]+)*")
"""What a step's member may be called: what webdataset reads back under the same name."""
REGULAR = (b"0", b"\0")
PAX = b"x"
MAX_PAX_BYTES = 16 << 10
MAX_PADDING = 64 << 10
"""Bytes of zeros after the last member; `tar` fills up to 10 KiB."""
HARMLESS_PAX = (b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment")

_BLANK_CHECKSUM = 8 * ord(" ")


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    content: bytes


def archive(files: Iterable[Member]) -> bytes:
    """A tar of `files`, the same bytes for the same files."""
    parts: list[bytes] = []
    for name, content in files:
        parts += (member_header(name, len(content)), content, padding(len(content)))
    return b"".join((*parts, END))


def archived_size(content: int) -> int:
    """How many bytes a member of `content` bytes takes in a tar."""
    return BLOCK + content + (-content % BLOCK)


def members(data: bytes | bytearray, max_members: int) -> Iterator[Member]:
    """The files in `data`, in order; raises `InvalidBody` at the first thing that is not as it should be.

    Contents are views of `data`, not copies: they are hashed and encoded like bytes, which is all that a step needs.
    """
    view, length = memoryview(data).toreadonly(), len(data)
    position = count = 0
    while True:
        header = bytes(view[position : position + BLOCK])
        if len(header) < BLOCK:
            raise _invalid(position, "truncated-tar", "the archive ends without its two empty blocks")
        if header[0] == 0 and not any(header):
            _check_end(bytes(view[position:]), position)
            return
        name, kind, size = _header(header, position)
        start = position + BLOCK
        if start + size > length:
            raise _invalid(
                position, "truncated-tar", f"the member {name!r} has {size} bytes, but the archive ends before"
            )
        if kind == PAX:
            _check_pax(bytes(view[start : start + size]), position)
        else:
            count += 1
            if count > max_members:
                raise _invalid(position, "too-many-members", f"more than {max_members} members")
            yield Member(name, cast(bytes, view[start : start + size]))
        position = start + size + (-size % BLOCK)


class TarStream:
    """The same for a tar that comes in pieces, of which no more than one member is held at a time."""

    def __init__(self, max_member_bytes: int) -> None:
        self._max_member_bytes = max_member_bytes
        self._buffer = bytearray()
        self._zeros, self._ended = 0, False
        self.position = 0
        """Bytes of the tar up to the end of the last member."""

    def feed(self, data: bytes) -> Iterator[Member]:
        """The members that `data` completes."""
        self._buffer += data
        while not self._ended and len(self._buffer) >= BLOCK:
            if not any(self._buffer[:BLOCK]):
                self._ended = True
                break
            name, kind, size = _header(bytes(self._buffer[:BLOCK]), self.position)
            if size > self._max_member_bytes:
                rule = f"the member {name!r} has {size} bytes, more than {self._max_member_bytes}"
                raise _invalid(self.position, "member-too-large", rule)
            whole = archived_size(size)
            if len(self._buffer) < whole:
                return
            content = bytes(self._buffer[BLOCK : BLOCK + size])
            del self._buffer[:whole]
            if kind == PAX:
                _check_pax(content, self.position)
            self.position += whole
            if kind != PAX:
                yield Member(name, content)
        if self._ended:
            self._check_padding()

    def finish(self) -> None:
        """Nothing more comes; raises `InvalidBody` if the tar is not whole."""
        if self._zeros < len(END):
            raise _invalid(self.position, "truncated-tar", "the archive ends without its two empty blocks")

    def _check_padding(self) -> None:
        self._zeros += len(self._buffer)
        if any(self._buffer) or self._zeros > MAX_PADDING:
            raise _invalid(self.position, "not-a-tar", "something follows the end of the archive")
        self._buffer.clear()


def _header(header: bytes, position: int) -> tuple[str, bytes, int]:
    checksum = header[148:156]
    stated = _octal(checksum, position, "checksum")
    if _sum(header[:256]) + _sum(header[256:]) - sum(checksum) + _BLANK_CHECKSUM != stated:
        raise _invalid(position, "not-a-tar", "a member's header has a wrong checksum")
    if header[257:262] != b"ustar":
        raise _invalid(position, "not-ustar", "a member's header is not of the ustar format")
    if header[345] != 0 and header[257:263] == b"ustar\0":
        raise _invalid(position, "unsafe-name", "members lie in the top folder, but a name has a prefix")
    kind = header[156:157]
    if kind not in REGULAR and kind != PAX:
        raise _invalid(position, "unsafe-member", f"a member of type {kind!r}; only regular files are taken")
    size = _octal(header[124:136], position, "size")
    if kind == PAX and size > MAX_PAX_BYTES:
        raise _invalid(position, "unsafe-member", f"a pax header of {size} bytes, more than {MAX_PAX_BYTES}")
    try:
        name = header[:100].partition(b"\0")[0].decode("ascii")
    except UnicodeDecodeError:
        raise _invalid(position, "unsafe-name", "a member's name is not ASCII") from None
    return name, kind, size


def _sum(data: bytes) -> int:
    """The sum of at most 256 bytes: the lower half of Adler-32, a tenth of the time that `sum` takes."""
    return adler32(data, 0) & 0xFFFF


def _octal(field: bytes, position: int, what: str) -> int:
    digits = field.strip(b" \0")
    try:
        if digits.isdigit():  # else int takes signs and underscores, too
            return int(digits, 8)
    except ValueError:
        pass
    raise _invalid(position, "not-a-tar", f"the {what} of a member is not an octal number")


def _check_pax(records: bytes, position: int) -> None:
    while records:
        length = records.partition(b" ")[0]
        if not length.isdigit() or len(length) > 5 or not len(length) + 1 < int(length) <= len(records):
            raise _invalid(position, "not-a-tar", "a pax header that cannot be read")
        record, records = records[: int(length)], records[int(length) :]
        keyword = record[len(length) + 1 :].partition(b"=")[0]
        if keyword not in HARMLESS_PAX:
            raise _invalid(position, "unsafe-member", f"a pax header sets {keyword[:40]!r}; write plain ustar")


def _check_end(data: bytes, position: int) -> None:
    if len(data) < len(END):
        raise _invalid(position, "truncated-tar", "the archive ends without its two empty blocks")
    if data.count(0) != len(data):
        raise _invalid(position, "not-a-tar", "something follows the end of the archive")


def _invalid(position: int, code: str, detail: str) -> InvalidBody:
    return InvalidBody("", code, f"{detail} (at byte {position})")
