"""A factor over any learning-rate schedule, so that an operator's change outlives the schedule's next step.

A schedule writes `param_groups["lr"]` at every step, so a rate written there by hand lasts for one step only, and
`base_lrs` are ignored by half of the schedulers. Here the schedule goes on over the rates that it made itself, kept
aside, and the optimizer sees them multiplied. The factor and the rates kept aside are plain numbers in the scheduler's
own state, so they travel in `scheduler.pt` and a branch keeps them; a Trainer without this file loads it all the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.optimization import GreedyLR
from transformers.trainer_pt_utils import LayerWiseDummyScheduler

from trainer.errors import CommandRejected


class _Scaled:
    """Mixed into the class of a scheduler that exists already; its fields live in the scheduler's `__dict__`."""

    optimizer: Optimizer
    scale: float
    unscaled: list[float]

    def step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the schedule over the rates that it made itself."""
        _write(self.optimizer, self.unscaled)
        super().step(*args, **kwargs)  # type: ignore[misc]
        self.unscaled = _read(self.optimizer)
        self.refresh()

    def refresh(self) -> None:
        """Show the optimizer, and whoever asks for the last rate, the schedule's rates times the factor."""
        rates = [self.scale * rate for rate in self.unscaled]
        _write(self.optimizer, rates)
        self._last_lr = rates

    def state_dict(self) -> dict[str, Any]:
        """The schedule's own state, and the factor."""
        own: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        return {**own, "scale": self.scale, "unscaled": list(self.unscaled)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A state that was saved without a factor has the factor 1."""
        super().load_state_dict(state)  # type: ignore[misc]
        self.scale = state.get("scale", 1.0)
        self.unscaled = list(state.get("unscaled", _read(self.optimizer)))
        self.refresh()


def make_scalable(scheduler: Any) -> Any:
    """Give a scheduler the factor, 1 at first; returns the same object. One that steers no optimizer is left as it is."""
    known = isinstance(scheduler, (LRScheduler, GreedyLR)) and not isinstance(scheduler, LayerWiseDummyScheduler)
    if known and not isinstance(scheduler, _Scaled):
        kind = type(scheduler)
        scheduler.__class__ = type(f"Scaled{kind.__name__}", (_Scaled, kind), {"__module__": __name__})
        scheduler.__dict__.update(scale=1.0, unscaled=_read(scheduler.optimizer))
    return scheduler


class LearningRate:
    """The learning rate of a trainer: what it is, and how it is changed."""

    def __init__(self, scheduler: Any) -> None:
        if not isinstance(scheduler, _Scaled):
            raise CommandRejected(
                f"lr: {type(scheduler).__name__} keeps the rates to itself, so they cannot be changed while it runs"
            )
        self._scheduler = scheduler

    @property
    def scale(self) -> float:
        """The factor over the schedule."""
        return self._scheduler.scale

    @property
    def value(self) -> float:
        """The rate of the first parameter group at the next step."""
        return _read(self._scheduler.optimizer)[0]

    def value_at(self, scale: float) -> float:
        """What the rate of the next step would be with another factor."""
        return scale * float(self._scheduler.unscaled[0])

    def scale_for(self, value: float) -> float:
        """The factor that makes the rate of the next step `value`; other groups keep their ratio to the first."""
        scheduled = self._scheduler.unscaled[0]
        if scheduled == 0:
            raise CommandRejected(
                f"lr: {value} cannot be set while the schedule is at 0, as no factor leads there; "
                'set the rate of the schedule\'s top with "peak", or a factor with "scale"'
            )
        return value / scheduled

    def scale_for_peak(self, value: float) -> float:
        """The factor that makes the rate that the schedule starts from (its top) `value`."""
        return value / float(getattr(self._scheduler, "base_lrs", self._scheduler.unscaled)[0])

    def set_scale(self, scale: float) -> None:
        """Multiply the schedule by `scale` (not by it on top of the factor that holds now), from the next step on."""
        self._scheduler.scale = scale
        self._scheduler.refresh()


def _read(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _write(optimizer: Optimizer, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)  # compiled and capturable optimizers hold on to the tensor
        else:
            group["lr"] = rate
