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


class Step(msgspec.Struct, frozen=True):
    """One interaction of one user. `(session_id, seq)` is its identity, from the app to the gradient.

    `time` is the client's clock and `received_at` the gateway's, both in Unix seconds. `inputs` is the app's own JSON
    object (None where nothing was pressed or moved). `members` holds binary parts by extension (`png`, `npy`, …);
    `extra` holds further JSON fields that the app sent.
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


class EndReason(StrEnum):
    """Why a session ended."""

    CLIENT = "client"  # the app said so
    EOS = "eos"  # a step carried `is_eos`
    TIMEOUT = "timeout"  # the gateway closed it after a silence


class SessionOpened(msgspec.Struct, frozen=True, tag="opened"):
    """A visit began. `metadata` is what the app said of it (screen, frames a second, app version, …)."""

    session_id: str
    app: str
    time: float
    metadata: Mapping[str, Any] = {}


class StepsAppended(msgspec.Struct, frozen=True, tag="steps"):
    """One or more consecutive steps of one session, in order of `seq`."""

    session_id: str
    steps: tuple[Step, ...]


class SessionEnded(msgspec.Struct, frozen=True, tag="ended"):
    """A visit ended; `next_seq` is the number of steps that it had."""

    session_id: str
    next_seq: int
    reason: EndReason
    time: float


SessionRecord: TypeAlias = SessionOpened | StepsAppended | SessionEnded
"""What a record of the topic `steps` holds."""


class Sample(msgspec.Struct, frozen=True):
    """What the trainer reads, in WebDataset form: members by extension.

    It belongs to the step `(session_id, seq)`; `index` counts the samples of that step. Samples that an annotator puts
    out when the session ends carry `seq = next_seq`, one past the last step. `time` is when the step was received.
    """

    session_id: str
    seq: int
    index: int
    time: float
    members: Mapping[str, bytes]
    model_version: str | None = None

    @property
    def key(self) -> str:
        """The WebDataset `__key__`: unique over all sessions, without a dot."""
        return f"{self.session_id}/{self.seq:06d}-{self.index:02d}"


class StepOutcome(msgspec.Struct, frozen=True):
    """What became of one step: the number of its samples (0: nothing), or a dead letter."""

    seq: int
    samples: int = 0
    dead: bool = False


class Annotated(msgspec.Struct, frozen=True, tag="annotated"):
    """A record of the topic `samples`: outcomes of consecutive steps of one session, and their samples in order.

    `len(samples)` may be 0, so readers meet offsets without samples; a sample's `Position.index` is its place in
    `samples`.
    """

    session_id: str
    outcomes: tuple[StepOutcome, ...]
    samples: tuple[Sample, ...]


class DeadLetter(msgspec.Struct, frozen=True, tag="dead"):
    """A record of the topic `dead`: a step that the annotator could not turn into samples, with all of its bytes."""

    step: Step
    problem: str
    source: Position
    time: float
    attempts: int = 1
