"""Runs, with their branches, checkpoints, actors and model."""

from __future__ import annotations

from control.bodies import MixtureBody
from control.protocol import Body, CommandSpec, DesiredState, Frozen, RunStatus


class ActorInfo(Frozen):
    """A process that takes commands. `connected` is now; `since` when that last changed."""

    actor: str
    kind: str
    connected: bool
    since: float
    instance: str


class SegmentInfo(Frozen):
    """One uninterrupted stretch of training. `parent` and `forked_at` say where it goes on from; `parent_run` is set where
    that is a segment of another run."""

    segment: str
    branch: str
    parent: str | None = None
    forked_at: int | None = None
    checkpoint: str | None = None
    parent_run: str | None = None
    reason: str = "fresh"
    note: str = ""
    time: float
    first_seq: int


class BranchInfo(Frozen):
    """A named chain of segments. `parent` and `forked_at` are those of its first segment's fork. `title` is what people
    call it, empty where they did not say; a `deleted` one has its numbers and no checkpoints."""

    branch: str
    title: str = ""
    note: str = ""
    deleted: bool = False
    parent: str | None = None
    forked_at: int | None = None
    time: float
    step: int | None = None
    segments: tuple[SegmentInfo, ...]


class CheckpointInfo(Frozen):
    """A saved checkpoint. `path` is where the trainer has it."""

    uuid: str
    run: str
    branch: str
    segment: str
    step: int | None
    time: float
    path: str
    bytes: int | None = None
    revision: int | None = None
    reason: str = ""


class LastMetrics(Frozen):
    """The newest numbers of a run: each metric's last value, and the step and time of the newest report."""

    step: int | None
    time: float
    branch: str
    values: dict[str, float | None]


class RunSummary(Frozen):
    """A run. `status` is `disconnected` while its trainer is away without having said that it is over."""

    run: str
    status: RunStatus
    reason: str = ""
    desired: DesiredState
    revision: int
    branch: str
    step: int | None
    max_steps: int | None = None
    created_at: float
    last_event_at: float
    actors: tuple[ActorInfo, ...]


class ActorCommand(Frozen):
    """A command that can be sent now or, while its actor is away, that would wait for it."""

    actor: str
    available: bool
    spec: CommandSpec


class RunDetail(RunSummary):
    """Everything that a page needs to draw a run; `seq` is the event up to which it holds, where a stream goes on.

    `state` is what the actors said of themselves, by key (`optimizer`, `dataset`, `info`, …) without the model tree,
    which has an address of its own.
    """

    seq: int
    commands: tuple[ActorCommand, ...]
    branches: tuple[BranchInfo, ...]
    checkpoints: tuple[CheckpointInfo, ...]
    mixture: MixtureBody | None
    optimizer: Body
    state: Body
    metrics: LastMetrics | None
    metric_names: tuple[str, ...]
    pipeline: dict[str, Body]


class ModelTree(Frozen):
    """The model as its trainer described it (see `control.bodies.StateKey.MODEL`); None before it did."""

    run: str
    model: Body | None


class RunList(Frozen):
    """All runs, those with the newest events first."""

    runs: tuple[RunSummary, ...]
