"""The command protocol: the paper's envelope, its typed form, and the messages between server and actors.

An *actor* (a trainer, the publisher, an app's own) connects to the server, says which commands it takes, and reports.
Server and actors share these types and nothing else.
"""

from __future__ import annotations

import math
import time
import uuid as uuids
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PROTOCOL = 1

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What runs, branches, actors and followers may be called: safe as a file name and in a URL."""


class Frozen(BaseModel):
    """A border type: frozen, without unknown fields, and every number in it finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


MAX_DEPTH = 64


def finite(value: Any, depth: int = 0) -> Any:
    """The value as every JSON reader takes it: what is not finite is null, what has no UTF-8 is replaced, at any depth.

    Integers of more than 64 bits become floating. Raises ValueError for what is nested more than MAX_DEPTH deep.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return finite(float(value)) if value.bit_length() < 1024 else None
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep; flatten it")
    if isinstance(value, dict):
        return {finite(str(key)): finite(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item, depth + 1) for item in value]
    return value


def _plain(value: Any) -> Any:
    return finite(value)  # pydantic would take `depth` for its own second argument


Body: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_plain)]
Value: TypeAlias = Annotated[Any, BeforeValidator(_plain)]


class CommandName(StrEnum):
    """The commands of the paper (A.2) and ours. A package may register others: names stay plain strings on the wire."""

    UPDATE_OPTIMIZER = "update_optimizer"
    UPDATE_TRAINING = "update_training"
    SAVE_CHECKPOINT = "save_checkpoint"
    LOAD_CHECKPOINT = "load_checkpoint"
    DESCRIBE_BRANCH = "describe_branch"  # taken by the server itself
    DELETE_BRANCH = "delete_branch"
    START_TRAINING = "start_training"  # taken by the server itself: a stopped run is wanted again
    PAUSE_TRAINING = "pause_training"
    RESUME_TRAINING = "resume_training"
    STOP_TRAINING = "stop_training"
    MODEL_LAYER_OPERATION = "model_layer_operation"
    MODEL_LAYER_PARAMETER_UPDATE = "model_layer_parameter_update"
    UPDATE_DATASET = "update_dataset"
    UPDATE_DATASET_RUNTIME_HYPERPARAMETERS = "update_dataset_runtime_hyperparameters"
    DO_EVALUATE = "do_evaluate"
    PUBLISH_CHECKPOINT = "publish_checkpoint"
    PROMOTE_VERSION = "promote_version"
    ROLLBACK_VERSION = "rollback_version"
    PIN_VERSION = "pin_version"
    RELEASE_CHANNEL = "release_channel"


class Status(StrEnum):
    """Where a command stands, in the paper's words. `completed` is understood and never sent."""

    REQUESTED = "requested"  # accepted
    PENDING = "pending"  # queued for the actor
    RUNNING = "running"
    COMPLETED = "completed"
    SUCCESS = "success"
    FAILED = "failed"


class CommandKind(StrEnum):
    """What becomes of a command when its actor dies, and what a load undoes."""

    ACTION = "action"  # done once; cut off by a death, it fails
    SETTING = "setting"  # desired state: delivered again when the actor resumes from an older checkpoint
    RESTORE = "restore"  # takes the settings back to those of a checkpoint (`load_checkpoint`)


class RunStatus(StrEnum):
    """What a run does, in the words of its trainer; `disconnected` is the server's."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"  # by a command
    FINISHED = "finished"  # reached its last step
    CRASHED = "crashed"
    DISCONNECTED = "disconnected"

    @property
    def over(self) -> bool:
        """Whether the trainer has said that it goes no further."""
        return self in (RunStatus.STOPPED, RunStatus.FINISHED, RunStatus.CRASHED)


class DesiredState(StrEnum):
    """What people want of a run, kept over crashes and restarts; `stopped` holds until `start_training`."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class ActorKind(StrEnum):
    """Actors that the server knows something about. Others may take any name."""

    TRAINER = "trainer"  # its coming and going is the run's
    PUBLISHER = "publisher"


class Outcome(StrEnum):
    """How a command ended; every command has exactly one. The last three are `failed` in the paper's words."""

    SUCCESS = "success"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"

    @property
    def status(self) -> Status:
        """The paper's word for it."""
        return Status.SUCCESS if self is Outcome.SUCCESS else Status.FAILED


def new_uuid() -> str:
    """A fresh identity for a command."""
    return uuids.uuid4().hex


class WireCommand(BaseModel):
    """The paper's envelope (A.1): `args` is JSON in a string. Unknown fields are ignored, as its clients send some."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    command: str
    args: str | None = ""
    time: float = 0.0
    uuid: str = ""
    status: str = Status.REQUESTED.value


class Command(Frozen):
    """A command as it travels inside: who wants what of which run.

    `time` is when it was issued, `expires_at` when it is no longer wanted (Unix seconds): one that was not begun by
    then expires. The commands of a run are numbered 1, 2, 3 … as they come; the run's *revision* is the number of the
    newest one that succeeded. `expected_revision` rejects a command when another came in between.
    """

    uuid: str = Field(default_factory=new_uuid, min_length=1, max_length=128)
    command: str = Field(min_length=1, max_length=128)
    arguments: Body = {}
    run: str | None = None
    author: str = "unknown"
    note: str = ""
    time: float = Field(default_factory=time.time)
    expires_at: float | None = None
    expected_revision: int | None = None
    dry_run: bool = False


class Report(Frozen):
    """What an actor says of a command. `outcome` is set exactly when `status` is final."""

    uuid: str
    status: Status
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None
    takes_effect_at: int | None = None
    before: Value = None
    after: Value = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        said = Status.SUCCESS if self.status is Status.COMPLETED else self.status
        final = said if said in (Status.SUCCESS, Status.FAILED) else None
        if final is not (self.outcome.status if self.outcome else None):
            raise ValueError(
                f"status {self.status.value!r} with outcome {self.outcome and self.outcome.value!r}: an outcome is "
                "given exactly with a final status, 'success' with success and 'failed' with every other"
            )
        return self


class CommandSpec(Frozen):
    """A command that an actor takes: its arguments as JSON Schema (with the actor's bounds), and how it is shown."""

    name: str
    summary: str
    arguments: dict[str, Any]
    destructive: bool = False
    kind: CommandKind = CommandKind.ACTION


class EventType(StrEnum):
    """What an event tells."""

    METRICS = "metrics"  # numbers of one step: loss, grad_norm, learning_rate, per-source figures
    COMMAND = "command"  # a command's new state
    RUN = "run"  # running, paused, stopped, crashed, finished
    CHECKPOINT = "checkpoint"  # saved or deleted
    BRANCH = "branch"  # a segment began
    MIXTURE = "mixture"  # requested and actual shares
    EVALUATION = "evaluation"
    VERSION = "version"  # published, promoted, rolled back
    FOLLOWER = "follower"  # what a server serves
    HEALTH = "health"  # warnings of training
    PIPELINE = "pipeline"  # rates and lags of gateway, log, annotator, archiver
    LOG = "log"  # a line for people
    ACTOR = "actor"  # connected, gone
    AGENT = "agent"  # what an agent saw, wants or did


class Event(Frozen):
    """One thing that happened. `seq` is the server's and grows by one over all runs; 0 until it is stored."""

    seq: int = 0
    time: float = Field(default_factory=time.time)
    run: str
    type: EventType
    branch: str = "main"
    step: int | None = None
    level: Literal["info", "warning", "error"] = "info"
    body: Body = {}


# Actor -> server


class Hello(Frozen):
    """First message of an actor. `state` is what the info endpoints show, by the keys of `control.bodies.StateKey`.

    `instance` names the process: with the same one a connection goes on, with another the process before it is dead.
    `revision` is the one that the actor's state holds (that of the checkpoint it resumed from, 0 without one): settings
    that succeeded later are delivered again. None asks for nothing again (a publisher; a run begun anew).
    `starts` says that a person started this process, which ends an earlier stop.
    """

    type: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    actor: str = Field(pattern=NAME_PATTERN)
    kind: str
    run: str = Field(pattern=NAME_PATTERN)
    commands: tuple[CommandSpec, ...] = ()
    state: Body = {}
    instance: str = Field(default_factory=new_uuid, min_length=1, max_length=128)
    revision: int | None = None
    starts: bool = False


class Said(Frozen):
    """Events of an actor, numbered by the actor so that a resend after a reconnect is not stored twice."""

    type: Literal["events"] = "events"
    first: int
    events: tuple[Event, ...]


class Reported(Frozen):
    """A command's new state, numbered in the same count as events."""

    type: Literal["report"] = "report"
    number: int
    report: Report


class StateChanged(Frozen):
    """New values for the info endpoints, merged over those of `Hello` by top-level key."""

    type: Literal["state"] = "state"
    state: Body


class Alive(Frozen):
    """A sign of life, every second in which nothing else was said. Not stored, and not answered."""

    type: Literal["alive"] = "alive"


class Goodbye(Frozen):
    """The actor ends and will not come back as this instance; what it had not finished fails at once."""

    type: Literal["goodbye"] = "goodbye"
    reason: str = ""


FromActor: TypeAlias = Annotated[Hello | Said | Reported | StateChanged | Alive | Goodbye, Field(discriminator="type")]


# Server -> actor


class Deliver(Frozen):
    """A command for the actor, with its number in the run.

    `again`: a setting that had succeeded and that the actor's state lost; apply it, its outcome stays as it was.
    """

    type: Literal["command"] = "command"
    command: Command
    number: int
    again: bool = False


class Welcome(Frozen):
    """Answer to `Hello`: the last number that the server has stored from this instance (0: none), the run's revision,
    what people want of the run, and the settings that the actor's state lacks, oldest first."""

    type: Literal["welcome"] = "welcome"
    stored: int
    revision: int
    desired: DesiredState = DesiredState.RUNNING
    settings: tuple[Deliver, ...] = ()


class Ack(Frozen):
    """Everything of the actor up to `number` is stored."""

    type: Literal["ack"] = "ack"
    number: int


ToActor: TypeAlias = Annotated[Welcome | Deliver | Ack, Field(discriminator="type")]
