"""What the gateway takes and answers as JSON; the same models make its OpenAPI description."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import SchemaViolation
from ingest.gateway.wire import FRAME_OVERHEAD, MAX_DEPTH, MAX_MEMBERS, read_object, storable
from ingest.sessions import REMEMBERED, Appended, Batch, Session
from ingest.settings import GatewaySettings
from ingest.types import EndReason, Rejection

M = TypeVar("M", bound=BaseModel)

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


def _session_id(value: str) -> str:
    if not SESSION_ID.fullmatch(value):
        raise ValueError("8 to 64 letters, digits, - and _ are wanted")
    if value.startswith("__") and value.endswith("__"):
        raise ValueError("names like __this__ are hidden from readers of webdataset")
    return value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Consent(_Model):
    """What a user agreed to, and when (Unix seconds)."""

    version: str = Field(min_length=1, max_length=64)
    granted_at: float = Field(ge=0, lt=1e11, allow_inf_nan=False)
    purposes: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field([], max_length=32)


class OpenSession(_Model):
    """Begin a session. An id of your own must never have been used before; without one you are given one."""

    app: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="the deployed app's name")
    session_id: Annotated[str, AfterValidator(_session_id)] | None = Field(
        None,
        description=f"`{SESSION_ID.pattern}`; opening again with the same body is answered with the session as it is",
    )
    subject: str | None = Field(
        None, min_length=1, max_length=256, description="your id of the person; only a pseudonym of it is kept"
    )
    metadata: dict[str, Any] = Field({}, description="what is true of the whole session: screen, app version, …")
    schema_version: str | None = Field(
        None, max_length=64, description="of the app's session schema, which the steps are held to; else the newest"
    )
    consent: Consent | None = Field(None, description="what the user agreed to; some gateways insist")


class EndSession(_Model):
    """End a session. `next_seq` is how many steps it has, so that the end never outruns a step."""

    next_seq: int | None = Field(None, ge=0)


class MintToken(_Model):
    """Make a token with which one session's steps can be posted, and nothing else: for browsers."""

    session_id: str = Field(max_length=64)
    seconds: float | None = Field(None, gt=0, description="how long it holds; at most `append_token_seconds`")


class RateLimits(_Model):
    """What one key and one session may post a second; absent: as much as they like."""

    key_requests: float | None = None
    key_bytes: float | None = None
    session_requests: float | None = None
    session_bytes: float | None = None
    burst_seconds: float


class SocketLimits(_Model):
    """Of the WebSocket door: the credit that a socket begins with, and the largest message."""

    window_bytes: int
    max_message_bytes: int


class Limits(_Model):
    """The numbers that a client needs. Sizes in bytes, times in seconds."""

    max_headers_bytes: int
    max_body_bytes: int
    max_step_bytes: int
    max_steps: int
    max_metadata_bytes: int
    max_session_bytes: int
    max_members: int = MAX_MEMBERS
    max_depth: int = MAX_DEPTH
    remembered_steps: int = Field(REMEMBERED, description="of how many last steps other content is noticed (409)")
    idle_seconds: float
    stall_seconds: float
    body_seconds: float
    upload_seconds: float
    append_token_seconds: float
    encodings: tuple[str, ...] = ("identity", "gzip", "zstd")
    rates: RateLimits
    sockets: SocketLimits

    @classmethod
    def of(cls, settings: GatewaySettings) -> Limits:
        same = {
            name: getattr(settings, name)
            for name in cls.model_fields
            if name in type(settings).model_fields and name not in ("rates", "sockets")
        }
        sockets = SocketLimits(
            window_bytes=settings.sockets.window_bytes, max_message_bytes=settings.max_step_bytes + FRAME_OVERHEAD
        )
        return cls(**same, rates=RateLimits(**settings.rates.model_dump()), sockets=sockets)


class Expiring(Protocol):
    """Knows for how long a session stays open."""

    def expires_in(self, session_id: str) -> float | None: ...


class SessionReply(_Model):
    """A session as it is on disk. `durable_through` is -1 before the first step."""

    session_id: str
    state: Literal["open", "ended"]
    next_seq: int
    durable_through: int
    ended: EndReason | None = None
    expires_in_seconds: float | None = Field(None, description="until an open session is ended if nothing is posted")

    @classmethod
    def of(cls, session: Session, index: Expiring) -> SessionReply:
        return cls(
            session_id=session.session_id,
            state="open" if session.ended is None else "ended",
            next_seq=session.next_seq,
            durable_through=session.next_seq - 1,
            ended=session.ended,
            expires_in_seconds=index.expires_in(session.session_id) if session.ended is None else None,
        )


class TokenReply(_Model):
    """A token for one session, shown only now; `expires_at` in Unix seconds."""

    token: str
    session_id: str
    expires_at: float


class OpenReply(SessionReply):
    """A session, what a client may send to it, and a token that a browser may do it with."""

    limits: Limits
    append_token: TokenReply
    schema_version: str | None = Field(None, description="of the session schema that the steps are held to")


class DeadLettered(_Model):
    """A step that was taken with a fault: it keeps its seq, and goes to the dead letters with the reason.

    `pointer` says where in the step; `schema` is the version of the app's schema that it breaks.
    """

    result: Literal["dead_letter"] = "dead_letter"
    reason: str
    pointer: str
    detail: str
    schema_: str | None = Field(None, serialization_alias="schema")

    @classmethod
    def of(cls, rejection: Rejection) -> DeadLettered:
        return cls(
            reason=rejection.reason, pointer=rejection.pointer, detail=rejection.detail, schema_=rejection.schema
        )


Result: TypeAlias = Literal["ok", "duplicate"] | DeadLettered


class AppendReply(_Model):
    """What became of a request's steps. All that is accepted is durable: the answer waits for the disk.

    `results` has the single key `all`, or one for each seq: `ok`, `duplicate` (taken before, nothing was written), or
    an object for a step that was taken with a fault.
    """

    next_seq: int
    accepted_through: int
    durable_through: int
    results: dict[str, Result]

    @classmethod
    def of(cls, appended: Appended, batch: Batch) -> AppendReply:
        through = appended.session.next_seq - 1
        return cls(
            next_seq=appended.session.next_seq,
            accepted_through=through,
            durable_through=through,
            results=results_of(appended, batch),
        )


class WholeReply(SessionReply):
    """A session that was put as a whole. `results` names the first steps that were taken with a fault, by seq."""

    taken: int
    duplicates: int
    dead_letters: int
    results: dict[str, DeadLettered]


class Ready(_Model):
    """Whether new sessions should be sent here, and if not, why."""

    ready: bool
    reason: str | None = None


def json_reply(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as the answer; what it does not have is left out."""
    return Response(model.model_dump_json(exclude_none=True, by_alias=True), status, headers, "application/json")


def read_model(model: type[M], body: bytes | bytearray) -> M:
    """The JSON of a request, as `model`; raises `InvalidBody`, with the place of the first thing that is wrong."""
    try:
        return model.model_validate(storable(read_object(bytes(body) or b"{}")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"/{part}" for part in first["loc"])
        raise SchemaViolation(place, first["type"], first["msg"].removeprefix("Value error, ")) from None


def results_of(appended: Appended, batch: Batch) -> dict[str, Result]:
    """What became of each step of a batch; a fault is told again when its step comes again."""
    faults = {step.seq: DeadLettered.of(step.rejected) for step in batch.steps if step.rejected is not None}
    if not faults and not (appended.duplicates and appended.taken):
        return {"all": "duplicate" if appended.duplicates else "ok"}
    first, new = appended.first_seq, appended.first_seq + appended.duplicates
    end = new + appended.taken
    return {str(seq): faults.get(seq, "duplicate" if seq < new else "ok") for seq in range(first, end)}
