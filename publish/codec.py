"""How one block of numbers is told to somebody who has another: the smallest of five ways, each exact to the bit.

Everything works on bit patterns, never on values, so that NaN payloads, -0.0 and denormals come out as they went in.
Bytes of one rank lie together (all lowest, then all second, …), since those of the higher ranks are mostly zero.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zstandard

from publish.errors import Unreadable
from publish.tensors import Bytes

BLOCK = 1 << 20
"""Numbers of one block, at most: a tensor's parts may differ in how they change, and memory stays bounded."""

SAMPLE = 1 << 15
"""Numbers of a block that the ways are tried on; the winner then encodes all of it."""

LEVEL = 1
SPARSE = 0.2
"""The share of changed numbers up to which gaps are tried, above which they have never won; and up to which only the
changed numbers are worked on, which costs less."""

Words = npt.NDArray[np.unsignedinteger]


class Encoding(IntEnum):
    """The ways. Stored; a number is never given to another one."""

    SAME = 0  # nothing has changed
    FULL = 1  # the new numbers alone
    GAPS = 2  # the distances between changed numbers, and what these are now
    XOR = 3  # the bits that differ
    ULP = 4  # how many representable numbers lie between old and new


def encode(new: Bytes, old: Bytes | None, width: int, *, floats: bool) -> tuple[Encoding, bytes]:
    """The smallest form of `new` for somebody who has `old` (None: who has nothing of that shape).

    `width` is the bytes of a number; `floats` says that they are floating-point numbers.
    """
    words = _words(new, width)
    if old is None:
        return Encoding.FULL, _full(words)
    before = _words(old, width)
    changed = np.flatnonzero(words != before)
    if not changed.size:
        return Encoding.SAME, b""
    best = _choose(words, before, changed, floats)
    if best is Encoding.GAPS:
        payload = _gaps(words, changed)
    elif best is Encoding.FULL:
        payload = _full(words)
    else:
        payload = _squeezed(_difference_planes(best, words, before, changed))
    return best, payload


def decode(encoding: Encoding, payload: bytes, old: Bytes | None, size: int, width: int) -> Bytes:
    """The block of `size` bytes that `encode` was given. Raises Unreadable where the payload cannot be one."""
    count = size // width
    if encoding is Encoding.FULL:
        return _bytes(_joined(_opened(payload, size), count, width))
    if old is None or old.size != size:
        raise Unreadable(f"a block is told as {encoding.name}, but there is no base of {size} bytes for it")
    if encoding is Encoding.SAME:
        return old
    before = _words(old, width)
    if encoding is Encoding.GAPS:
        return _bytes(_filled(payload, before))
    planes = _opened(payload, size).reshape(width, count)
    changed = np.flatnonzero(np.bitwise_or.reduce(planes, axis=0) != 0)
    if changed.size > SPARSE * count:
        return _bytes(_corrected(encoding, before, _joined(planes, count, width)))
    after = before.copy()
    after[changed] = _corrected(encoding, before[changed], _joined(planes[:, changed], changed.size, width))
    return _bytes(after)


def _choose(words: Words, before: Words, changed: npt.NDArray[np.intp], floats: bool) -> Encoding:
    """The way that is smallest on a part from the middle; it is all of a small block."""
    begin = max(0, (words.size - SAMPLE) // 2)
    new, old = words[begin : begin + SAMPLE], before[begin : begin + SAMPLE]
    first, last = np.searchsorted(changed, (begin, begin + SAMPLE))
    where = changed[first:last] - begin
    sizes = {
        Encoding.FULL: len(_full(new)),
        Encoding.XOR: len(_squeezed(_difference_planes(Encoding.XOR, new, old, where))),
    }
    if floats:
        sizes[Encoding.ULP] = len(_squeezed(_difference_planes(Encoding.ULP, new, old, where)))
    if changed.size <= SPARSE * words.size:
        sizes[Encoding.GAPS] = len(_gaps(new, where))
    return min(sizes, key=lambda encoding: (sizes[encoding], encoding))


def _difference_planes(encoding: Encoding, new: Words, old: Words, changed: npt.NDArray[np.intp]) -> Bytes:
    if changed.size > SPARSE * new.size:
        return _planes(_difference(encoding, new, old))
    planes = np.zeros((new.itemsize, new.size), np.uint8)
    few = _difference(encoding, new[changed], old[changed])
    planes[:, changed] = few.view(np.uint8).reshape(-1, new.itemsize).T
    return planes.reshape(-1)


def _difference(encoding: Encoding, new: Words, old: Words) -> Words:
    if encoding is Encoding.XOR:
        return new ^ old
    return _folded(_ordered(new) - _ordered(old))


def _corrected(encoding: Encoding, old: Words, difference: Words) -> Words:
    """What `_difference` was taken from."""
    if encoding is Encoding.XOR:
        return old ^ difference
    return _unordered(_ordered(old) + _unfolded(difference))


def _ordered(words: Words) -> Words:
    """Bit patterns of floating-point numbers as unsigned integers of the same order; -0.0 is right below 0.0."""
    flip: Words = _signs(words)
    flip |= _sign(words)
    flip ^= words
    return flip


def _unordered(words: Words) -> Words:
    flip: Words = np.invert(_signs(words))
    flip |= _sign(words)
    flip ^= words
    return flip


def _sign(words: Words) -> Any:
    return words.dtype.type(1 << (8 * words.itemsize - 1))


def _signs(words: Words) -> Words:
    """All ones where the highest bit is set, else zero; a shift is several times faster than a choice."""
    signed = words.view(f"<i{words.itemsize}")
    return cast(Words, (signed >> signed.dtype.type(8 * words.itemsize - 1)).view(words.dtype))


def _folded(difference: Words) -> Words:
    """Signed differences (modulo the width) as unsigned ones: 0, -1, 1, -2, … so that small ones have few bits."""
    folded: Words = difference << difference.dtype.type(1)
    folded ^= _signs(difference)
    return folded


def _unfolded(folded: Words) -> Words:
    one = folded.dtype.type(1)
    odd: Words = folded & one
    np.negative(odd, out=odd)
    odd ^= folded >> one
    return odd


def _gaps(words: Words, changed: npt.NDArray[np.intp]) -> bytes:
    """One byte with the width of a gap, four with their number, the gaps, the values; all but these five squeezed."""
    gaps = np.diff(changed, prepend=-1) - 1
    kind = np.min_scalar_type(int(gaps.max(initial=0)))
    parts = _planes(gaps.astype(kind)), _planes(words[changed])
    return bytes([kind.itemsize]) + len(changed).to_bytes(4, "little") + _squeezed(np.concatenate(parts))


def _filled(payload: bytes, before: Words) -> Words:
    wide, count = payload[:1], int.from_bytes(payload[1:5], "little")
    if wide not in (b"\1", b"\2", b"\4") or count > before.size:
        raise Unreadable(f"a block of {before.size} numbers is told with {count} gaps of width {wide!r}")
    raw = _opened(payload[5:], count * (wide[0] + before.itemsize))
    gaps = _joined(raw[: count * wide[0]], count, wide[0]).astype(np.int64)
    where = np.cumsum(gaps + 1) - 1
    if count and where[-1] >= before.size:
        raise Unreadable(f"a block of {before.size} numbers is told to change number {where[-1]}")
    after = before.copy()
    after[where] = _joined(raw[count * wide[0] :], count, before.itemsize)
    return after


def _full(words: Words) -> bytes:
    return _squeezed(_planes(words))


class _Zstd(threading.local):
    """One of each for each thread, since no two may share one; made anew for each block, they cost more than many blocks."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def _squeezed(planes: Bytes) -> bytes:
    return _zstd.compressor.compress(planes.data)


def _opened(payload: bytes, size: int) -> Bytes:
    """Exactly `size` bytes; a payload that would open to more is refused before it is opened."""
    if not size:
        return np.empty(0, np.uint8)
    try:
        if zstandard.frame_content_size(payload) != size:
            raise Unreadable(f"a block would open to {zstandard.frame_content_size(payload)} bytes instead of {size}")
        return np.frombuffer(_zstd.decompressor.decompress(payload), np.uint8)
    except zstandard.ZstdError as error:
        raise Unreadable(f"a block cannot be opened ({error})") from error


def _words(block: Bytes, width: int) -> Words:
    """The numbers' bits; safetensors stores them little endian, at any address."""
    return np.frombuffer(block.tobytes() if block.ctypes.data % width else block, f"<u{width}")


def _bytes(words: Words) -> Bytes:
    return words.view(np.uint8)


def _planes(words: Words) -> Bytes:
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T).reshape(-1)


def _joined(planes: Bytes, count: int, width: int) -> Words:
    return np.ascontiguousarray(planes.reshape(width, count).T).reshape(-1).view(f"<u{width}")


def blocks(begin: int, end: int, width: int) -> Iterable[tuple[int, int]]:
    """The blocks of a tensor's bytes."""
    for at in range(begin, end, BLOCK * width):
        yield at, min(end, at + BLOCK * width)
