"""What an operator allows an agent: which commands, how far, how often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from control.agents.observation import Observation
from control.agents.policy import Action
from control.protocol import CommandName

SET_AGENTS, ACCEPT, ASK = "set_agents", "accept_suggestion", "ask_agent"
"""What operators send to the agents."""

STANDS = frozenset({CommandName.PAUSE_TRAINING, CommandName.STOP_TRAINING, CommandName.START_TRAINING})
"""An agent that fails must never leave a run standing, so none may make it stand."""

FORBIDDEN: frozenset[str] = STANDS | {SET_AGENTS, ACCEPT, ASK}
"""Nor may any set its own bounds, or accept what it suggests."""

USUAL = (
    CommandName.UPDATE_OPTIMIZER.value,
    CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS.value,
    CommandName.UPDATE_DATASET.value,
    CommandName.LOAD_CHECKPOINT.value,
    CommandName.SAVE_CHECKPOINT.value,
    CommandName.MODEL_LAYER_OPERATION.value,
    CommandName.DO_EVALUATE.value,
)
HOUR = 3600.0


def _allowed(name: str) -> str:
    if name in FORBIDDEN:
        why = "a run must not stand still because one of them failed" if name in STANDS else "it is for who bounds them"
        raise ValueError(f"{name!r} is not for agents: {why}; leave it out")
    return name


Allowed = Annotated[
    str, AfterValidator(_allowed), WithJsonSchema({"type": "string", "not": {"enum": sorted(FORBIDDEN)}})
]


class Limits(BaseModel):
    """The bounds of one agent. Rates are those of the optimizer, shares are parts of 1, times are in seconds.

    `budget` counts the commands of the agent in a run, from the first on, also over restarts of its process. The
    descriptions say what a value has to be; who gave another one is told so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    commands: tuple[Allowed, ...] = Field(
        USUAL, description='a list of the commands that it may send, as ["update_optimizer"]'
    )
    min_lr: float = Field(0.0, ge=0, description="a learning rate of 0 or more; 0 sets no lower bound")
    max_lr: float | None = Field(None, gt=0, description="a learning rate above 0, or null for no upper bound")
    lr_factor: float = Field(
        2.0, ge=1, description="a factor of 1 or more; an action changes the rate at most by it, either way"
    )
    shares: Mapping[str, tuple[float, float]] = Field(
        {}, description='the least and the largest share by source, parts of 1, as {"live": [0.1, 0.6]}'
    )
    share_move: float = Field(
        0.25, gt=0, le=1, description="a part of 1, above 0; an action moves a share at most by it"
    )
    cooldown_steps: int = Field(0, ge=0, description="a whole number of steps, 0 or more, between two actions")
    cooldown: float = Field(0.0, ge=0, description="0 or more seconds between two actions")
    budget: int | None = Field(
        None, ge=0, description="a whole number of commands in a run, 0 or more, or null for no budget"
    )
    per_hour: int | None = Field(
        120, ge=0, description="a whole number of commands within an hour, 0 or more, or null for any number"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Limits:
        if self.max_lr is not None and self.max_lr < self.min_lr:
            raise ValueError(
                f"max_lr: it is {self.max_lr:g}, below min_lr, which is {self.min_lr:g}; raise it, or lower min_lr"
            )
        for source, (least, most) in self.shares.items():
            if not 0 <= least <= most <= 1:
                raise ValueError(
                    f"shares: {source!r} is given {least:g} to {most:g}, but a range goes from 0 or more up to at most 1"
                )
        together = sum(least for least, _ in self.shares.values())
        if together > 1 + 1e-9:
            raise ValueError(
                f"shares: the least come to {together:g} together, but all shares are 1; lower some of them"
            )
        return self


class Guard:
    """Holds an agent to its limits, and remembers what it did. `spent` is how many commands it sent before."""

    def __init__(self, limits: Limits, spent: Sequence[float] = (), clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._clock = clock
        self._count = len(spent)
        self._times: deque[float] = deque(spent, maxlen=10_000)
        self._last_step: int | None = None

    @property
    def spent(self) -> int:
        """Commands that were sent."""
        return self._count

    def sent(self, step: int) -> None:
        """A command was sent."""
        self._count += 1
        self._times.append(self._clock())
        self._last_step = step

    def resting(self, step: int) -> str | None:
        """Why the agent may not act now, whatever it wants; None where it may."""
        limits, now = self.limits, self._clock()
        if limits.budget is not None and self._count >= limits.budget:
            return f"its budget of {limits.budget} commands is spent; an operator can raise it"
        recent = sum(1 for moment in self._times if moment > now - HOUR)
        if limits.per_hour is not None and recent >= limits.per_hour:
            return f"it sent {recent} commands within an hour, and may send {limits.per_hour}"
        if self._last_step is not None and 0 <= step - self._last_step < limits.cooldown_steps:
            return f"it acted at step {self._last_step}, and rests for {limits.cooldown_steps} steps"
        if self._times and now - self._times[-1] < limits.cooldown:
            return f"it acted {now - self._times[-1]:.0f} s ago, and rests for {limits.cooldown:g} s"
        return None

    def objection(self, actions: Sequence[Action], seen: Observation) -> str | None:
        """Why these actions are not allowed; None where they are."""
        left = None if self.limits.budget is None else self.limits.budget - self._count
        if left is not None and len(actions) > left:
            return f"{len(actions)} commands, but {left} are left of its budget of {self.limits.budget}"
        for action in actions:
            if action.command not in self.limits.commands or action.command in FORBIDDEN:
                return f"{action.command!r} is not among its commands: {', '.join(self.limits.commands)}"
            problem = self._rate(action, seen) or self._shares(action, seen)
            if problem is not None:
                return problem
        return None

    def _rate(self, action: Action, seen: Observation) -> str | None:
        given = action.arguments.get("lr") if action.command == CommandName.UPDATE_OPTIMIZER else None
        if given is None:
            return None
        now = seen.learning_rate
        wanted, factor = _wanted_rate(given, now)
        limits = self.limits
        if factor is not None and not 1 / limits.lr_factor * (1 - 1e-9) <= factor <= limits.lr_factor * (1 + 1e-9):
            return f"a rate {factor:.3g} times as large is more than its factor of {limits.lr_factor:g} at once"
        if wanted is None:
            return (
                "the learning rate is not known yet, so no bound can be held"
                if limits.max_lr or limits.min_lr
                else None
            )
        lowered, raised = (False, False) if now is None else (wanted < now, wanted > now)  # back into new bounds
        if limits.max_lr is not None and wanted > limits.max_lr * (1 + 1e-9) and not lowered:
            return f"a rate of {wanted:.3g} is above its limit of {limits.max_lr:g}"
        if wanted < limits.min_lr * (1 - 1e-9) and not raised:
            return f"a rate of {wanted:.3g} is below its limit of {limits.min_lr:g}"
        return None

    def _shares(self, action: Action, seen: Observation) -> str | None:
        weights = action.arguments.get("weights")
        if action.command != CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS or not isinstance(weights, Mapping):
            return None
        before = {name: source.weight for name, source in seen.mixture.sources.items()} if seen.mixture else {}
        merged = {**before, **weights}
        total, was = sum(merged.values()), sum(before.values())
        if not total > 0:
            return f"weights {dict(weights)} leave nothing to draw from"
        for source, weight in merged.items():
            share = weight / total
            stood = before[source] / was if source in before and was > 0 else None
            least, most = self.limits.shares.get(source, (0.0, 1.0))
            outside = max(least - share, share - most)
            nearer = stood is not None and outside <= max(least - stood, stood - most)  # back into a new range
            if outside > 1e-6 and not nearer:
                return f"a share of {share:.3f} for {source!r} is outside its range of {least:g} to {most:g}"
            moved = 0.0 if stood is None else abs(share - stood)
            if moved > self.limits.share_move + 1e-6:
                return (
                    f"the share of {source!r} would move by {moved:.3f}, and may by {self.limits.share_move:g} at once"
                )
        return None


def _wanted_rate(given: Any, now: float | None) -> tuple[float | None, float | None]:
    """The rate that `lr` asks for, and its factor on the rate now; None for what cannot be told."""
    if isinstance(given, Mapping):
        if "scale" in given:
            factor = float(given["scale"])
            return (None if now is None else now * factor), factor
        given = given.get("value", given.get("peak"))
    wanted = None if given is None else float(given)
    return wanted, (wanted / now if wanted is not None and now else None)
