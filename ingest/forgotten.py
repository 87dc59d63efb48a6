"""The ids of sessions that were forgotten, in eight bytes each, for ever: an id that was used is never used again.

A session that ended long ago needs no state, but its steps are in the archive under its id; if that could be opened
once more, `(session_id, seq)` would name two steps. Ten million ids take some 90 MB. Two ids with one digest would mean
that a new session is refused its id: at ten million, a chance of 1 in 10^12 for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

PREFIX = "session/.forgotten/"
"""Beside the sessions' own keys in the writer's state; no id has a dot."""
DIGEST_BYTES = 8
CHUNK_BYTES = 4_096
"""Bytes of one value of the state, after which the next one is begun."""


class Forgotten:
    """Grows by `add`, in chunks as they are stored."""

    def __init__(self, state: Mapping[str, bytes]) -> None:
        self._buckets: dict[int, bytes] = {}
        chunks = {key: value for key, value in state.items() if key.startswith(PREFIX)}
        self._number = max((int(key.removeprefix(PREFIX)) for key in chunks), default=0)
        self._tail = chunks.get(f"{PREFIX}{self._number:012d}", b"")
        for value in chunks.values():
            self._put(value)

    def __contains__(self, session_id: str) -> bool:
        digest = _digest(session_id)
        bucket = self._buckets.get(int.from_bytes(digest[:2], "big"), b"")
        return any(bucket[place : place + DIGEST_BYTES] == digest for place in range(0, len(bucket), DIGEST_BYTES))

    def chunk(self, session_ids: Iterable[str]) -> tuple[str, bytes]:
        """What is to be stored for these ids to be among them; `add` it when it is."""
        more = b"".join(map(_digest, session_ids))
        if len(self._tail) + len(more) > CHUNK_BYTES:
            return f"{PREFIX}{self._number + 1:012d}", more
        return f"{PREFIX}{self._number:012d}", self._tail + more

    def add(self, key: str, value: bytes) -> None:
        """A chunk was stored."""
        number = int(key.removeprefix(PREFIX))
        self._put(value[len(self._tail) :] if number == self._number else value)
        self._number, self._tail = number, value

    def _put(self, digests: bytes) -> None:
        for place in range(0, len(digests), DIGEST_BYTES):
            digest = digests[place : place + DIGEST_BYTES]
            bucket = int.from_bytes(digest[:2], "big")
            self._buckets[bucket] = self._buckets.get(bucket, b"") + digest


def together(one: bytes, other: bytes) -> bytes:
    """A chunk with the ids of both: of two that one after the other were made from the same."""
    digests = [
        chunk[place : place + DIGEST_BYTES] for chunk in (one, other) for place in range(0, len(chunk), DIGEST_BYTES)
    ]
    return b"".join(dict.fromkeys(digests))


def _digest(session_id: str) -> bytes:
    return blake2b(session_id.encode(), digest_size=DIGEST_BYTES).digest()
