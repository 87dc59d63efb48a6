"""The bytes of a shard: a ustar archive whose summary comes first and whose index comes last.

    member                      holds
    __stovetop__/shard.json     `ShardSummary`, padded with spaces to 1 KiB, so that it can be filled in at the end
    {key}.{extension} …         the entries, in order of (offset, index): what webdataset reads
    __stovetop__/index          one fixed-width `Row` an entry, then the model versions as a JSON list
                                (format 2: of some samples [version, traceparent] instead)
    (1,024 zero bytes)          the end of the archive

Names that begin with `__word__/` are skipped by webdataset. Everything after the summary is written once and never
touched again, the modification time of every member is 0, and so the same records give the same bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ingest.errors import ShardError

FORMAT = 1
TRACED = 2
"""The format of a shard of which some samples have a trace: its list of versions tells those too."""
BLOCK = 512
END = bytes(2 * BLOCK)
SUMMARY_NAME = "__stovetop__/shard.json"
SUMMARY_SIZE = 1024
BODY = BLOCK + SUMMARY_SIZE
"""Where the bytes begin that the summary's sha256 covers."""
INDEX_NAME = "__stovetop__/index"

EXTENSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a member's extension must be: webdataset lowers the case of longer names and hides those with `__`."""


class ShardSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard says of itself. Its records are those of [first_offset, next_offset), gaps included.

    `count` is the number of samples that webdataset reads from it, `rows` that of the index (steps shards also hold
    the opening and end of sessions). Times are those of the records, in Unix seconds; `sha256` covers every byte from
    `BODY` on, and `length` is that of the whole file.
    """

    format: int = FORMAT
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    count: int
    rows: int
    oldest_time: float
    newest_time: float
    index_position: int
    length: int
    sha256: str


class Row(NamedTuple):
    """One entry's line in the index; `position` and `size` span its members with their headers and padding."""

    offset: int
    number: int  # its index in the record
    position: int
    size: int
    time: float
    crc32c: int
    version: int


ROW = struct.Struct("<qqqqdII")
"""offset, index, position, size, time, crc32c, version (a place in the versions; the first is None)."""

Made = tuple[str | None, str | None]
"""By which model version a sample was seen, and in which trace (W3C) its step came in."""
Version = str | None | Made
"""An item of the index's list: a version alone where there is no trace."""


def told(made: Made) -> Version:
    """As it stands in the list."""
    version, trace = made
    return version if trace is None else made


def made_of(told: Version) -> Made:
    """The inverse."""
    return told if isinstance(told, tuple) else (told, None)


def encode_summary(summary: ShardSummary) -> bytes:
    """The first member, header and all: always `BODY` bytes."""
    text = msgspec.json.encode(summary)
    if len(text) > SUMMARY_SIZE:
        raise ShardError(
            f"the summary of {summary.topic}/{summary.partition} takes {len(text)} of {SUMMARY_SIZE} bytes"
        )
    return member_header(SUMMARY_NAME, SUMMARY_SIZE) + text.ljust(SUMMARY_SIZE)


class _Format(msgspec.Struct):
    format: int


_formats, _summaries = msgspec.json.Decoder(_Format), msgspec.json.Decoder(ShardSummary)


def decode_summary(name: str, head: bytes) -> ShardSummary:
    """The summary in the first `BODY` bytes of a shard; raises `ShardError`, naming the shard, for anything else."""
    if len(head) < BODY or _name(head, 0) != SUMMARY_NAME:
        raise ShardError(f"{name}: does not begin with {SUMMARY_NAME}, so it is no shard; move it out of the archive")
    try:
        known = _formats.decode(head[BLOCK:BODY]).format
        if known not in (FORMAT, TRACED):
            raise ShardError(
                f"{name}: shard format {known} is not known here, only {FORMAT} and {TRACED}; update this installation"
            )
        return _summaries.decode(head[BLOCK:BODY])
    except msgspec.DecodeError as error:
        raise ShardError(f"{name}: its summary cannot be read ({error}); restore the shard from a copy") from None


_MODE = b"0000444\0" + b"0000000\0" * 2  # mode, user and group
_TIME = b"00000000000\0"
_KIND = b"0" + bytes(100) + b"ustar\00000"  # a regular file, no link
_OWNER = bytes(32 + 32) + b"0000000\0" * 2  # user, group, device
_CONSTANT = sum(_MODE + _TIME + _KIND + _OWNER) + 8 * ord(" ")


def member_header(name: str, size: int) -> bytes:
    """The 512-byte ustar header (POSIX.1-1988) of a member; tarfile would take some 40 us for it."""
    last, prefix = name.encode(), b""
    if len(last) > 100:
        folder, _, file = name.rpartition("/")
        prefix, last = folder.encode(), file.encode()
        if len(last) > 100 or len(prefix) > 155:
            raise ShardError(f"the member name {name!r} is too long for ustar: shorten the session id or the extension")
    length = b"%011o\0" % size
    if len(length) > 12:
        raise ShardError(f"{name}: {size} bytes, but a member of a shard is smaller than 8 GiB; split the sample")
    checksum = b"%06o\0 " % (_CONSTANT + sum(last) + sum(prefix) + sum(length))
    parts = (last.ljust(100, b"\0"), _MODE, length, _TIME, checksum, _KIND, _OWNER, prefix.ljust(167, b"\0"))
    return b"".join(parts)


def padding(size: int) -> bytes:
    """The zeros that fill a member of `size` bytes to whole blocks."""
    return bytes(-size % BLOCK)


def members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members in `data`, which begins with a header and holds whole members only."""
    position = 0
    while position < len(data):
        size = int(data[position + 124 : position + 135], 8)
        start = position + BLOCK
        yield _name(data, position), data[start : start + size]
        position = start + size + (-size % BLOCK)


def _name(data: bytes, position: int) -> str:
    last = data[position : position + 100].rstrip(b"\0").decode()
    prefix = data[position + 345 : position + 500].rstrip(b"\0").decode()
    return f"{prefix}/{last}" if prefix else last
