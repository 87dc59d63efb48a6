"""The rules agent: what an experienced operator does without thinking about it.

spike       the loss jumps and stays up    → the last checkpoint before it, and half the learning rate
not_finite  the loss is NaN                → the same; where that checkpoint is poisoned too, an earlier one; where
                                             none is left, the layers that hold NaN are reset
plateau     nothing improves any more      → half the learning rate
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from control.agents.observation import Observation, Points, finite_values
from control.agents.policy import Action, Decision, First, Policy
from control.api import CheckpointInfo
from control.protocol import CommandName

SPIKE, NOT_FINITE, PLATEAU = "rule:spike", "rule:not_finite", "rule:plateau"
LOSS = "loss"
POISONED = "poisoned_layers"
"""The health check that finds layers that hold NaN."""
SIGMA = 1.4826
"""Of a normal distribution: its standard deviation over its median absolute deviation."""


class SpikeSettings(BaseModel):
    """A spike: the last `patience` losses lie more than `deviations` robust standard deviations above the median of the
    `window` before them, and by `least` of it at least."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    window: int = Field(50, ge=8)
    patience: int = Field(3, ge=1)
    deviations: float = Field(6.0, gt=0)
    least: float = Field(0.2, ge=0)
    factor: float = Field(0.5, gt=0, lt=1, description="on the learning rate")


class PlateauSettings(BaseModel):
    """A plateau: over `patience` steps the best value of `metric` fell by less than `least` of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    metric: str = LOSS
    patience: int = Field(500, ge=10)
    least: float = Field(0.005, ge=0)
    smooth: int = Field(20, ge=1, description="points that are averaged, as single ones are noisy")
    factor: float = Field(0.5, gt=0, lt=1)


class RulesSettings(BaseModel):
    """Which rules hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_finite: bool = True
    spike: SpikeSettings = SpikeSettings()
    plateau: PlateauSettings = PlateauSettings()


class Retreat:
    """Ways back. A run that comes to grief twice from one checkpoint would do so a third time: going on from it is
    deterministic, and a load restores its learning rate. So each further visit lowers the rate once more, and after
    three an earlier checkpoint is taken.
    """

    VISITS = 3

    def __init__(self) -> None:
        self._visits: dict[str, int] = {}

    def before(self, seen: Observation, step: int, factor: float) -> tuple[CheckpointInfo | None, list[Action]]:
        """The newest good checkpoint of the branch's line that was saved before a step, and what brings one there."""
        known = [
            each
            for each in seen.checkpoints
            if each.step is not None and each.step < step and self._visits.get(each.uuid, 0) < self.VISITS
        ]
        own = [each for each in known if each.branch == seen.branch]
        found = max(own or known, key=lambda each: (each.step or 0, each.time), default=None)
        if found is None:
            return None, []
        load = Action(CommandName.LOAD_CHECKPOINT.value, {"uuid": found.uuid, "save_first": False})
        return found, [load, *[lower(factor)] * (1 + self._visits.get(found.uuid, 0))]

    def visited(self, decision: Decision) -> None:
        """One went back."""
        uuid = decision.saw.get("checkpoint")
        if uuid is not None:
            self._visits[uuid] = self._visits.get(uuid, 0) + 1

    def shun(self, uuid: str) -> None:
        """Never go back to this one again."""
        self._visits[uuid] = self.VISITS


def rules(settings: RulesSettings) -> Policy:
    """All rules that hold, the most urgent first."""
    chosen: list[Policy] = []
    if settings.not_finite:
        chosen.append(NotFinite())
    if settings.spike.enabled:
        chosen.append(Spike(settings.spike))
    if settings.plateau.enabled:
        chosen.append(Plateau(settings.plateau))
    return First(chosen)


class Spike:
    """Goes back to before a spike, and on from there with a lower rate."""

    def __init__(self, settings: SpikeSettings) -> None:
        self._settings = settings
        self._retreat = Retreat()

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        settings, points = self._settings, seen.metrics.get(LOSS, ())
        recent, before = points[-settings.patience :], points[: -settings.patience][-settings.window :]
        base = finite_values(before)
        if len(base) < max(8, settings.window // 2) or len(recent) < settings.patience:
            return None
        median = statistics.median(base)
        spread = SIGMA * statistics.median([abs(value - median) for value in base])
        limit = median + max(settings.deviations * spread, settings.least * abs(median))
        lowest = min((value for _, value in recent if value is not None), default=None)
        saw: dict[str, Any] = {"median": median, "limit": limit, "lowest_of_last": lowest, "step": seen.step}
        if lowest is None or lowest <= limit:
            return Decision(SPIKE, f"the loss is below {limit:.4g}", saw=saw)
        first = recent[0][0]
        back, actions = self._retreat.before(seen, first, settings.factor)
        where = f"back to step {back.step}" if back else "no good checkpoint is older, so only the rate falls"
        said = f"the loss is above {limit:.4g} since step {first} (median before: {median:.4g}); {where}"
        saw["checkpoint"] = back.uuid if back else None
        return Decision(SPIKE, said, actions or [lower(settings.factor)], saw)

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        if decision.by == SPIKE:
            self._retreat.visited(decision)


class NotFinite:
    """Goes back to before the first number that was not finite; resets what is poisoned where that does not help."""

    def __init__(self, factor: float = 0.5) -> None:
        self._factor = factor
        self._retreat = Retreat()
        self._loaded: tuple[str, int] | None = None

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        first = first_broken(seen.metrics.get(LOSS, ()))
        if first is None:
            return None
        if self._loaded is not None and first <= self._loaded[1] + 1:  # broken from its first step on
            self._retreat.shun(self._loaded[0])
        back, actions = self._retreat.before(seen, first, self._factor)
        saw: dict[str, Any] = {"first_step": first, "step": seen.step, "checkpoint": back.uuid if back else None}
        since = f"the loss is not finite since step {first}"
        if back is not None:
            saw["checkpoint_step"] = back.step
            said = f"{since}; back to the checkpoint of step {back.step}"
            return Decision(NOT_FINITE, said, actions, saw)
        poisoned = next((each for each in reversed(seen.warnings) if each.check == POISONED and each.suggest), None)
        if poisoned is None:
            return Decision(NOT_FINITE, f"{since}; no good checkpoint is older, and no layer was named", saw=saw)
        layers = list(poisoned.layers)
        said = f"{since}, and no good checkpoint is older: what holds NaN ({', '.join(layers)}) begins anew"
        mend = [Action(each["command"], each["arguments"]) for each in poisoned.suggest]
        return Decision(NOT_FINITE, said, mend, saw | {"layers": layers})

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        if decision.by == NOT_FINITE and decision.saw["checkpoint"] is not None:
            self._retreat.visited(decision)
            self._loaded = (decision.saw["checkpoint"], decision.saw["checkpoint_step"])


class Plateau:
    """Lowers the rate where nothing improves any more."""

    def __init__(self, settings: PlateauSettings) -> None:
        self._settings = settings
        self._since = -1
        """The step of the last lowering: from there on, improvement is looked for anew."""

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        settings = self._settings
        points = seen.metrics.get(settings.metric) or seen.evaluations.get(settings.metric) or ()
        if self._since > seen.step:  # gone back
            self._since = -1
        smoothed = _smoothed([(at, value) for at, value in points if value is not None], settings.smooth)
        start = seen.step - settings.patience
        before = [value for at, value in smoothed if at <= start]
        after = [value for at, value in smoothed if at > start]
        if not before or not after or start < self._since:
            return None
        best, lately = min(before), min(after)
        saw = {"best_before": best, "best_since": lately, "patience": settings.patience, "step": seen.step}
        if lately < best - settings.least * abs(best):
            return Decision(PLATEAU, f"{settings.metric} still improves ({best:.4g} → {lately:.4g})", saw=saw)
        said = f"the best {settings.metric} of the last {settings.patience} steps is {lately:.4g}, before {best:.4g}"
        return Decision(PLATEAU, said, [lower(settings.factor)], saw)

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        if decision.by == PLATEAU:
            self._since = decision.saw["step"]


def lower(factor: float) -> Action:
    """A lower rate."""
    return Action(CommandName.UPDATE_OPTIMIZER.value, {"lr": {"scale": factor}})


def first_broken(points: Points) -> int | None:
    """The step from which on no number is finite any more; None where the newest one is."""
    first: int | None = None
    for step, value in reversed(points):
        if value is not None:
            break
        first = step
    return first


def _smoothed(points: Sequence[tuple[int, float]], width: int) -> list[tuple[int, float]]:
    smoothed: list[tuple[int, float]] = []
    total = 0.0
    for index, (step, value) in enumerate(points):
        total += value
        if index >= width:
            total -= points[index - width][1]
        if index + 1 >= width:
            smoothed.append((step, total / width))
    return smoothed
