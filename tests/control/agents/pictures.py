"""Pictures of runs that never were, to try policies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control.agents import Observation
from control.api import CheckpointInfo
from control.bodies import MixtureBody, MixtureSource

NAN = None
"""How a number that is not finite arrives."""


def points(values: Sequence[float | None], first: int = 1) -> tuple[tuple[int, float | None], ...]:
    return tuple((first + index, value) for index, value in enumerate(values))


def saved(step: int, uuid: str | None = None, branch: str = "main") -> CheckpointInfo:
    return CheckpointInfo(
        uuid=uuid or f"at-{step}", run="demo", branch=branch, segment="s", step=step, time=float(step), path=""
    )


def mixed(**weights: float) -> MixtureBody:
    total = sum(weights.values())
    return MixtureBody(
        version=1,
        sources={name: MixtureSource(weight=weight, share=weight / total) for name, weight in weights.items()},
    )


def picture(losses: Sequence[float | None] = (), rate: float = 1e-3, **more: Any) -> Observation:
    """A run whose losses are these, from step 1 on."""
    metrics: Mapping[str, Any] = {
        "loss": points(losses),
        "learning_rate": points([rate] * len(losses)),
        **more.pop("metrics", {}),
    }
    return Observation("demo", step=more.pop("step", len(losses)), metrics=metrics, **more)
