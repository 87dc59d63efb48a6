"""A session, what opens it, what is added to it, and the rules that it is held to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from crc32c import crc32c

from ingest.keyboard import KeyRules
from ingest.log import partition_of
from ingest.types import EndReason, Step

DIGEST_BYTES = 8
"""Enough to notice a client that contradicts itself; nobody else gains by a collision."""
LONG_BYTES = 4_096
"""Of longer members the digest takes a checksum, which costs a thirtieth."""
STATE_PREFIX = "session/"
FORMAT = 1

_digest_encoder = msgspec.msgpack.Encoder(order="sorted")


class SessionRules(msgspec.Struct, frozen=True):
    """The limits that a session index keeps to; times in seconds, sizes in bytes."""

    partitions: int
    max_open: int = 10_000
    idle_seconds: float = 300.0
    ended_seconds: float = 86_400.0
    record_bytes: int = 500_000
    keyboard: KeyRules = KeyRules()
    owned: frozenset[int] | None = None
    """The partitions whose sessions are kept here; None: all."""

    def new_session_id(self, now: float) -> str:
        """An id for a session that is kept here."""
        while True:
            session_id = new_session_id(now)
            if self.owned is None or partition_of(session_id, self.partitions) in self.owned:
                return session_id


class Session(msgspec.Struct, frozen=True):
    """What is remembered of one session. `digests` holds those of its last steps, one after the other.

    `schema` is the version of the app's session schema that its steps are held to.
    """

    session_id: str
    app: str
    opened_at: float
    opening: bytes
    key: str | None = None
    next_seq: int = 0
    digests: bytes = b""
    ended: EndReason | None = None
    ended_at: float | None = None
    format: int = FORMAT
    subject: str | None = None
    schema: str | None = None

    def digest(self, seq: int) -> bytes | None:
        """The digest of step `seq`; None when that is too long ago."""
        behind = self.next_seq - seq
        place = len(self.digests) - behind * DIGEST_BYTES
        return self.digests[place : place + DIGEST_BYTES] if place >= 0 else None


stored_session = msgspec.msgpack.Decoder(Session).decode
"""A session as it stands in the writer's state; raises `msgspec.DecodeError`."""


class Opening(msgspec.Struct, frozen=True):
    """A request to open a session. `key` is the idempotency key, already told apart by client; `subject` a pseudonym.

    `schema` is not part of what has to be the same: without one stated, it is the newest of its day.
    """

    app: str
    metadata: Mapping[str, Any] = {}
    session_id: str | None = None
    key: str | None = None
    subject: str | None = None
    schema: str | None = None
    consent: Mapping[str, Any] | None = None

    def digest(self) -> bytes:
        """What must be the same for a second opening to be the first one's echo."""
        said = (self.app, self.metadata) if self.consent is None else (self.app, self.metadata, self.consent)
        content = _digest_encoder.encode(said if self.subject is None else (*said, self.subject))
        return blake2b(content, digest_size=DIGEST_BYTES).digest()


class Batch(msgspec.Struct, frozen=True):
    """Consecutive steps of one session as a request brought them, their digests, and their sizes in bytes."""

    session_id: str
    first_seq: int
    steps: tuple[Step, ...]
    digests: tuple[bytes, ...]
    sizes: tuple[int, ...]
    traceparent: str | None = None


class Appended(msgspec.Struct, frozen=True):
    """What became of a batch: its first `duplicates` steps were known already, the rest is new."""

    session: Session
    first_seq: int
    duplicates: int
    taken: int


def new_session_id(now: float | None = None) -> str:
    """An id that sorts by time and cannot be guessed: a UUIDv7 (RFC 9562) in 32 hexadecimal digits."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    number = (milliseconds << 80) | secrets.randbits(80)
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"{number:032x}"


def digest_of(step: Step) -> bytes:
    """A digest of what the client said, whatever the order of its JSON keys; not of when it was received."""
    said: tuple[Any, ...]
    said = (step.seq, step.time, step.inputs, step.is_reset, step.is_eos, step.model_version, step.extra)
    if step.rejected is not None and step.rejected.original is not None:
        said = (step.seq, step.rejected.original)
    parts = [_digest_encoder.encode(said)]
    for extension, content in sorted(step.members.items()) if step.members else ():
        parts.append(b"%s %d\n" % (extension.encode(), len(content)))
        parts.append(content if len(content) < LONG_BYTES else b"%d" % crc32c(content))
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()
