"""What an agent sees of a run: a frozen picture, made from the server's events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from control.api import CheckpointInfo
from control.bodies import HealthBody, MixtureBody
from control.client import ControlClient
from control.protocol import CommandName, Event, EventType, Outcome, RunStatus

Points: TypeAlias = tuple[tuple[int, float | None], ...]
"""A metric by step, oldest first; None where the number was not finite."""

WATCHED = (
    EventType.METRICS,
    EventType.EVALUATION,
    EventType.BRANCH,
    EventType.CHECKPOINT,
    EventType.RUN,
    EventType.MIXTURE,
    EventType.HEALTH,
    EventType.COMMAND,
)
KEPT = 2000
"""Steps of each metric that an agent can look back on."""
KEPT_WARNINGS = 100


@dataclass(frozen=True)
class Warned:
    """A health warning of the run, and the commands that would mend it, as the trainer has it."""

    step: int | None
    check: str
    message: str
    layers: tuple[str, ...] = ()
    suggest: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Observation:
    """A run at one moment. Metrics and evaluations are those of the branch, back over its forks.

    `optimizer` holds the newest numbers that the trainer said of it; `learning_rate` is the rate of the newest step.
    """

    run: str
    branch: str = "main"
    step: int = 0
    status: RunStatus = RunStatus.RUNNING
    revision: int = 0
    max_steps: int | None = None
    metrics: Mapping[str, Points] = field(default_factory=dict)
    evaluations: Mapping[str, Points] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    mixture: MixtureBody | None = None
    checkpoints: tuple[CheckpointInfo, ...] = ()
    warnings: tuple[Warned, ...] = ()

    @property
    def learning_rate(self) -> float | None:
        """The rate of the newest step; None before the first."""
        return self.newest("learning_rate")

    def newest(self, metric: str) -> float | None:
        """The newest finite value of a metric or evaluation; None where there is none."""
        points = self.metrics.get(metric) or self.evaluations.get(metric) or ()
        return next((value for _, value in reversed(points) if value is not None), None)


class Record:
    """Gathers what a server tells of one run; `picture` is what an agent is given. Safe to use from any thread."""

    def __init__(self, client: ControlClient, run: str) -> None:
        self._client, self.run = client, run
        self._news = threading.Condition()
        self._seen = Observation(run)
        self._series: dict[str, dict[int, float | None]] = {}
        self._evaluations: dict[str, dict[int, float | None]] = {}
        self._stale = True
        self._loaded = 0

    def follow(self, stopped: Callable[[], bool]) -> None:
        """Take events until `stopped`; ends within about a second of it. Errors of the client pass."""
        self._load()
        while not stopped():
            for event in self._client.events(self._loaded, run=self.run, types=WATCHED, idle=1.0):
                self.take(event)
                if stopped():
                    return
                if self._stale:
                    break
            if self._stale:
                self._load()

    def picture(self) -> Observation:
        """The run as it is known now."""
        with self._news:
            return self._draw()

    def wait(self, ready: Callable[[Observation], bool], timeout: float) -> Observation | None:
        """The first picture that is `ready`, looked at when something happens; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._news:
            while not ready(self._seen):
                if not self._news.wait(max(0.0, end - time.monotonic())):
                    return None
            return self._draw()

    def take(self, event: Event) -> None:
        """Take one event; those that were loaded already are left out."""
        with self._news:
            if event.seq and event.seq <= self._loaded:
                return
            self._loaded = max(self._loaded, event.seq)
            try:
                self._taken(event)
            except (ValidationError, TypeError, ValueError):
                return  # a body that its sender made up: nothing to be learned from it
            self._news.notify_all()

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._news:
            self._news.notify_all()

    def _load(self) -> None:
        """Everything as the server has it now; on a new branch, its line back over the forks."""
        pages = self._client.series(self.run, points=KEPT, lineage=True)
        detail = self._client.run(self.run)
        series: dict[str, dict[int, float | None]] = {}
        for page in pages.series:
            if page.branch == detail.branch:
                series[page.metric] = dict(zip(page.steps, page.mean, strict=True))
        evaluations = self._client.history(run=self.run, types=[EventType.EVALUATION], limit=500).events
        with self._news:
            self._series, self._evaluations = series, {}
            cut = detail.step
            for event in evaluations:
                if event.step is not None and (cut is None or event.step <= cut):
                    _note(self._evaluations, event.step, event.body)
            self._seen = Observation(
                self.run,
                detail.branch,
                detail.step or 0,
                detail.status,
                detail.revision,
                detail.max_steps,
                optimizer=detail.optimizer,
                mixture=detail.mixture,
                checkpoints=tuple(sorted(detail.checkpoints, key=lambda each: each.time)),
                warnings=tuple(each for each in self._seen.warnings if (each.step or 0) <= (detail.step or 0)),
            )
            self._stale = False
            self._loaded = min(pages.seq, detail.seq)
            self._news.notify_all()

    def _draw(self) -> Observation:
        return _with(self._seen, metrics=_points(self._series), evaluations=_points(self._evaluations))

    def _taken(self, event: Event) -> None:
        body, step = event.body, event.step
        if event.type is EventType.METRICS and step is not None and event.branch == self._seen.branch:
            _note(self._series, step, body)
            self._seen = _with(self._seen, step=max(self._seen.step, step))
        elif event.type is EventType.EVALUATION and step is not None:
            _note(self._evaluations, step, body)
        elif event.type is EventType.BRANCH:
            self._stale = True
        elif event.type is EventType.CHECKPOINT:
            self._checkpoint(event)
        elif event.type is EventType.RUN and "status" in body:
            self._seen = _with(self._seen, status=RunStatus(body["status"]))
        elif event.type is EventType.MIXTURE:
            self._seen = _with(self._seen, mixture=MixtureBody.model_validate(body))
        elif event.type is EventType.HEALTH:
            warned = HealthBody.model_validate(body)
            told = Warned(step, warned.check, warned.message, warned.layers, warned.suggest)
            self._seen = _with(self._seen, warnings=(*self._seen.warnings, told)[-KEPT_WARNINGS:])
        elif event.type is EventType.COMMAND and body.get("outcome") == Outcome.SUCCESS.value:
            self._succeeded(body)

    def _checkpoint(self, event: Event) -> None:
        body = event.body
        others = tuple(each for each in self._seen.checkpoints if each.uuid != body["uuid"])
        if body.get("action", "saved") == "saved":
            known = {key: body[key] for key in ("segment", "path", "bytes", "revision", "reason") if key in body}
            saved = CheckpointInfo(
                uuid=body["uuid"],
                run=self.run,
                branch=event.branch,
                step=event.step,
                time=event.time,
                **{"segment": "", "path": "", **known},
            )
            others = (*others, saved)
        self._seen = _with(self._seen, checkpoints=others)

    def _succeeded(self, body: Mapping[str, Any]) -> None:
        if body.get("dry_run"):
            return
        self._seen = _with(self._seen, revision=max(self._seen.revision, int(body.get("number") or 0)))
        after = body.get("after")
        if not isinstance(after, dict):
            return
        if body.get("command") == CommandName.UPDATE_OPTIMIZER:
            self._seen = _with(self._seen, optimizer={**self._seen.optimizer, **after})
        weights = after.get("weights")
        if isinstance(weights, dict) and self._seen.mixture is not None:  # figures of it come some seconds later
            self._seen = _with(self._seen, mixture=_turned(self._seen.mixture, weights))


def _with(seen: Observation, **changes: Any) -> Observation:
    return Observation(**{**seen.__dict__, **changes})


def _turned(mixture: MixtureBody, weights: Mapping[str, float]) -> MixtureBody:
    total = sum(weights.values())
    sources = {
        name: source.model_copy(update={"weight": weights[name], "share": weights[name] / total if total else None})
        for name, source in mixture.sources.items()
        if name in weights
    }
    return mixture.model_copy(update={"sources": {**mixture.sources, **sources}})


def _note(series: dict[str, dict[int, float | None]], step: int, body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            points = series.setdefault(name, {})
            points[step] = value
            if len(points) > KEPT:
                del points[next(iter(points))]


def _points(series: Mapping[str, Mapping[int, float | None]]) -> dict[str, Points]:
    return {name: tuple(sorted(points.items())) for name, points in series.items()}


def finite_values(points: Iterable[tuple[int, float | None]]) -> list[float]:
    """The finite values of a metric, in order."""
    return [value for _, value in points if value is not None]
