"""Layers: allow-listed operations, and allow-listed numbers."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from pydantic import Field

from control.protocol import CommandKind, CommandName
from trainer.command import Arguments, Plan, register_command
from trainer.errors import CommandRejected
from trainer.layers import FREEZE, RESET, parameters_of
from trainer.steering import Steering


class OperationArguments(Arguments):
    """A method of a layer (dotted name; "" is the model) and its arguments."""

    layer_name: str = Field(max_length=1000)
    operation_name: str = Field(max_length=200)
    params: dict[str, Any] = Field(default_factory=dict)


class ParameterArguments(Arguments):
    """A number of a layer (dotted name) and its new value."""

    layer_name: str = Field(max_length=1000)
    param_name: str = Field(max_length=200)
    value: float | int


def operate(steering: Steering, arguments: OperationArguments) -> Plan:
    """Call an allowed method of a layer. A reset also forgets the layer's moments in the optimizer and its average."""
    name, operation = arguments.layer_name, arguments.operation_name
    call = steering.layers.operation(name, operation, arguments.params)
    if operation == FREEZE and steering.ranks.world > 1:
        raise CommandRejected(
            f"{FREEZE}: gradients are reduced over {steering.ranks.world} ranks by what trained at the start"
        )

    def apply() -> None:
        call()
        if operation == RESET:
            _forget(steering, name)
        steering.reporter.everything()

    return Plan(apply, after={"layer": name, "operation": operation}, takes_effect_at=steering.step + 1)


def update_parameter(steering: Steering, arguments: ParameterArguments) -> Plan:
    """Set an allowed number of a layer."""
    before, change = steering.layers.number(arguments.layer_name, arguments.param_name, arguments.value)

    def apply() -> None:
        change()
        steering.reporter.everything()

    return Plan(apply, before, arguments.value, steering.step + 1)


def _forget(steering: Steering, layer: str) -> None:
    """Fresh weights with the momentum of the old ones would be pushed back to where those were."""
    optimizer = getattr(steering.trainer.optimizer, "optimizer", steering.trainer.optimizer)
    names = []
    for name, parameter in parameters_of(steering.model, layer):
        names.append(name)
        optimizer.state.pop(parameter, None)
        if steering.ranks.world > 1:
            dist.broadcast(parameter.data, src=0)  # each rank drew its own
    if steering.ema is not None:
        steering.ema.forget(names)


register_command(
    CommandName.MODEL_LAYER_OPERATION,
    OperationArguments,
    operate,
    summary="Reset or freeze a layer",
    destructive=True,
)
register_command(
    CommandName.MODEL_LAYER_PARAMETER_UPDATE,
    ParameterArguments,
    update_parameter,
    summary="Set a number of a layer, as the p of a dropout",
    kind=CommandKind.SETTING,
    kept=False,
)
