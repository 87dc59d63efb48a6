"""The data agent: moves the mixture's weights by what each source still teaches, within an operator's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from control.agents.bandit import Bandit, within
from control.agents.limits import Limits
from control.agents.observation import Observation, finite_values
from control.agents.policy import Action, Decision
from control.protocol import CommandName

BY = "data:bandit"
LOSS = "loss/"
"""How the metrics of a source's loss begin."""


class Task(BaseModel):
    """An evaluation that depends on a source: it is at its goal where it reaches `goal`.

    `worst` is the value at which nothing is learned yet. Where `helper` names shards, they are added to the mixture as
    the source `{source}-help` with `helper_weight` while this is the weakest task and more than `helper_gap` of the way
    is left (a scripted source, for instance).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str
    goal: float = 1.0
    worst: float = 0.0
    helper: str | None = None
    helper_weight: float = Field(0.1, gt=0)
    helper_gap: float = Field(0.5, ge=0, le=1)

    def gap(self, value: float) -> float:
        """How much of the way is left, from 0 to 1."""
        whole = self.goal - self.worst
        return min(1.0, max(0.0, (self.goal - value) / whole)) if whole else 0.0


class DataSettings(BaseModel):
    """`tasks` by the name of their evaluation's metric; `by_task` is their part in a source's reward beside its loss.

    `least_move`: shares that differ by less are left alone, so that the record holds what matters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Mapping[str, Task] = {}
    by_task: float = Field(0.5, ge=0, le=1)
    memory: float = Field(0.9, ge=0, lt=1)
    strength: float = Field(1.0, gt=0, description="how much a larger reward counts")
    least_move: float = Field(0.02, ge=0, le=1)
    hold: tuple[str, ...] = Field((), description="sources whose weights are not its business")


class DataAgent:
    """See `DataSettings`. It learns from the steps since it looked last."""

    def __init__(self, settings: DataSettings, limits: Limits) -> None:
        self._settings, self._limits = settings, limits
        self._bandit: Bandit | None = None
        self._since = -1
        self._helped: set[str] = set()

    def bound(self, limits: Limits) -> None:
        """See `Bounded`."""
        self._limits = limits

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        mixture = seen.mixture
        if mixture is None:
            return None
        if self._since > seen.step:  # gone back
            self._since = -1
        help_ = self._help(seen)
        if help_ is not None:
            return help_
        turned = {
            name: source.weight
            for name, source in mixture.sources.items()
            if source.weight > 0 and name not in self._settings.hold
        }
        if len(turned) < 2:
            return None
        rewards, saw = self._rewards(seen, turned)
        if not rewards:
            return None
        self._since = seen.step
        if self._bandit is None or self._bandit.sources != frozenset(turned):
            self._bandit = Bandit(list(turned), self._settings.memory, self._settings.strength)
        total = sum(turned.values())
        now = {name: weight / total for name, weight in turned.items()}
        self._bandit.learn(rewards, now)
        wanted = within(self._bandit.shares(), self._bounds(now, total, seen))
        moved = max(abs(wanted[name] - now[name]) for name in now)
        saw |= {"shares": _short(now), "wanted": _short(wanted), "rewards": _short(rewards)}
        if moved < self._settings.least_move:
            return Decision(BY, "the shares are about right", saw=saw)
        weights = {name: round(share * total, 6) for name, share in wanted.items()}
        most = max(rewards, key=lambda name: rewards[name])
        said = f"{most} has most left to teach (reward {rewards[most]:.2f}); shares {_told(now)} → {_told(wanted)}"
        turn = Action(CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS.value, {"weights": weights})
        return Decision(BY, said, [turn], saw)

    def _bounds(self, now: Mapping[str, float], total: float, seen: Observation) -> dict[str, tuple[float, float]]:
        """The operator's ranges, and how far a share may move at once; both are of the whole mixture."""
        assert seen.mixture is not None
        whole = sum(source.weight for source in seen.mixture.sources.values()) / total
        bounds, limits = {}, self._limits
        for name, share in now.items():
            least, most = limits.shares.get(name, (0.0, 1.0))
            move = limits.share_move
            low, high = max(least, share / whole - move), min(most, share / whole + move)
            bounds[name] = (low * whole, max(low, high) * whole)
        return bounds

    def _rewards(self, seen: Observation, sources: Mapping[str, float]) -> tuple[dict[str, float], dict[str, Any]]:
        """By source, from 0 to 1: its mean loss since the last look over the largest of all, and its tasks' gaps."""
        rewards: dict[str, float] = {}
        losses: dict[str, float] = {}
        for name in sources:
            new = finite_values(point for point in seen.metrics.get(LOSS + name, ()) if point[0] > self._since)
            if new:
                losses[name] = sum(new) / len(new)
        highest = max(losses.values(), default=0.0)
        for name, loss in losses.items():
            rewards[name] = loss / highest if highest > 0 else 0.0
        gaps = self._gaps(seen)
        part = self._settings.by_task
        for name in sources:
            of_source = [gap for metric, gap in gaps.items() if self._settings.tasks[metric].source == name]
            if of_source:
                gap = sum(of_source) / len(of_source)
                rewards[name] = (1 - part) * rewards[name] + part * gap if name in rewards else gap
        return rewards, {"losses": _short(losses), "gaps": _short(gaps), "step": seen.step}

    def _gaps(self, seen: Observation) -> dict[str, float]:
        found = {}
        for metric, task in self._settings.tasks.items():
            value = seen.newest(metric)
            if value is not None:
                found[metric] = task.gap(value)
        return found

    def _help(self, seen: Observation) -> Decision | None:
        """A further source for the weakest task, if an operator named one; once."""
        gaps = self._gaps(seen)
        if not gaps or seen.mixture is None:
            return None
        weakest = max(gaps, key=lambda metric: gaps[metric])
        task = self._settings.tasks[weakest]
        name = f"{task.source}-help"
        if task.helper is None or gaps[weakest] <= task.helper_gap or name in self._helped | set(seen.mixture.sources):
            return None
        added = {"sources": {name: {"path": task.helper, "weight": task.helper_weight}}}
        said = f"{weakest} is the weakest task, with {gaps[weakest]:.0%} of the way left: {task.helper} is added"
        return Decision(
            BY, said, [Action(CommandName.UPDATE_DATASET.value, added)], {"gaps": _short(gaps), "added": name}
        )

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        if "added" in decision.saw:
            self._helped.add(decision.saw["added"])


def _short(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _told(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
