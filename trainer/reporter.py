"""What a trainer says of itself: events with run, branch and step, and the state that the server shows."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from control.bodies import (
    BranchBody,
    BranchDeletedBody,
    CheckpointBody,
    HealthBody,
    LogBody,
    MixtureBody,
    MixtureSource,
    Open,
    RunBody,
    StateKey,
    body,
)
from control.protocol import Event, EventType, RunStatus
from dataset import InteractiveMixture, MixtureStatistics
from trainer.checkpoints import Checkpoint
from trainer.errors import CommandRejected
from trainer.metrics import StepNumbers, metrics_body
from trainer.schedule import LearningRate
from trainer.segments import MAIN, Segment

if TYPE_CHECKING:
    from trainer.steering import Steering

Level = Literal["info", "warning", "error"]

ENDLESS = 10**9
"""`max_steps` of a run that goes on until it is stopped; 30 years at one step a second."""

LEVELS: Mapping[Level, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

logger = logging.getLogger(__name__)


class Reporter:
    """Speaks for one training; the other ranks keep silent."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._not_finite = False

    def say(
        self,
        kind: EventType,
        content: Mapping[str, Any],
        step: int | None = None,
        level: Level = "info",
        branch: str | None = None,
    ) -> None:
        """An event of any kind, at the present step and on the present branch unless others are given."""
        steering = self._steering
        if not steering.ranks.main:
            return
        if branch is None:
            branch = steering.segment.branch if steering.segment else MAIN
        at = steering.step if step is None else step
        steering.link.say(Event(run=steering.run, type=kind, branch=branch, step=at, level=level, body=dict(content)))

    def _tell(self, kind: EventType, content: Open, step: int | None = None, level: Level = "info") -> None:
        self.say(kind, body(content), step, level)

    # Events

    def status(self, status: RunStatus, reason: str = "") -> None:
        """What the run does now."""
        max_steps = self._steering.trainer.state.max_steps
        known = None if not max_steps or max_steps >= ENDLESS else max_steps
        level: Level = "error" if status is RunStatus.CRASHED else "info"
        self._tell(EventType.RUN, RunBody(status=status, reason=reason, max_steps=known), level=level)

    def metrics(self, numbers: StepNumbers) -> None:
        """The numbers of one step; a loss or gradient that is not finite is a warning of its own, once."""
        self.say(EventType.METRICS, metrics_body(numbers), numbers.step)
        if numbers.skipped:
            self.health("overflow", "the gradient overflowed and the optimizer left the step out", numbers.step)
        broken = [
            name
            for name, value in (("loss", numbers.loss), ("grad_norm", numbers.grad_norm))
            if value is not None and not math.isfinite(value)
        ]
        if broken and not self._not_finite:
            left_out = "; such steps change no weight" if numbers.dropped else ""
            message = f"{' and '.join(broken)} not finite since step {numbers.step}{left_out}"
            self.health("not_finite", message, numbers.step, "error")
        self._not_finite = bool(broken)

    def further_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Numbers that a Trainer logs beside loss, gradient and rate."""
        self.say(EventType.METRICS, metrics)

    def segment(self, segment: Segment) -> None:
        """A segment began."""
        fork = segment.parent
        content = BranchBody(
            segment=segment.id,
            parent=(fork.segment or fork.origin or None) if fork else None,
            forked_at=fork.step if fork else None,
            checkpoint=(fork.checkpoint or None) if fork else None,
            parent_run=(fork.run or None) if fork else None,
            reason=segment.reason.value,
            note=segment.note,
        )
        self._tell(EventType.BRANCH, content)

    def saved(self, checkpoint: Checkpoint) -> None:
        """A checkpoint became visible."""
        card = checkpoint.card
        content = CheckpointBody(
            uuid=card.uuid,
            segment=card.segment,
            path=str(checkpoint.path),
            bytes=checkpoint.bytes,
            revision=card.revision,
            reason=card.reason,
        )
        self._tell(EventType.CHECKPOINT, content, card.step)

    def branch_deleted(self, branch: str) -> None:
        """A branch has no checkpoints any more."""
        self.say(EventType.BRANCH, body(BranchDeletedBody()), branch=branch)

    def deleted(self, checkpoint: Checkpoint, reason: str = "retention") -> None:
        """A checkpoint was deleted."""
        card = checkpoint.card
        content = CheckpointBody(uuid=card.uuid, action="deleted", segment=card.segment, reason=reason)
        self._tell(EventType.CHECKPOINT, content, card.step)

    def mixture(self) -> None:
        """Requested and actual shares, rates and ages, where the data is a mixture."""
        dataset = self._steering.trainer.train_dataset
        if not self._steering.ranks.main or not isinstance(dataset, InteractiveMixture):
            return
        content = mixture_body(dataset.statistics())
        self._tell(EventType.MIXTURE, content)
        self.state({StateKey.MIXTURE: body(content)})

    def evaluation(self, metrics: Mapping[str, Any]) -> None:
        """The outcome of an evaluation."""
        self.say(EventType.EVALUATION, metrics)

    def health(self, check: str, message: str, step: int | None = None, level: Level = "warning", **more: Any) -> None:
        """A finding about training; `more` as `HealthBody` and its readers know it (`value`, `layer`, `suggest`, …)."""
        logger.log(LEVELS[level], "%s: %s", check, message)
        self._tell(EventType.HEALTH, HealthBody(check=check, message=message, **more), step, level)

    def log(self, message: str, level: Level = "info") -> None:
        """A line for people."""
        self._tell(EventType.LOG, LogBody(message=message), level=level)

    # State

    def state(self, state: Mapping[str, Any]) -> None:
        """Change what the server shows, by top-level key."""
        if self._steering.ranks.main:
            self._steering.link.set_state(**{str(key): value for key, value in state.items()})

    def everything(self) -> None:
        """Say anew what the server shows; at the beginning of a segment."""
        steering = self._steering
        trainer = steering.trainer
        info = {
            "run_name": steering.run,
            "start_time": segment.created_at if (segment := steering.segment) else None,
            "max_steps": trainer.state.max_steps,
            "folder": str(steering.folder.path.absolute()),
        }
        self.state({StateKey.INFO: info, StateKey.MODEL: steering.layers.tree()})
        self.optimizer()
        self.dataset()

    def optimizer(self) -> None:
        """The optimizer's numbers as they are now."""
        self.state({StateKey.OPTIMIZER: optimizer_state(self._steering.trainer)})

    def dataset(self) -> None:
        """The dataset's parameters as they are now, and the mixture that they make: a paused trainer says no more of it."""
        dataset = self._steering.trainer.train_dataset
        interactive = getattr(dataset, "interactive_parameters", None)
        content = {
            "initialization_parameters": dict(getattr(dataset, "construction", {})),
            "interactive_parameters": interactive() if callable(interactive) else {},
        }
        self.state({StateKey.DATASET: content})
        self.mixture()


def optimizer_state(trainer: Any) -> dict[str, Any]:
    """The numbers of the first parameter group, the factor over the schedule, and the limit on the gradient."""
    shown: dict[str, Any] = {"max_grad_norm": trainer.args.max_grad_norm}
    for name, value in trainer.optimizer.param_groups[0].items():
        if name != "params" and (value is None or isinstance(value, (bool, int, float, str, tuple, list))):
            shown[name] = list(value) if isinstance(value, tuple) else value
    try:
        rate = LearningRate(trainer.lr_scheduler)
    except CommandRejected:
        return shown
    return shown | {"lr": rate.value, "lr_scale": rate.scale}


def mixture_body(statistics: MixtureStatistics) -> MixtureBody:
    """The mixture's figures in the words of the control server, with all others beside; nothing is `seen` before a batch."""
    sources = {}
    for name, source in statistics.as_event()["sources"].items():
        rest = {key: value for key, value in source.items() if key not in ("weight", "requested", "actual", "samples")}
        sources[name] = MixtureSource(
            weight=source["weight"],
            share=source["requested"],
            seen=source["actual"] if statistics.samples else None,
            samples=source["samples"],
            lag_seconds=source["age"],
            dry=source["shortfall"] > 0,
            **rest,
        )
    return MixtureBody(version=statistics.version, sources=sources, seconds=statistics.seconds, total=statistics.total)
