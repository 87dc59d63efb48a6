"""What the gateway takes and answers as JSON; the same models make its OpenAPI description."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import SchemaViolation
from ingest.gateway.wire import read_object, storable
from ingest.sessions import Appended, Session, SessionIndex
from ingest.settings import GatewaySettings
from ingest.types import EndReason

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


class EndSession(_Model):
    """End a session. `next_seq` is how many steps it has, so that the end never outruns a step."""

    next_seq: int | None = Field(None, ge=0)


class Limits(_Model):
    """The numbers that a client needs. Sizes in bytes, times in seconds."""

    max_body_bytes: int
    max_step_bytes: int
    max_steps: int
    max_metadata_bytes: int
    idle_seconds: float

    @classmethod
    def of(cls, settings: GatewaySettings) -> Limits:
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})


class SessionReply(_Model):
    """A session as it is on disk. `durable_through` is -1 before the first step."""

    session_id: str
    state: Literal["open", "ended"]
    next_seq: int
    durable_through: int
    ended: EndReason | None = None
    expires_in_seconds: float | None = Field(None, description="until an open session is ended if nothing is posted")

    @classmethod
    def of(cls, session: Session, index: SessionIndex) -> SessionReply:
        return cls(
            session_id=session.session_id,
            state="open" if session.ended is None else "ended",
            next_seq=session.next_seq,
            durable_through=session.next_seq - 1,
            ended=session.ended,
            expires_in_seconds=index.expires_in(session.session_id) if session.ended is None else None,
        )


class OpenReply(SessionReply):
    """A session, and what a client may send to it."""

    limits: Limits


class AppendReply(_Model):
    """What became of a request's steps. All that is accepted is durable: the answer waits for the disk.

    `results` has the single key `all`, or one for each seq: `ok`, or `duplicate` (taken before, nothing was written).
    """

    next_seq: int
    accepted_through: int
    durable_through: int
    results: dict[str, Literal["ok", "duplicate"]]

    @classmethod
    def of(cls, appended: Appended) -> AppendReply:
        through = appended.session.next_seq - 1
        return cls(
            next_seq=appended.session.next_seq,
            accepted_through=through,
            durable_through=through,
            results=_results(appended),
        )


class Ready(_Model):
    """Whether new sessions should be sent here, and if not, why."""

    ready: bool
    reason: str | None = None


def read_model(model: type[M], body: bytes) -> M:
    """The JSON of a request, as `model`; raises `InvalidBody`, with the place of the first thing that is wrong."""
    try:
        return model.model_validate(storable(read_object(body or b"{}")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"/{part}" for part in first["loc"])
        raise SchemaViolation(place, first["type"], first["msg"].removeprefix("Value error, ")) from None


def _results(appended: Appended) -> dict[str, Literal["ok", "duplicate"]]:
    if not appended.duplicates:
        return {"all": "ok"}
    if not appended.taken:
        return {"all": "duplicate"}
    first, new = appended.first_seq, appended.first_seq + appended.duplicates
    end = new + appended.taken
    return {str(seq): "duplicate" if seq < new else "ok" for seq in range(first, end)}
