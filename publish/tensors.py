"""A safetensors file as a reader without torch sees it: its head, and where in it each tensor's bytes lie.

https://huggingface.co/docs/safetensors: eight bytes with the head's length (little endian), the head (JSON), the data.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from publish.errors import Unreadable

LENGTH = 8
LONGEST_HEAD = 100_000_000
"""Bytes; the limit of the safetensors library."""

WIDTHS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
}
"""Bytes of one number; every other kind is taken byte by byte, which is exact for all and best for most."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""The kinds whose bits are a sign and a magnitude that orders like an integer."""

Bytes = npt.NDArray[np.uint8]


_decode_head = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True)
class Piece:
    """One tensor: its kind as safetensors writes it, its place in the data, and its shape."""

    name: str
    kind: str
    begin: int
    end: int
    shape: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Bytes of one number."""
        width = WIDTHS.get(self.kind, 1)
        return width if (self.end - self.begin) % width == 0 else 1


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    data_offsets: tuple[int, int]
    shape: tuple[int, ...] = ()


_decode_entry = msgspec.json.Decoder(_Entry).decode


@dataclass(frozen=True)
class Layout:
    """The head, byte by byte, and the tensors in the order of their data, which they fill without a gap."""

    head: bytes
    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return self.pieces[-1].end if self.pieces else 0


def read_layout(head: bytes, where: str) -> Layout:
    """The layout that a head (with its length in front) describes.

    Raises Unreadable where it is none, or its tensors overlap or leave a gap.
    """
    try:
        named = _decode_head(head[LENGTH:])
        named.pop("__metadata__", None)
        entries = {name: _decode_entry(raw) for name, raw in named.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{where}: its head is not that of a safetensors file ({error})") from error
    found = [Piece(name, entry.dtype, *entry.data_offsets, entry.shape) for name, entry in entries.items()]
    pieces = sorted(found, key=lambda piece: (piece.begin, piece.end))
    at = 0
    for piece in pieces:
        if piece.begin != at or piece.end < piece.begin:
            raise Unreadable(f"{where}: {piece.name!r} lies at {piece.begin} to {piece.end}, expected was {at}")
        at = piece.end
    return Layout(head, pieces)


def layout_of(path: Path) -> Layout:
    """The layout of a file, of which only the head is read. Raises Unreadable."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        size = path.stat().st_size
        if length > min(LONGEST_HEAD, size - LENGTH):
            raise Unreadable(f"{path}: not a safetensors file; its head would be {length} bytes long")
        file.seek(0)
        layout = read_layout(file.read(LENGTH + length), str(path))
    if len(layout.head) + layout.size != size:
        raise Unreadable(f"{path}: {size} bytes, but its head tells of {len(layout.head) + layout.size}")
    return layout


@contextmanager
def opened(path: Path) -> Iterator[tuple[Layout, Bytes]]:
    """The layout and the data of a file, which is mapped and not read. Raises Unreadable."""
    layout = layout_of(path)
    if not layout.size:
        yield layout, np.empty(0, np.uint8)
        return
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Never closed by hand: an array over it may outlive the block, and it ends with the last of them.
        yield layout, np.frombuffer(mapped, np.uint8)[len(layout.head) :]
