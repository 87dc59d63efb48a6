"""Content-Encoding: gzip (RFC 1952) and zstd (RFC 8878), decoded piece by piece, so that no bomb unfolds in memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import zstandard

from auth.problems import INVALID_REQUEST, Problem
from ingest.problems import UNSUPPORTED_ENCODING

PIECE = 256 << 10
"""Bytes that are decoded at a time."""
ZSTD_INPUT = 256
"""Bytes that are given to zstd at a time: a block of 4 bytes may stand for 128 KiB, so these are 8 MiB at most."""
ZSTD_WINDOW = 8 << 20
TAKEN = "gzip, zstd"


class Decoder(Protocol):
    """Turns encoded bytes into what they stand for. `whole` tells whether the encoding has come to its end."""

    whole: bool

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class Gzip:
    """One or several members, one after the other."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self.whole = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            self.whole = False if data else self.whole
            piece = self._inner.decompress(data, PIECE)
            data = self._inner.unconsumed_tail
            if self._inner.eof:
                data, self._inner, self.whole = self._inner.unused_data, zlib.decompressobj(31), True
            if piece:
                yield piece
            if not data and len(piece) < PIECE:
                return


class Zstd:
    """One or several frames, one after the other."""

    def __init__(self) -> None:
        self._inner = self._frame()
        self.whole = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_INPUT):
            part = data[start : start + ZSTD_INPUT]
            while part:
                self.whole = False
                piece, part = self._inner.decompress(part), b""
                if self._inner.eof:
                    part, self._inner, self.whole = self._inner.unused_data, self._frame(), True
                if piece:
                    yield piece

    @staticmethod
    def _frame() -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()


def decoder_of(encoding: str | None) -> Decoder | None:
    """What decodes a body of that Content-Encoding; None for one that is not encoded. Raises 415."""
    match (encoding or "identity").strip().lower():
        case "identity":
            return None
        case "gzip" | "x-gzip":
            return Gzip()
        case "zstd":
            return Zstd()
        case other:
            detail = f"Content-Encoding {other[:40]!r}; send the body as it is, or one of {TAKEN}"
            raise Problem(UNSUPPORTED_ENCODING, detail, headers={"Accept-Encoding": TAKEN})


async def decoded(chunks: AsyncIterator[bytes], decoder: Decoder | None) -> AsyncIterator[bytes]:
    """The chunks of a body, decoded; raises 400 for what is not of the encoding, or is cut off."""
    if decoder is None:
        async for chunk in chunks:
            yield chunk
        return
    try:
        async for chunk in chunks:
            for piece in decoder.feed(chunk):
                yield piece
    except (zlib.error, zstandard.ZstdError) as error:
        raise Problem(INVALID_REQUEST, f"the body is not of its Content-Encoding: {error}") from None
    if not decoder.whole:
        raise Problem(INVALID_REQUEST, "the body ends within its Content-Encoding")
