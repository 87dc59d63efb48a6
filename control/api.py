"""What `/api/v1` takes and answers: the models that `/openapi.json` is made of, and with it the dashboard's types.

Numbers that are not finite become null wherever they may occur. Times are Unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from control.bodies import MixtureBody
from control.protocol import NAME_PATTERN as NAME_PATTERN
from control.protocol import (
    Body,
    CommandKind,
    CommandSpec,
    DesiredState,
    Event,
    EventType,
    Frozen,
    Outcome,
    RunStatus,
    Status,
    Value,
)

UUID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
"""What a command may be known by: safe in a URL."""


class NewCommand(Frozen):
    """`POST /api/v1/commands`. `uuid` makes a resend harmless.

    `run` may be left out where one run takes the command, `author` (`rule:spike`, `llm:…`) where it is the token's
    name. Without `expires_at` the server's default holds.
    """

    command: str = Field(min_length=1, max_length=128)
    arguments: Body = Field(default_factory=dict)
    run: str | None = Field(default=None, max_length=64)
    uuid: str | None = Field(default=None, pattern=UUID_PATTERN)
    note: str = Field(default="", max_length=2000)
    author: str | None = Field(default=None, max_length=128)
    time: float | None = None
    expires_at: float | None = None
    expected_revision: int | None = None
    dry_run: bool = False


class CommandRecord(Frozen):
    """A command and where it stands. `number` is its place among the commands of its run (0: none was given).

    `outcome` is set exactly once, with `reason`, `final_at` and, where an actor acted, `step`, `before` and `after`.
    `actor` is who takes it (`control`: the server itself); `delivered_to` the process that has it; `client_uuid` the
    identity under which a client of the paper's paths knows it; `token` the name of the token that brought it.
    """

    uuid: str
    run: str
    number: int = 0
    command: str
    arguments: Body = Field(default_factory=dict)
    kind: CommandKind = CommandKind.ACTION
    actor: str | None = None
    author: str
    token: str = ""
    note: str = ""
    time: float
    received_at: float
    expires_at: float | None = None
    expected_revision: int | None = None
    dry_run: bool = False
    branch: str = "main"
    status: Status = Status.REQUESTED
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None
    takes_effect_at: int | None = None
    before: Value = None
    after: Value = None
    final_at: float | None = None
    delivered_to: str | None = None
    client_uuid: str | None = None


class CommandReport(Frozen):
    """One entry in the history of a command: what it became at a time."""

    seq: int
    time: float
    status: Status
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None


class CommandDetail(Frozen):
    """A command with its whole history, oldest first."""

    command: CommandRecord
    history: tuple[CommandReport, ...]


class CommandPage(Frozen):
    """Commands, newest first; `before` is the cursor of the next page, None at the end."""

    commands: tuple[CommandRecord, ...]
    before: int | None


class AuditEntry(Frozen):
    """Who wanted what, when, and what came of it. `seconds` is how long the outcome took."""

    time: float
    author: str
    note: str
    run: str
    branch: str
    command: str
    arguments: Body
    uuid: str
    outcome: Outcome | None
    reason: str
    step: int | None
    takes_effect_at: int | None
    before: Value
    after: Value
    dry_run: bool
    seconds: float | None


class AuditPage(Frozen):
    """Interventions, newest first; `before` is the cursor of the next page, None at the end."""

    entries: tuple[AuditEntry, ...]
    before: int | None


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


class MetricSeries(Frozen):
    """One metric of one branch, in columns of equal length, by step. With `downsampled`, a row stands for a bucket of
    steps: its last step and time, and the smallest, largest and mean value; else the three are the value itself."""

    branch: str
    metric: str
    downsampled: bool
    steps: tuple[int, ...]
    times: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    mean: tuple[float | None, ...]


class SeriesPage(Frozen):
    """Series of a run; `seq` is the event up to which they hold."""

    run: str
    seq: int
    series: tuple[MetricSeries, ...]


class Comparison(Frozen):
    """The same metrics of several runs, up to the event `seq`: a page of series for each run."""

    seq: int
    runs: tuple[SeriesPage, ...]


class EventPage(Frozen):
    """Events in order of `seq`. `last` is the cursor to go on from; `more` says that there are others already."""

    events: tuple[Event, ...]
    last: int
    more: bool


class VersionInfo(Frozen):
    """A version of the weights, and the channels that point at it now. `parent` is the version before it along its
    branch, `evaluation` what the trainer measured last before it."""

    run: str
    version: int
    branch: str
    segment: str
    step: int | None
    time: float
    action: str
    reason: str = ""
    bytes: int | None = None
    channels: tuple[str, ...] = ()
    parent: int | None = None
    evaluation: dict[str, float] = Field(default_factory=dict)


class ChannelInfo(Frozen):
    """A pointer to a version. While `held`, new versions do not move it."""

    run: str
    channel: str
    version: int
    time: float
    held: bool


class VersionList(Frozen):
    """Versions, newest first, and the channels."""

    versions: tuple[VersionInfo, ...]
    channels: tuple[ChannelInfo, ...]


class FollowerInfo(Frozen):
    """A server of weights, as of its last heartbeat at `time`."""

    run: str
    follower: str
    version: int | None
    channel: str
    time: float
    loaded_at: float | None = None
    error: str = ""
    lag_seconds: float | None = None
    swaps: int | None = None


class FollowerList(Frozen):
    """Followers by name."""

    followers: tuple[FollowerInfo, ...]


class NewDesired(Frozen):
    """`POST /api/v1/runs/{run}/desired`."""

    state: DesiredState
    note: str = ""


class Desired(Frozen):
    """What people want of a run. `command` is the command that a change was turned into, None where nothing changed."""

    run: str
    state: DesiredState
    author: str
    time: float
    command: CommandRecord | None = None


class ReportedEvent(Frozen):
    """An event from a reporter that keeps no connection (a pipeline's figures, a follower's heartbeat)."""

    run: str = Field(pattern=NAME_PATTERN)
    type: EventType
    time: float | None = None
    branch: str = "main"
    step: int | None = None
    level: Literal["info", "warning", "error"] = "info"
    body: Body = Field(default_factory=dict)


class NewReport(Frozen):
    """`POST /api/v1/report`."""

    events: tuple[ReportedEvent, ...] = Field(min_length=1, max_length=1000)


class ReportAccepted(Frozen):
    """The events are stored, up to `last`."""

    last: int


class Live(Frozen):
    """`/livez`."""

    status: Literal["ok"] = "ok"


class Ready(Frozen):
    """`/readyz`: the store can be written, and how far it is."""

    status: Literal["ok", "failing"]
    reason: str = ""
    seq: int


# Server -> watcher, over WS /api/v1/events


class WatchWelcome(Frozen):
    """First message to a watcher. `store` names the event table: with another name, earlier sequence numbers mean
    nothing. `first` is the oldest event that is still kept, `last` the newest."""

    type: Literal["welcome"] = "welcome"
    store: str
    first: int
    last: int


class WatchEvents(Frozen):
    """Events in order. `last` is where to go on from: it also counts those that a filter left out."""

    type: Literal["events"] = "events"
    last: int
    events: tuple[Event, ...]


class ProblemBody(Frozen):
    """RFC 9457 problem details, the body of every refusal (`application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    retryable: bool
    did_you_mean: str | None = None


WatchMessage = Annotated[WatchWelcome | WatchEvents, Field(discriminator="type")]
