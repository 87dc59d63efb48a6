"""Sessions, steps, samples and their places in the log: the frozen types that cross this room's borders.

All are `msgspec.Struct`s: they encode to MessagePack without a schema of their own, refuse fields of a wrong type
when decoded, and cannot be changed. `seq` counts a session's steps 0, 1, 2 … and is given by the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

STEPS = "steps"
SAMPLES = "samples"
DEAD = "dead"
DELETIONS = "deletions"
CERTIFICATES = "certificates"

OWNERS: Mapping[str, str] = {
    STEPS: "gateway",
    DELETIONS: "gateway",
    SAMPLES: "annotator",
    DEAD: "annotator",
    CERTIFICATES: "keeper",
}
"""All topics of a log, and the writer of each."""

ARCHIVER = "archiver"
"""The name under which archivers divide the partitions among themselves."""

Point: TypeAlias = tuple[int, int]
"""A place between samples of one partition, ordered: (offset, index in the record)."""


class Position(msgspec.Struct, frozen=True, order=True):
    """Names one sample: its topic, partition, the offset of its record and its index in that record."""

    topic: str
    partition: int
    offset: int
    index: int


class Rejection(msgspec.Struct, frozen=True):
    """Why a step was not taken for what it says: it keeps its `seq`, and becomes a dead letter.

    `reason` is a stable code; `pointer` (RFC 6901) says where in the step, `schema` by which version of the app's schema
    (`desktop/2`; None: by the rules of the wire). `original` is the step's JSON as it came, where its fields could not
    be kept as those of a `Step`.
    """

    reason: str
    detail: str
    pointer: str = ""
    schema: str | None = None
    original: bytes | None = None


class Step(msgspec.Struct, frozen=True):
    """One interaction of one user. `(session_id, seq)` is its identity, from the app to the gradient.

    `time` is the client's clock and `received_at` the gateway's, both in Unix seconds. `inputs` is the app's own JSON
    object (None where nothing was pressed or moved). `members` holds binary parts by extension (`png`, `npy`, …);
    `extra` holds further JSON fields that the app sent. A step with `rejected` is fed to no annotator.
    """

    session_id: str
    seq: int
    time: float
    received_at: float
    inputs: Mapping[str, Any] | None = None
    is_reset: bool = False
    is_eos: bool = False
    model_version: str | None = None
    members: Mapping[str, bytes] = {}
    extra: Mapping[str, Any] = {}
    rejected: Rejection | None = None


class EndReason(StrEnum):
    """Why a session ended."""

    CLIENT = "client"  # the app said so
    EOS = "eos"  # a step carried `is_eos`
    TIMEOUT = "timeout"  # the gateway closed it after a silence


class SessionOpened(msgspec.Struct, frozen=True, tag="opened"):
    """A visit began. `metadata` is what the app said of it (screen, frames a second, app version, …).

    `subject` is the person's pseudonym, where the app named one (`ingest.subjects`).
    `consent` is what the user agreed to: `version`, `granted_at` (Unix seconds) and `purposes`.
    """

    session_id: str
    app: str
    time: float
    metadata: Mapping[str, Any] = {}
    subject: str | None = None
    consent: Mapping[str, Any] | None = None


class StepsAppended(msgspec.Struct, frozen=True, tag="steps"):
    """One or more consecutive steps of one session, in order of `seq`; `traceparent` is that of their request."""

    session_id: str
    steps: tuple[Step, ...]
    traceparent: str | None = None


class SessionEnded(msgspec.Struct, frozen=True, tag="ended"):
    """A visit ended; `next_seq` is the number of steps that it had."""

    session_id: str
    next_seq: int
    reason: EndReason
    time: float


class SessionDeleted(msgspec.Struct, frozen=True, tag="deleted"):
    """A session's tombstone: from here on nobody is given anything of it; it is the last record of its session.

    It stands in the topic `steps`, in order, and in `deletions`, which readers follow. `deletion` names the request
    (`session.…` or `subject.…`); `opened_at` is None where the session was not known any more.
    """

    session_id: str
    deletion: str
    time: float
    opened_at: float | None = None


class Sample(msgspec.Struct, frozen=True):
    """What the trainer reads, in WebDataset form: members by extension.

    It belongs to the step `(session_id, seq)`; `index` counts the samples of that step. Samples that an annotator puts
    out when the session ends carry `seq = next_seq`, one past the last step. `time` is when the step was received;
    `traceparent` (W3C) is that of the request which brought it.
    """

    session_id: str
    seq: int
    index: int
    time: float
    members: Mapping[str, bytes]
    model_version: str | None = None
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """The WebDataset `__key__`: unique over all sessions, without a dot."""
        return f"{self.session_id}/{self.seq:06d}-{self.index:02d}"


class StepOutcome(msgspec.Struct, frozen=True):
    """What became of one step: the number of its samples (0: nothing), or a dead letter.

    A step has one outcome of attempt 1. A dead letter that is retried gets another one, of the next attempt, which
    takes the place of those before: the outcome of a step is that of its highest attempt.
    """

    seq: int
    samples: int = 0
    dead: bool = False
    attempt: int = 1


class Annotated(msgspec.Struct, frozen=True, tag="annotated"):
    """A record of the topic `samples`: outcomes of consecutive steps of one session, and their samples in order.

    `len(samples)` may be 0, so readers meet offsets without samples; a sample's `Position.index` is its place in
    `samples`.
    """

    session_id: str
    outcomes: tuple[StepOutcome, ...]
    samples: tuple[Sample, ...]


class DeadLetter(msgspec.Struct, frozen=True, tag="dead"):
    """A record of the topic `dead`: a step that was not turned into samples, with all of its bytes and the reason.

    It describes itself: `step.rejected` says which rule of which schema the step broke where the gateway found it, and
    `problem` how the annotator failed otherwise. `episode` is where its episode began (None in letters of older
    versions), and `opened` what the app said of the session. `samples` were put out under its seq all the same: the last
    ones of the episode before. With `at_end` it was the end of the episode that failed, and `step` stands one past the
    episode's last.
    """

    step: Step
    problem: str
    source: Position
    time: float
    attempts: int = 1
    episode: Point | None = None
    samples: int = 0
    at_end: bool = False
    opened: SessionOpened | None = None


class StepRetried(msgspec.Struct, frozen=True, tag="retried"):
    """A dead letter that is to be annotated again; `place` names it in the topic `dead`."""

    session_id: str
    place: Position
    letter: DeadLetter
    time: float


SessionRecord: TypeAlias = SessionOpened | StepsAppended | SessionEnded | SessionDeleted | StepRetried
"""What a record of the topic `steps` holds."""
