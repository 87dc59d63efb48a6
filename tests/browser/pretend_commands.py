"""What a pretend trainer takes and has: its commands with the shapes of their arguments, and the layers of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control import CommandKind, CommandName, CommandSpec


class Shape(BaseModel):
    """Arguments as a trainer describes them."""

    model_config = ConfigDict(extra="forbid")


class Rate(Shape):
    value: float | None = Field(default=None, gt=0, le=1)
    scale: float | None = Field(default=None, gt=0)


class OptimizerShape(Shape):
    lr: Rate | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = Field(default=None, ge=0, le=10)
    eps: float | None = Field(default=None, gt=0, le=1)
    max_grad_norm: float | None = Field(default=None, ge=0)


class WeightsShape(Shape):
    weights: dict[str, float] | None = None


class LoadShape(Shape):
    uuid: str
    branch_name: str | None = None
    save_first: bool = True


class PublishShape(Shape):
    channel: str | None = None


class MoveShape(Shape):
    channel: str = "stable"
    version: int | None = None


class ChannelShape(Shape):
    channel: str = "stable"


class ShakeShape(Shape):
    """What a package of a user's takes."""

    strength: float = Field(gt=0, le=1, description="How much noise, as a part of each weight.")
    mode: Literal["soft", "hard"] = "soft"
    layers: list[str] | None = None


class LayerShape(Shape):
    layer_name: str
    operation_name: str
    params: dict[str, Any] = {}


SHAKE = "shake_weights"
"""A command that no knob of the page knows."""

SHAPES: Mapping[str, tuple[type[Shape], CommandKind]] = {
    CommandName.UPDATE_OPTIMIZER: (OptimizerShape, CommandKind.SETTING),
    CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS: (WeightsShape, CommandKind.SETTING),
    CommandName.PAUSE_TRAINING: (Shape, CommandKind.ACTION),
    CommandName.RESUME_TRAINING: (Shape, CommandKind.ACTION),
    CommandName.STOP_TRAINING: (Shape, CommandKind.ACTION),
    CommandName.SAVE_CHECKPOINT: (Shape, CommandKind.ACTION),
    CommandName.LOAD_CHECKPOINT: (LoadShape, CommandKind.RESTORE),
    CommandName.DO_EVALUATE: (Shape, CommandKind.ACTION),
    CommandName.PUBLISH_CHECKPOINT: (PublishShape, CommandKind.ACTION),
    CommandName.PROMOTE_VERSION: (MoveShape, CommandKind.ACTION),
    CommandName.ROLLBACK_VERSION: (MoveShape, CommandKind.ACTION),
    CommandName.PIN_VERSION: (MoveShape, CommandKind.ACTION),
    CommandName.RELEASE_CHANNEL: (ChannelShape, CommandKind.ACTION),
    CommandName.MODEL_LAYER_OPERATION: (LayerShape, CommandKind.ACTION),
    SHAKE: (ShakeShape, CommandKind.ACTION),
}


def layer(name: str, kind: str, *children: dict[str, Any]) -> dict[str, Any]:
    """A layer as a trainer describes it."""
    operators = ["requires_grad_"] if kind == "ModuleList" else ["requires_grad_", "reset_parameters"]
    numbers = [{"name": "p", "value": 0.1}] if kind == "Dropout" else []
    return {
        "name": name,
        "module_type": kind,
        "operators": [] if kind == "Dropout" else operators,
        "hyperparameters": numbers,
        "children": list(children),
    }


MODEL = layer(
    "",
    "Painter",
    layer("embed", "Embedding"),
    layer(
        "blocks",
        "ModuleList",
        *(
            layer(
                f"blocks.{index}",
                "Block",
                layer(f"blocks.{index}.attention", "Attention"),
                layer(f"blocks.{index}.dropout", "Dropout"),
            )
            for index in range(3)
        ),
    ),
    layer("head", "Linear"),
)


def specs() -> tuple[CommandSpec, ...]:
    """The commands that it takes."""
    return tuple(
        CommandSpec(
            name=str(name),
            summary=name.replace("_", " "),
            arguments=shape.model_json_schema(),
            kind=kind,
            destructive=name in (CommandName.STOP_TRAINING, CommandName.LOAD_CHECKPOINT),
        )
        for name, (shape, kind) in SHAPES.items()
    )
