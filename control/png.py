"""Whether bytes are one whole PNG file, and of which size: every chunk is walked, and no pixel is decoded.

W3C, Portable Network Graphics (Third Edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FRAME = 12
"""Bytes of a chunk beside its content: length, name, checksum."""
IHDR_BYTES = 13
LONGEST_SIDE = 8192
MOST_PIXELS = 4 << 20
"""What a browser decodes without noticing: a small file may hold an enormous picture."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits that a sample may have, by colour type."""


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises ValueError for what is no whole PNG file of a sensible size, with the reason."""
    if not data.startswith(SIGNATURE):
        raise ValueError("it does not begin as a PNG file does; write it as PNG")
    place, names, size = len(SIGNATURE), list[bytes](), (0, 0)
    while place < len(data):
        name, content, place = _chunk(data, place)
        if not names:
            size = _size(name, content)
        names.append(name)
        if name == b"IEND":
            break
    if names[-1:] != [b"IEND"]:
        raise ValueError("its end is missing (IEND); it was cut off")
    if place != len(data):
        raise ValueError(f"{len(data) - place} bytes follow its end; send the file alone")
    if b"IDAT" not in names:
        raise ValueError("it holds no picture (IDAT)")
    return size


def _chunk(data: bytes, place: int) -> tuple[bytes, bytes, int]:
    """The chunk at `place`, and where the next one begins."""
    if place + FRAME > len(data):
        raise ValueError("a chunk is cut off")
    (length,) = struct.unpack_from(">I", data, place)
    end = place + FRAME + length
    if end > len(data):
        raise ValueError(f"a chunk of {length} bytes is cut off")
    name, content = data[place + 4 : place + 8], data[place + 8 : end - 4]
    (told,) = struct.unpack_from(">I", data, end - 4)
    if zlib.crc32(name + content) != told:
        raise ValueError(f"the checksum of chunk {name!r} is wrong; the file is damaged")
    return name, content, end


def _size(name: bytes, content: bytes) -> tuple[int, int]:
    if name != b"IHDR" or len(content) != IHDR_BYTES:
        raise ValueError(f"its first chunk is {name!r} of {len(content)} bytes, not a header (IHDR)")
    width, height, depth, colours, packing, filtering, interlaced = struct.unpack(">IIBBBBB", content)
    if depth not in DEPTHS.get(colours, ()) or packing or filtering or interlaced > 1:
        raise ValueError("its header names colours, bits or a packing that PNG does not know")
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= MOST_PIXELS):
        raise ValueError(
            f"it is {width} x {height} pixels; a side has 1 to {LONGEST_SIDE}, and all together at most {MOST_PIXELS}"
        )
    return width, height
