"""A command of the app's own: another loss for the diffusion model, while it trains.

It is registered when the app's recipe is imported, and from then on the control server, its schema, `stovetop send` and
the dashboard know it: `stovetop send change_pixel_loss '{"kind": "huber", "delta": 0.1}'`.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from pydantic import Field
from torch.nn import functional

from control import CommandKind
from trainer import Arguments, Plan, Steering, register_command
from trainer.diffusion import PixelLoss, squared_error

CHANGE_PIXEL_LOSS = "change_pixel_loss"


class Kind(StrEnum):
    """How an error of one element counts."""

    SQUARED = "squared"
    ABSOLUTE = "absolute"
    HUBER = "huber"


class PixelLossArguments(Arguments):
    """`kind` of the loss; `delta`, from which error on `huber` counts it as it is and no longer squared."""

    kind: Kind
    delta: float = Field(default=1.0, gt=0, le=100)


def pixel_loss(wanted: PixelLossArguments) -> PixelLoss:
    """The loss of each element, as `DiffusionTrainer.pixel_loss` takes it."""
    match wanted.kind:
        case Kind.SQUARED:
            return squared_error
        case Kind.ABSOLUTE:
            return lambda prediction, target: (prediction - target).abs()
        case Kind.HUBER:

            def huber(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                return functional.huber_loss(prediction, target, reduction="none", delta=wanted.delta)

            return huber


def change_pixel_loss(steering: Steering, wanted: PixelLossArguments) -> Plan:
    """Train on another loss from the next step on."""
    trainer = steering.trainer
    before = trainer.pixel_loss
    chosen = pixel_loss(wanted)
    return Plan(
        apply=lambda: setattr(trainer, "pixel_loss", chosen),
        before=getattr(before, "__name__", "another"),
        after=wanted.model_dump(mode="json"),
        takes_effect_at=steering.step + 1,
        undo=lambda: setattr(trainer, "pixel_loss", before),
    )


register_command(
    CHANGE_PIXEL_LOSS,
    PixelLossArguments,
    change_pixel_loss,
    summary="Train on another loss",
    kind=CommandKind.SETTING,
)
