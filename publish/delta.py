"""A version told to somebody who has another one: a file that turns the base's folder into the version's, bit by bit.

    magic · payloads, in the order of the index · index (JSON) · its length (8 bytes, little endian)

Files are rebuilt whole, heads included, so that the digests of the signed manifest are those of the result: whoever
applies a delta to the wrong base, or a damaged one to the right base, finds out before anything is served. Nothing is
changed in place, so a kill half-way costs a scratch folder and no more.

Every version is stored in full as well, so each is an anchor: a follower takes the deltas only where they are fewer
bytes than the full version, and not too many (`publish.chain`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
import numpy as np
import zstandard

from publish import durable
from publish.codec import LEVEL, Encoding, blocks, decode, encode
from publish.crew import in_order
from publish.errors import FileNotAllowed, Unreadable
from publish.manifest import FileDigest, check_names
from publish.tensors import FLOATS, LONGEST_HEAD, Bytes, Layout, Piece, opened, read_layout

MAGIC = b"stvdelta"
FORMAT = 1
LENGTH = 8
LONGEST_INDEX = 16_000_000
"""Bytes. At some ten a block, this is a model of more than a trillion numbers."""
SLACK = 1 << 10
"""Bytes that squeezing may add to a block; together with the block twice, more than any way of telling it takes."""


class How(StrEnum):
    """How a file of the version is told."""

    SAME = "same"  # the base's file of this name
    WHOLE = "whole"  # all of it, squeezed
    TENSORS = "tensors"  # its head, squeezed, then block by block against the base's tensors of the same names


Count = Annotated[int, msgspec.Meta(ge=0)]


class Change(msgspec.Struct, frozen=True):
    """One file. `payload` is the bytes of a whole file or of a head; `blocks` are encodings and payload bytes."""

    name: str
    how: How
    size: Count
    payload: Count = 0
    blocks: tuple[tuple[Encoding, Count], ...] = ()

    @property
    def stored(self) -> int:
        """Bytes of its payloads."""
        return self.payload + sum(length for _, length in self.blocks)


class Index(msgspec.Struct, frozen=True):
    """What the payloads are."""

    format: int
    files: tuple[Change, ...]


_decode_index = msgspec.json.Decoder(Index).decode


Told = Mapping[str, Mapping[str, str]]
"""By file and tensor: in which ways its blocks are told, as in `gaps+ulp`."""


def write_delta(target: Path, files: Mapping[str, Path], base: Mapping[str, Path]) -> Told:
    """Create `target`, which turns the files of `base` into `files`. Not synced.

    A safetensors file that no reader without torch understands is told whole.
    """
    told: dict[str, dict[str, set[Encoding]]] = {}
    with target.open("xb") as file:
        file.write(MAGIC)
        changes = tuple(
            _tell(file, name, path, base.get(name), told.setdefault(name, {})) for name, path in sorted(files.items())
        )
        index = msgspec.json.encode(Index(FORMAT, changes))
        file.write(index)
        file.write(len(index).to_bytes(LENGTH, "little"))
    return {
        name: {tensor: "+".join(sorted(way.name.lower() for way in ways)) for tensor, ways in named.items()}
        for name, named in told.items()
    }


def apply_delta(delta: Path, base: Path, target: Path) -> Iterator[tuple[str, FileDigest]]:
    """Rebuild a version's files in the folder `target`, and yield the digest of each, for the caller to check.

    `delta` must be the file that its manifest was signed for. Raises Unreadable where it does not fit `base`.
    """
    with delta.open("rb") as file:
        index = _read_index(file, delta.name)
        check_names(change.name for change in index.files)
        file.seek(len(MAGIC))
        for change in index.files:
            made = target / change.name
            made.parent.mkdir(parents=True, exist_ok=True)
            yield change.name, _make(file, change, base / change.name, made)


def apply_to_file(delta: Path, name: str, base: Path | None, target: Path, size: int) -> FileDigest:
    """Rebuild one file of `size` bytes as the new file `target`, and return its digest, for the caller to check.

    `base` is the base's file of that name, if it has one. `delta` may be anybody's: never more than `size` bytes are
    written, and memory stays within what some blocks take. Raises Unreadable where it does not tell of such a file.
    """
    with delta.open("rb") as file:
        at = len(MAGIC)
        for change in _read_index(file, delta.name).files:
            if change.name == name:
                break
            at += change.stored
        else:
            raise Unreadable(f"{delta.name}: it does not tell of a file {name!r}")
        if change.size != size:
            raise Unreadable(f"{name}: the delta tells of {change.size} bytes, expected were {size}")
        file.seek(at)
        return _make(file, change, base, target)


def _make(file: BinaryIO, change: Change, base: Path | None, target: Path) -> FileDigest:
    """Rebuild what is told from here on in `file`, and leave that at the end of it."""
    if change.how is How.WHOLE:
        return _unsqueeze(file, change, target)
    if base is None:
        raise Unreadable(f"{change.name}: it is told against a file that the base does not have")
    if change.how is How.SAME:
        with base.open("rb") as source:  # no link: versions must not rot together
            return durable.copy_and_digest(source, target, change.size)
    return _rebuild(file, change, base, target)


def _tell(file: BinaryIO, name: str, path: Path, base: Path | None, told: dict[str, set[Encoding]]) -> Change:
    size = path.stat().st_size
    if base is not None and _equal(path, base):
        told |= _all_the_same(name, path)
        return Change(name, How.SAME, size)
    if base is not None and name.endswith(".safetensors"):
        try:
            with opened(path) as (layout, data), opened(base) as (before, old):
                return _tell_tensors(file, name, (layout, data), (before, old), told)
        except Unreadable:
            pass  # neither of ours to judge: whoever loads it will say what is wrong with it
    squeezed = zstandard.ZstdCompressor(LEVEL).compress(path.read_bytes())
    file.write(squeezed)
    return Change(name, How.WHOLE, size, len(squeezed))


def _all_the_same(name: str, path: Path) -> dict[str, set[Encoding]]:
    if not name.endswith(".safetensors"):
        return {}
    try:
        with opened(path) as (layout, _):
            return {piece.name: {Encoding.SAME} for piece in layout.pieces}
    except Unreadable:
        return {}


def _tell_tensors(
    file: BinaryIO,
    name: str,
    new: tuple[Layout, Bytes],
    base: tuple[Layout, Bytes],
    told: dict[str, set[Encoding]],
) -> Change:
    (layout, data), (before, old) = new, base
    head = zstandard.ZstdCompressor(LEVEL).compress(layout.head)
    file.write(head)
    jobs = list(_jobs(layout, before, old))
    encoded = in_order(
        lambda job: encode(
            data[job.begin : job.end], job.counterpart, job.piece.width, floats=job.piece.kind in FLOATS
        ),
        jobs,
    )
    lengths = []
    for job, (encoding, payload) in zip(jobs, encoded, strict=True):
        file.write(payload)
        lengths.append((encoding, len(payload)))
        told.setdefault(job.piece.name, set()).add(encoding)
    return Change(name, How.TENSORS, len(layout.head) + layout.size, len(head), tuple(lengths))


def _rebuild(file: BinaryIO, change: Change, base: Path, target: Path) -> FileDigest:
    head = _unsqueezed(_exactly(file, change.payload))
    layout = read_layout(head, change.name)
    if len(head) + layout.size != change.size:
        raise Unreadable(f"{change.name}: {change.size} bytes, but its head tells of {len(head) + layout.size}")
    seen, size = hashlib.sha256(head), len(head)
    with ExitStack() as open_files:
        before, old = open_files.enter_context(opened(base))
        out = open_files.enter_context(target.open("xb"))
        out.write(head)
        told = _payloads(file, change, _jobs(layout, before, old))
        for block in in_order(lambda work: _decoded(*work), told):
            seen.update(block.data)
            size += block.size
            out.write(block.data)
    return FileDigest(seen.hexdigest(), size)


@dataclass(frozen=True)
class _Job:
    """One block of a tensor's bytes, and the base's block that it is told against."""

    piece: Piece
    begin: int
    end: int
    counterpart: Bytes | None


def _jobs(layout: Layout, base: Layout, old: Bytes) -> Iterator[_Job]:
    for piece, standing in _paired(layout, base):
        for begin, end in blocks(piece.begin, piece.end, piece.width):
            counterpart = None
            if standing is not None:
                counterpart = old[standing.begin + begin - piece.begin : standing.begin + end - piece.begin]
            yield _Job(piece, begin, end, counterpart)


def _payloads(file: BinaryIO, change: Change, jobs: Iterator[_Job]) -> Iterator[tuple[_Job, Encoding, bytes]]:
    told = iter(change.blocks)
    for job in jobs:
        encoding, length = next(told, (None, 0))
        if encoding is None:
            raise Unreadable(f"{change.name}: the delta tells of fewer blocks than its head")
        if length > 2 * (job.end - job.begin) + SLACK:
            raise Unreadable(f"{change.name}: a block of {job.end - job.begin} bytes is told with {length}")
        yield job, encoding, _exactly(file, length)


def _decoded(job: _Job, encoding: Encoding, payload: bytes) -> Bytes:
    return np.ascontiguousarray(decode(encoding, payload, job.counterpart, job.end - job.begin, job.piece.width))


def _paired(layout: Layout, base: Layout) -> Iterator[tuple[Piece, Piece | None]]:
    """Each tensor, and the base's one of the same name, kind and size; its shape may differ."""
    standing = {piece.name: piece for piece in base.pieces}
    for piece in layout.pieces:
        before = standing.get(piece.name)
        alike = before is not None and (before.kind, before.end - before.begin) == (piece.kind, piece.end - piece.begin)
        yield piece, before if alike else None


def _read_index(file: BinaryIO, where: str) -> Index:
    end = file.seek(0, os.SEEK_END) - LENGTH
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC or end < len(MAGIC):
        raise Unreadable(f"{where}: not a delta")
    file.seek(end)
    length = int.from_bytes(file.read(LENGTH), "little")
    if length > min(LONGEST_INDEX, end - len(MAGIC)):
        raise Unreadable(f"{where}: its index would be {length} bytes long")
    file.seek(end - length)
    try:
        index = _decode_index(file.read(length))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{where}: not the index of a delta ({error})") from error
    if index.format != FORMAT:
        raise Unreadable(f"{where}: a delta of format {index.format}; only {FORMAT} is known here")
    if len({change.name for change in index.files}) != len(index.files):
        raise FileNotAllowed(f"{where}: it tells one file twice")
    return index


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size >= 0 else b""
    if len(data) != size:
        raise Unreadable(f"a delta ends {size - len(data)} bytes too early")
    return data


def _unsqueezed(data: bytes) -> bytes:
    """A head. Raises Unreadable for a frame that is none, or would open to more than a head may be."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= LENGTH + LONGEST_HEAD:
            raise Unreadable(f"a head would open to {size} bytes; {LENGTH + LONGEST_HEAD} are the most")
        return zstandard.ZstdDecompressor().decompress(data) if size else b""
    except zstandard.ZstdError as error:
        raise Unreadable(f"a head of the delta cannot be opened ({error})") from error


def _unsqueeze(file: BinaryIO, change: Change, target: Path) -> FileDigest:
    """A whole file; what would open to more is cut one byte beyond its size."""
    end = file.tell() + change.payload
    try:
        part = cast(BinaryIO, _Part(file, change.payload))
        with zstandard.ZstdDecompressor().stream_reader(part) as source:
            made = durable.copy_and_digest(cast(BinaryIO, source), target, change.size)
    except zstandard.ZstdError as error:
        raise Unreadable(f"{change.name}: its part of the delta cannot be opened ({error})") from error
    file.seek(end)
    return made


class _Part:
    """The next `size` bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(durable.CHUNK):
            if chunk != right.read(durable.CHUNK):
                return False
    return True
