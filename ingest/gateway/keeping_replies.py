"""What the doors of deletions and dead letters answer; the same models make their OpenAPI description."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from ingest.certificates import Certificate, State
from ingest.dead_letters import letter_id
from ingest.gateway.replies import DeadLettered
from ingest.types import DeadLetter, Position


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeletionReply(_Model):
    """A deletion. From its time on nothing of it is given to anybody; `certificate` says what was done since.

    `pending`: the archive may still hold some of it, hidden, until `due_by`. `erased`: the archive is clean of it.
    `gone`: the log has forgotten its copy too, as its retention says.
    """

    deletion: str
    state: State
    requested_at: float
    due_by: float
    sessions: list[str]
    certificate: dict[str, Any]

    @classmethod
    def of(cls, certificate: Certificate) -> DeletionReply:
        return cls(
            deletion=certificate.deletion,
            state=certificate.state,
            requested_at=certificate.requested_at,
            due_by=certificate.due_by,
            sessions=list(certificate.sessions),
            certificate=msgspec.to_builtins(certificate),
        )


class DeadLetterReply(_Model):
    """A step that could not be annotated, without its binary members: their names and sizes in bytes."""

    id: str
    session_id: str
    seq: int
    attempts: int
    problem: str
    dead_for_seconds: float
    at_end: bool = Field(description="it was the end of the episode that failed; `seq` is one past its last step")
    rejected: DeadLettered | None = Field(None, description="what was wrong with it, where the gateway found it")
    inputs: dict[str, Any] | None = None
    members: dict[str, int]
    source: dict[str, int | str]
    model_version: str | None = None

    @classmethod
    def of(cls, place: Position, letter: DeadLetter) -> DeadLetterReply:
        step = letter.step
        return cls(
            id=letter_id(place),
            session_id=step.session_id,
            seq=step.seq,
            attempts=letter.attempts,
            problem=letter.problem,
            dead_for_seconds=round(max(0.0, time.time() - letter.time), 3),
            at_end=letter.at_end,
            rejected=None if step.rejected is None else DeadLettered.of(step.rejected),
            inputs=None if step.inputs is None else dict(step.inputs),
            members={extension: len(value) for extension, value in step.members.items()},
            source=msgspec.to_builtins(letter.source),
            model_version=step.model_version,
        )


class DeadLettersReply(_Model):
    """The newest dead letters, newest first; `count` is of all that are kept, those of deleted sessions too."""

    count: int
    letters: list[DeadLetterReply]


class RetryReply(_Model):
    """The letter waits for the annotator; its outcome takes the place of the one before."""

    id: str
    session_id: str
    seq: int
