"""What a client says to the gateway and when, without a socket or a clock: `SessionClient` and its async twin ask
`next_action` what to do, do it, and report what came back.

Steps are encoded once and sent as the same bytes until they are acknowledged, one request at a time, so that order
needs no thought. After a network error the gateway is asked how far it got before anything is sent again.
"""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from itertools import islice
from typing import Any

import msgspec

from ingest.errors import BufferFull, ClientError, Refused, SessionLost, StepTooLarge
from ingest.shard_format import END
from ingest.ustar import EXTENSION, Member, archive, archived_size

logger = logging.getLogger(__name__)

RESERVED = frozenset({"seq", "time", "inputs", "is_reset", "is_eos", "model_version"})
MAX_REJECTED = 1_000
"""Steps that became dead letters of which the reason is remembered."""
RETRIED = frozenset({408, 429})
"""These and 5xx may succeed later, with the same bytes."""


class ClientSettings(msgspec.Struct, frozen=True):
    """How a client batches, buffers and retries. Sizes in bytes, times in seconds."""

    batch_steps: int = 64
    batch_bytes: int = 1 << 20
    max_delay: float = 0.05
    """A step waits at most so long for others to share its request."""
    buffer_bytes: int = 32 << 20
    """Steps that are not acknowledged yet; over it `post` waits, then raises `BufferFull`."""
    first_pause: float = 0.1
    longest_pause: float = 10.0
    """Pauses between retries double from the first to the longest, each shortened at random by up to a half."""


class Limits(msgspec.Struct, frozen=True):
    """What the gateway takes; it says so when a session is opened."""

    max_body_bytes: int = 8 << 20
    max_step_bytes: int = 900_000
    max_steps: int = 1_024


class Request(msgspec.Struct, frozen=True):
    """An HTTP request to make, relative to the gateway's URL."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Fault(msgspec.Struct, frozen=True):
    """Why a step became a dead letter at the gateway: where in it (RFC 6901), and of which schema it breaks a rule."""

    reason: str
    detail: str
    pointer: str = ""
    schema: str | None = None


class _Reply(msgspec.Struct):
    """All that is read of any answer of the gateway."""

    type: str = ""
    detail: str = ""
    state: str = ""
    next_seq: int = 0
    limits: Limits | None = None
    results: dict[str, str | Fault] = {}


_replies = msgspec.json.Decoder(_Reply)


class _Step(msgspec.Struct, frozen=True):
    seq: int
    text: bytes
    members: Mapping[str, bytes]
    size: int
    posted_at: float


class _Phase(Enum):
    OPENING = auto()
    STREAMING = auto()
    ENDED = auto()
    FAILED = auto()


class Conversation:
    """One session from the client's side. Not thread-safe; its drivers lock. Times are of a monotonic clock."""

    def __init__(
        self, session_id: str, app: str, metadata: Mapping[str, Any], resume: bool, settings: ClientSettings
    ) -> None:
        self.session_id, self.settings, self.limits = session_id, settings, Limits()
        self.failure: ClientError | None = None
        self.acked = self.next_seq = 0
        self.rejected: deque[tuple[int, Fault]] = deque(maxlen=MAX_REJECTED)
        self._opening = msgspec.json.encode({"app": app, "session_id": session_id, "metadata": metadata})
        self._phase = _Phase.OPENING
        self._asking = resume
        self._steps: deque[_Step] = deque()
        self._buffered = 0
        self._flight: Request | None = None
        self._urgent_before = 0
        self._last: int | None = None
        self._retry_at, self._failures = 0.0, 0
        self._jitter = random.Random()

    @property
    def opened(self) -> bool:
        """Whether the gateway has confirmed the session."""
        return self._phase in (_Phase.STREAMING, _Phase.ENDED)

    @property
    def ended(self) -> bool:
        """Whether the gateway has confirmed the end."""
        return self._phase is _Phase.ENDED

    def fits(self, size: int) -> bool:
        """Whether the buffer has room for a step of `size`; one alone always fits."""
        return not self._steps or self._buffered + size <= self.settings.buffer_bytes

    def add(self, fields: dict[str, Any], members: Mapping[str, bytes], now: float) -> int:
        """Take a step, give it its seq; raises `BufferFull`, `StepTooLarge`, or what ended the conversation."""
        if self.failure is not None:
            raise self.failure
        if self._last is not None:
            raise ClientError(f"session {self.session_id} was ended; open a new one")
        text = msgspec.json.encode({"seq": self.next_seq, **fields})
        size = archived_size(len(text)) + sum(archived_size(len(content)) for content in members.values())
        self._check_size(len(text) + sum(map(len, members.values())), size)
        if not self.fits(size):
            raise BufferFull(
                f"{self._buffered} bytes wait for the gateway, and {size} more exceed {self.settings.buffer_bytes}; "
                "it is slower than the app, or away"
            )
        self._steps.append(_Step(self.next_seq, text, dict(members), size, now))
        self._buffered += size
        self.next_seq += 1
        if fields.get("is_eos"):
            self._last = self._urgent_before = self.next_seq
        return self.next_seq - 1

    def hurry(self) -> int:
        """Send what was posted so far without waiting for more; returns the seq after it."""
        self._urgent_before = self.next_seq
        return self.next_seq

    def finish(self) -> None:
        """Send what was posted, then end the session."""
        if self._last is None:
            self._last = self.next_seq
        self.hurry()

    def next_action(self, now: float) -> Request | float | None:
        """A request to make now, or seconds to wait (at most), or None when all is said."""
        if self._phase in (_Phase.ENDED, _Phase.FAILED):
            return None
        if now < self._retry_at:
            return self._retry_at - now
        if self._asking:
            return Request("GET", self._path())
        if self._phase is _Phase.OPENING:
            return Request("POST", "/v1/sessions", {"Content-Type": "application/json"}, self._opening)
        if self._flight is not None:
            return self._flight
        wait = self._wait(now)
        if wait > 0:
            return wait
        self._flight = self._batch() if self._steps else self._end()
        return self._flight

    def failed(self, now: float) -> None:
        """The request did not reach the gateway, or its answer did not come back."""
        self._asking = self._asking or self._phase is not _Phase.OPENING
        self._pause(now, None)

    def fail(self, error: ClientError) -> None:
        """Nothing more can be said, and why."""
        self.failure, self._phase = error, _Phase.FAILED

    def replied(self, request: Request, status: int, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """The gateway answered `request`."""
        if status in RETRIED or status >= 500:
            self._pause(now, _retry_after(headers.get("retry-after")))
            return
        try:
            reply = _replies.decode(body)
        except msgspec.DecodeError:
            reply = _Reply(detail=body[:200].decode(errors="replace"))
        self._failures = 0
        if status == 404 and request.method == "GET" and self._phase is _Phase.OPENING:
            self._asking = False  # nothing to resume: open it
        elif 200 <= status < 300:
            self._accepted(request, reply)
        else:
            self._refused(status, reply)

    def _accepted(self, request: Request, reply: _Reply) -> None:
        self._asking = False
        self.limits = reply.limits or self.limits
        if self._phase is _Phase.OPENING:
            self._begin(reply)
            return
        if reply.next_seq < self.acked:
            self.fail(
                SessionLost(f"{self.session_id}: {self.acked} steps were acknowledged, {reply.next_seq} are known")
            )
            return
        self._note(reply)
        self._settle(reply.next_seq)
        if reply.state == "ended":
            self._over(reply)
        elif self._flight is not None and (request is self._flight or self._steps_from(self._flight) < self.acked):
            self._flight = None

    def _begin(self, reply: _Reply) -> None:
        if reply.next_seq and self.next_seq:
            detail = f"it has {reply.next_seq} steps already; to resume it, open() it before the first post()"
            self.fail(Refused(409, "session-exists", detail))
            return
        self._phase = _Phase.STREAMING
        if reply.next_seq:
            self.acked = self.next_seq = reply.next_seq
        if reply.state == "ended":
            self._over(reply)

    def _over(self, reply: _Reply) -> None:
        if self._steps or self._last is None:
            self.fail(Refused(410, "session-closed", reply.detail or f"it ended after {reply.next_seq} steps"))
        else:
            self._phase = _Phase.ENDED

    def _refused(self, status: int, reply: _Reply) -> None:
        problem = reply.type.rpartition(":")[2] or "unknown"
        if problem == "sequence-gap" or (status == 404 and self.acked):
            # Steps are kept until they are acknowledged, so the gateway can miss only acknowledged ones.
            self.fail(SessionLost(f"{self.session_id}: {self.acked} steps were acknowledged, but {reply.detail}"))
        else:
            self.fail(Refused(status, problem, reply.detail))

    def _note(self, reply: _Reply) -> None:
        for seq, fault in reply.results.items():
            if isinstance(fault, Fault) and int(seq) >= self.acked:
                self.rejected.append((int(seq), fault))
                where = f"{fault.reason} at {fault.pointer or '/'}: {fault.detail}"
                logger.warning("%s/%s became a dead letter: %s", self.session_id, seq, where)

    def _settle(self, next_seq: int) -> None:
        while self._steps and self._steps[0].seq < next_seq:
            self._buffered -= self._steps.popleft().size
        self.acked = min(next_seq, self.next_seq)

    def _pause(self, now: float, asked: float | None) -> None:
        settings = self.settings
        longest = min(settings.longest_pause, settings.first_pause * 2.0 ** min(self._failures, 30))
        pause = longest * self._jitter.uniform(0.5, 1.0)
        if asked is not None:
            pause = max(pause, asked * self._jitter.uniform(1.0, 1.25))  # not all at the same moment
        self._failures += 1
        self._retry_at = now + pause

    def _wait(self, now: float) -> float:
        if self._steps and (self._steps[0].seq < self._urgent_before or self._full()):
            return 0.0
        if not self._steps:
            return 0.0 if self._last is not None else float("inf")
        return max(0.0, self._steps[0].posted_at + self.settings.max_delay - now)

    def _full(self) -> bool:
        return len(self._steps) >= self.settings.batch_steps or self._buffered >= self.settings.batch_bytes

    def _batch(self) -> Request:
        count, size = 0, len(END)
        room = min(self.settings.batch_bytes, self.limits.max_body_bytes)
        for step in islice(self._steps, min(self.settings.batch_steps, self.limits.max_steps)):
            size += step.size
            if count and size > room:
                break
            count += 1
        steps = list(islice(self._steps, count))
        if any(step.members for step in steps):
            media_type, body = "application/x-tar", archive(file for step in steps for file in _files(step))
        else:
            media_type, body = "application/x-ndjson", b"".join(step.text + b"\n" for step in steps)
        headers = {"Content-Type": media_type, "Ingest-First-Seq": str(steps[0].seq)}
        return Request("POST", self._path("/steps"), headers, body)

    def _end(self) -> Request:
        body = msgspec.json.encode({"next_seq": self._last})
        return Request("POST", self._path("/end"), {"Content-Type": "application/json"}, body)

    def _path(self, rest: str = "") -> str:
        return f"/v1/sessions/{self.session_id}{rest}"

    def _steps_from(self, request: Request) -> int:
        return int(request.headers.get("Ingest-First-Seq", self.next_seq))

    def _check_size(self, content: int, archived: int) -> None:
        limits = self.limits
        if content > limits.max_step_bytes or archived + len(END) > limits.max_body_bytes:
            raise StepTooLarge(
                f"step {self.next_seq} has {content} bytes, but the gateway takes {limits.max_step_bytes} in a step "
                f"and {limits.max_body_bytes} in a request"
            )


def step_fields(
    inputs: Mapping[str, Any] | None,
    at: float | None,
    is_reset: bool,
    is_eos: bool,
    model_version: str | None,
    members: Mapping[str, bytes],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """A step as the gateway reads it, without its seq; raises `ValueError` for what it would not take."""
    taken = RESERVED & extra.keys()
    if taken:
        raise ValueError(f"extra: {sorted(taken)} are fields of every step; give them by their own argument")
    for extension in members:
        if extension == "json" or not EXTENSION.fullmatch(extension):
            raise ValueError(f"members: {extension!r} must be a lower-case extension such as png, and not json")
    fields: dict[str, Any] = {"time": time.time() if at is None else at, "inputs": inputs, **extra}
    flags = {"is_reset": is_reset, "is_eos": is_eos}
    fields.update({name: True for name, flag in flags.items() if flag})
    if model_version is not None:
        fields["model_version"] = model_version
    return fields


def _files(step: _Step) -> list[Member]:
    members = [Member(f"{step.seq:06d}.{extension}", content) for extension, content in step.members.items()]
    return [Member(f"{step.seq:06d}.json", step.text), *members]


def _retry_after(header: str | None) -> float | None:
    """The seconds in a Retry-After header, which may also be a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
