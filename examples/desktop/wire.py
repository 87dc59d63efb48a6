"""What the web page and the app say to each other over the WebSocket `/ws`.

The page sends one JSON object a step, the inputs as `Inputs.wire` has them, or `{"reset": true}`. The app answers each
with one binary message: four bytes of length (big-endian), a JSON header of that length, and the frame as a PNG file.
The first message, before any step, shows the start.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from examples.desktop.codec import decode_frame, encode_frame
from examples.desktop.errors import InvalidFrame
from examples.desktop.screen import Frame

__all__ = ["Shown", "pack", "unpack"]

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer: which session and step it belongs to (-1: the start), the version that painted it, and the frame."""

    session: str
    seq: int
    version: str
    frame: Frame


def pack(shown: Shown) -> bytes:
    """The message as it travels."""
    header = json.dumps({"session": shown.session, "seq": shown.seq, "version": shown.version}).encode()
    return _LENGTH.pack(len(header)) + header + encode_frame(shown.frame)


def unpack(message: bytes) -> Shown:
    """The inverse of `pack`; raises InvalidFrame on anything else."""
    try:
        (length,) = _LENGTH.unpack_from(message)
        header = json.loads(message[_LENGTH.size : _LENGTH.size + length])
        frame = decode_frame(message[_LENGTH.size + length :])
        return Shown(header["session"], header["seq"], header["version"], frame)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise InvalidFrame(f"message: {message[:24]!r}… is not an answer of the app: {error}") from error
