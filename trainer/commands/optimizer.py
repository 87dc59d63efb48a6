"""`update_optimizer`: the learning rate under any schedule, other numbers of the optimizer, and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from control.protocol import CommandKind, CommandName
from trainer.command import Arguments, Plan, register_command
from trainer.errors import CommandRejected
from trainer.schedule import LearningRate
from trainer.steering import Steering

FIELDS = ("momentum", "betas", "weight_decay", "eps")


class Rate(Arguments):
    """The rate of the next step (`value`), of the top of the schedule (`peak`), or a factor on what it is now (`scale`).

    The schedule goes on from there.
    """

    value: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    peak: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one(self) -> Rate:
        if sum(given is not None for given in (self.value, self.scale, self.peak)) != 1:
            raise ValueError("give exactly one of value, scale and peak")
        return self


def _bare(given: Any) -> Any:
    """The paper writes `{"value": 0.1}`, and people write `0.1`."""
    return {"value": given} if isinstance(given, (int, float)) and not isinstance(given, bool) else given


def _opened(given: Any) -> Any:
    return given["value"] if isinstance(given, dict) and set(given) == {"value"} else given


Fraction = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Small = Annotated[float, Field(gt=0, le=1)]
Norm = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class OptimizerArguments(Arguments):
    """Numbers of the optimizer; a number may also stand in `{"value": …}`. `max_grad_norm` 0 clips nothing."""

    lr: Annotated[Rate | None, BeforeValidator(_bare)] = None
    momentum: Annotated[Fraction | None, BeforeValidator(_opened)] = None
    betas: Annotated[tuple[Fraction, Fraction] | None, BeforeValidator(_opened)] = None
    weight_decay: Annotated[Decay | None, BeforeValidator(_opened)] = None
    eps: Annotated[Small | None, BeforeValidator(_opened)] = None
    max_grad_norm: Annotated[Norm | None, BeforeValidator(_opened)] = None


def update_optimizer(steering: Steering, arguments: OptimizerArguments) -> Plan:
    """Change what is given, from the next step on."""
    given = {name: value for name in OptimizerArguments.model_fields if (value := getattr(arguments, name)) is not None}
    if not given:
        raise CommandRejected(
            f"update_optimizer: nothing is given; give one of {', '.join(OptimizerArguments.model_fields)}"
        )
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    changes: list[Callable[[], None]] = []
    if arguments.lr is not None:
        changes.append(_rate(steering, arguments.lr, before, after))
    for name in FIELDS:
        if name in given:
            changes.append(_field(steering, name, given[name], before, after))
    if arguments.max_grad_norm is not None:
        before["max_grad_norm"], after["max_grad_norm"] = steering.trainer.args.max_grad_norm, arguments.max_grad_norm
        changes.append(lambda: setattr(steering.trainer.args, "max_grad_norm", arguments.max_grad_norm))

    def apply() -> None:
        for change in changes:
            change()

    return Plan(apply, before, after, takes_effect_at=steering.step + 1)


def _rate(steering: Steering, wanted: Rate, before: dict[str, Any], after: dict[str, Any]) -> Callable[[], None]:
    rate = LearningRate(steering.trainer.lr_scheduler)
    if wanted.value is not None:
        scale = rate.scale_for(wanted.value)
    elif wanted.peak is not None:
        scale = rate.scale_for_peak(wanted.peak)
    else:
        scale = rate.scale * (wanted.scale or 1.0)
    before |= {"lr": rate.value, "lr_scale": rate.scale}
    after |= {"lr": rate.value_at(scale), "lr_scale": scale}
    return lambda: rate.set_scale(scale)


def _field(
    steering: Steering, name: str, value: Any, before: dict[str, Any], after: dict[str, Any]
) -> Callable[[], None]:
    groups = [group for group in steering.trainer.optimizer.param_groups if name in group]
    if not groups:
        kind = type(getattr(steering.trainer.optimizer, "optimizer", steering.trainer.optimizer)).__name__
        raise CommandRejected(f"{name}: {kind} has none; it has {', '.join(_numbers(steering))}")
    if name == "weight_decay":
        groups = _decaying(steering, groups)
    before[name], after[name] = groups[0][name], value

    def change() -> None:
        for group in groups:
            group[name] = value

    return change


def _decaying(steering: Steering, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that are meant to decay: those that do; else those with the parameters that transformers lets decay."""
    decaying = [group for group in groups if group["weight_decay"]]
    if decaying:
        return decaying
    names = set(steering.trainer.get_decay_parameter_names(steering.model))
    wanted = {id(parameter) for name, parameter in steering.model.named_parameters() if name in names}
    return [group for group in groups if any(id(p) in wanted for p in group["params"])] or groups


def _numbers(steering: Steering) -> list[str]:
    group = steering.trainer.optimizer.param_groups[0]
    return [name for name in ("lr", *FIELDS) if name in group] + ["max_grad_norm"]


register_command(
    CommandName.UPDATE_OPTIMIZER,
    OptimizerArguments,
    update_optimizer,
    summary="Change learning rate, momentum, betas, weight decay, eps or gradient clipping",
    kind=CommandKind.SETTING,
    kept=False,
)
