"""One step as a WebSocket message: lengths, its JSON, its members.

8 bytes  seq, big-endian, like all numbers here
4 bytes  length of the JSON
         the JSON: a step, as in the body of an HTTP request
then for each member: 1 byte length of its extension, the extension (ASCII), 4 bytes length, its content
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ingest.errors import InvalidBody
from ingest.gateway.wire import MAX_MEMBERS, MAX_SEQ, WireStep
from ingest.ustar import EXTENSION

HEAD = struct.Struct(">QI")
LENGTH = struct.Struct(">I")


def pack_frame(seq: int, text: bytes, members: Mapping[str, bytes] | None = None) -> bytes:
    """The message of a step."""
    parts = [HEAD.pack(seq, len(text)), text]
    for extension, content in (members or {}).items():
        name = extension.encode("ascii")
        parts += (bytes([len(name)]), name, LENGTH.pack(len(content)), content)
    return b"".join(parts)


def seq_of(frame: bytes) -> int:
    """The seq that a message says it has; raises `InvalidBody`."""
    if len(frame) < HEAD.size:
        raise InvalidBody("", "truncated-frame", f"{len(frame)} bytes, but a message begins with {HEAD.size}")
    seq: int = HEAD.unpack_from(frame)[0]
    if seq >= MAX_SEQ:
        raise InvalidBody("", "invalid-frame", f"seq {seq} is not a number from 0 to 2^53 - 1")
    return seq


def unpack_frame(frame: bytes) -> WireStep:
    """The step in a message; raises `InvalidBody` for what is not one."""
    seq_of(frame)
    _, size = HEAD.unpack_from(frame)
    text, place = _piece(frame, HEAD.size, size, "the JSON")
    members: dict[str, bytes] = {}
    while place < len(frame):
        name, place = _piece(frame, place + 1, frame[place], "the name of a member")
        extension = name.decode("ascii", "replace")
        if not EXTENSION.fullmatch(extension) or extension == "json":
            raise InvalidBody("", "invalid-name", f"{extension!r}: members are named by an extension such as png")
        if extension in members:
            raise InvalidBody(f"/{extension}", "duplicate-member", "the message has this member twice")
        if len(members) + 1 == MAX_MEMBERS:
            raise InvalidBody("", "too-many-members", f"a step has at most {MAX_MEMBERS} members, with its JSON")
        length, place = _piece(frame, place, LENGTH.size, "the length of a member")
        members[extension], place = _piece(frame, place, LENGTH.unpack(length)[0], f"the member {extension!r}")
    return WireStep("", text, members)


def _piece(frame: bytes, start: int, size: int, what: str) -> tuple[bytes, int]:
    end = start + size
    if end > len(frame):
        raise InvalidBody("", "truncated-frame", f"{what} has {size} bytes, but the message ends before")
    return frame[start:end], end
