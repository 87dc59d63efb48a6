"""What the bodies of events hold, by type. An event of a type that is not named here holds what its sender likes.

Bodies may carry further fields: they are stored and shown as they came. A body that lacks what its type needs is kept
as an event too, but the tables (branches, checkpoints, versions, …) do not learn from it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from control.protocol import DesiredState, RunStatus


class Open(BaseModel):
    """A border type that lets further fields through."""

    model_config = ConfigDict(frozen=True, extra="allow")


class StateKey(StrEnum):
    """Top-level keys of an actor's state (`Hello.state`, `StateChanged.state`); others are shown as they are."""

    INFO = "info"  # {"start_time": unix seconds, "run_name": str, "max_steps": int, …}
    OPTIMIZER = "optimizer"  # effective values: {"lr": 1e-5, "weight_decay": 0.01, "max_grad_norm": 1.0, …}
    DATASET = "dataset"  # {"initialization_parameters": {…}, "interactive_parameters": {…}}
    MODEL = "model"  # {"name", "module_type", "operators": […], "hyperparameters": […], "children": [the same, …]}
    MIXTURE = "mixture"  # a `MixtureBody`
    AGENTS = "agents"  # the agents by name: {"enabled", "mode", "every", "limits", "chosen", "spent", "last"}


class RunBody(Open):
    """`run`: what the trainer does now. `max_steps` is None for an endless run."""

    status: RunStatus
    reason: str = ""
    max_steps: int | None = None


class BranchBody(Open):
    """`branch`: a segment began on the event's branch.

    `parent` and `forked_at` name the segment and step that it goes on from (None: from nothing); `checkpoint` is the
    uuid of the checkpoint that was loaded. Where another run saved that, `parent_run` names it, and `parent` is a segment
    of that run.
    """

    action: Literal["began"] = "began"
    segment: str
    parent: str | None = None
    forked_at: int | None = None
    checkpoint: str | None = None
    parent_run: str | None = None
    reason: Literal["fresh", "resume", "load"] = "fresh"
    note: str = ""


class BranchDescribedBody(Open):
    """`branch` events of the server: what people call the branch and note about it."""

    action: Literal["described"] = "described"
    title: str = ""
    note: str = ""


class BranchDeletedBody(Open):
    """`branch`: its checkpoints were deleted; its numbers stay."""

    action: Literal["deleted"] = "deleted"


class CheckpointBody(Open):
    """`checkpoint`: one was saved (visible under `path`) or deleted. `bytes` is its size."""

    uuid: str
    action: Literal["saved", "deleted"] = "saved"
    segment: str = ""
    path: str = ""
    bytes: int | None = None
    revision: int | None = None
    reason: str = ""


class MixtureSource(Open):
    """One source: the weight that was asked for, its share of all weights, and the share lately drawn."""

    weight: float
    share: float | None = None
    seen: float | None = None
    samples: int | None = None
    lag_seconds: float | None = None
    dry: bool = False


class MixtureBody(Open):
    """`mixture`: the sources by name; `version` counts changes of the weights."""

    version: int
    sources: dict[str, MixtureSource]


class VersionBody(Open):
    """`version`: what happened to one. `channel` is the pointer that moved; `held`: until someone releases it. A published
    one names the version before it along its branch, and the figures of the trainer's last evaluation. The server alone
    says `sampled`: that pictures of it came."""

    version: int
    action: Literal["published", "promoted", "rolled_back", "pinned", "released", "refused", "sampled", "deleted"]
    channel: str | None = None
    segment: str = ""
    reason: str = ""
    held: bool = False
    bytes: int | None = None
    seconds: float | None = None
    parent: int | None = None
    evaluation: dict[str, Any] = {}


class FollowerBody(Open):
    """`follower`: a heartbeat of a server that serves weights. `error`: why it could not take a newer version;
    `lag_seconds`: how long its channel has named a version that is not served here yet; `swaps`: versions taken so far."""

    follower: str
    version: int | None
    channel: str = "stable"
    loaded_at: float | None = None
    error: str = ""
    lag_seconds: float | None = None
    swaps: int | None = None


class HealthBody(Open):
    """`health`: a finding about training, with the check that made it, the number and the layers that it is about, and
    commands that would mend it: `{"command", "arguments"}` each."""

    check: str
    message: str
    value: float | None = None
    layer: str | None = None
    layers: tuple[str, ...] = ()
    suggest: tuple[dict[str, Any], ...] = ()


class PipelineBody(Open):
    """`pipeline`: figures of one component (gateway, annotator, archiver, publisher, …), numbers by name."""

    component: str


class LogBody(Open):
    """`log`: a line for people."""

    message: str


class AgentBody(Open):
    """`agent`: what an agent came to. `saw` holds the figures that it decided on, `commands` what it wants or did.

    `suggestion` names a decision that waits for somebody to accept it.
    """

    agent: str
    action: Literal["looked", "suggested", "withdrawn", "accepted", "acted", "refused", "failed"]
    by: str
    explanation: str = ""
    saw: dict[str, Any] = {}
    commands: tuple[dict[str, Any], ...] = ()
    suggestion: str | None = None
    reason: str = ""


class ActorBody(Open):
    """`actor`: one came or went. Written by the server only."""

    actor: str
    kind: str
    action: Literal["connected", "gone"]
    instance: str
    reason: str = ""


class DesiredBody(Open):
    """`run` events of the server: what people want of the run now."""

    desired: DesiredState
    author: str = ""


def body(model: Open) -> dict[str, Any]:
    """The model as an event's body."""
    return model.model_dump(mode="json")
