"""Which layers hold values that are not finite, and what would mend them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from control.protocol import CommandName
from trainer.layers import RESET, Layers


@dataclass(frozen=True)
class Poisoned:
    """A layer with parameters or buffers that are not finite, and how many of their values are not."""

    layer: str
    values: int
    of: int


def poisoned_layers(model: nn.Module, tensors: Mapping[str, torch.Tensor] | None = None) -> list[Poisoned]:
    """The layers whose own values are not all finite, the first in the model first. Reads every value once.

    `tensors` are those to look at instead of the model's own, by their names in the model (an average).
    """
    found: dict[str, tuple[int, int]] = {}
    named = tensors if tensors is not None else {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        counts = [
            (name, tensor.numel(), (~torch.isfinite(tensor)).sum())
            for name, tensor in named.items()
            if tensor.is_floating_point()
        ]
    for name, size, count in counts:
        bad = int(count)
        if bad:
            layer = name.rpartition(".")[0]
            before, of = found.get(layer, (0, 0))
            found[layer] = before + bad, of + size
    return [Poisoned(layer, bad, of) for layer, (bad, of) in found.items()]


def resets(layers: Layers, names: list[str]) -> list[dict[str, Any]]:
    """Commands that make these layers new: each one's own, or the smallest one around it that can be."""
    wanted: list[str] = []
    for name in names:
        at = name
        while at and RESET not in layers.operations(layers.find(at)):
            at = at.rpartition(".")[0]
        if at and at not in wanted:
            wanted.append(at)
    return [
        {
            "command": CommandName.MODEL_LAYER_OPERATION.value,
            "arguments": {"layer_name": name, "operation_name": RESET, "params": {}},
        }
        for name in wanted
    ]
