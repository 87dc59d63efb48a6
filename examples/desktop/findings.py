"""What a run of the demo found: the facts that the report shows, whoever gathered them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.desktop.evaluate import Evaluation
from examples.desktop.screen import Frame
from examples.desktop.scripted import BASE_GOALS, Goal

__all__ = ["TASKS", "Command", "Findings", "Seen", "Shares", "Strip", "Target", "Version", "quantile"]

TASKS = (Goal.BROWSER, Goal.FOLDER)
"""The two tasks that users love and the base model cannot do."""

AT_MOST_BEFORE, AT_LEAST_AFTER, FORGOTTEN = 0.10, 0.90, 0.05


@dataclass(frozen=True)
class Strip:
    """One held-out trial as frames: what should happen, and what the model painted before and after."""

    goal: Goal
    steps: Sequence[int]
    truth: Sequence[Frame]
    before: Sequence[Frame]
    after: Sequence[Frame]


@dataclass(frozen=True)
class Seen:
    """One try of one visitor, as it saw the outcome. Times are seconds since the start of the run."""

    time: float
    goal: Goal
    success: bool


@dataclass(frozen=True)
class Version:
    """A version that was served: when it was committed and first served, and the step that it holds."""

    version: int
    step: int
    published: float
    served: float | None


@dataclass(frozen=True)
class Shares:
    """The shares of the samples lately trained on, by source."""

    time: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Command:
    """An intervention."""

    time: float
    text: str
    author: str
    step: int | None
    outcome: str


@dataclass(frozen=True)
class Target:
    """A promise of the demo, and whether it held."""

    name: str
    value: str
    rule: str
    holds: bool


@dataclass(frozen=True)
class Findings:
    """Everything. `loss` and `losses` (by source) are (step, value); lags are seconds from click to served weights."""

    seed: int
    seconds: float
    train_steps: int
    launch_frames: int
    before: Evaluation
    after: Evaluation
    strips: Sequence[Strip]
    tries: Sequence[Seen]
    versions: Sequence[Version]
    shares: Sequence[Shares]
    commands: Sequence[Command]
    loss: Sequence[tuple[float, float]]
    losses: Mapping[str, Sequence[tuple[float, float]]]
    lags: Sequence[float]
    sessions: int
    steps: int
    live_samples: int
    live_trained: int

    @property
    def never_trained(self) -> float:
        """The fraction of live samples that entered no backward pass through `live`."""
        return 1.0 - self.live_trained / self.live_samples if self.live_samples else 0.0

    def targets(self) -> list[Target]:
        """What the demo promises, held against what it found."""
        found = []
        for goal in TASKS:
            before, after = self.before[goal], self.after[goal]
            found.append(
                _target(f"{goal}, before", before.rate, f"at most {AT_MOST_BEFORE:.0%}", before.rate <= AT_MOST_BEFORE)
            )
            found.append(
                _target(f"{goal}, after", after.rate, f"at least {AT_LEAST_AFTER:.0%}", after.rate >= AT_LEAST_AFTER)
            )
        old, new = self.base_rate(self.before), self.base_rate(self.after)
        found.append(_target("base tasks, after", new, f"at least {old - FORGOTTEN:.1%}", new >= old - FORGOTTEN))
        return found

    @staticmethod
    def base_rate(evaluation: Evaluation) -> float:
        """The share of all trials of base tasks that succeeded."""
        scores = [evaluation[goal] for goal in BASE_GOALS]
        return sum(score.successes for score in scores) / sum(score.trials for score in scores)

    @property
    def holds(self) -> bool:
        """Whether every promise held."""
        return all(target.holds for target in self.targets())


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def _target(name: str, value: float, rule: str, holds: bool) -> Target:
    return Target(name, f"{value:.1%}", rule, holds)
