"""The diffusion objective for models of diffusers, as a Trainer.

A batch holds `sample` [batch, channel, height, width] in [-1, 1] and, optionally, `condition` [batch, channels, height,
width], which is put behind the noisy sample as further channels; `weight` [batch, channel or 1, height, width], by which
each element's error is multiplied; and `loss_weight` [batch], which says how much each sample counts among the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch.nn import functional
from transformers import Trainer

from trainer.compat import OwnWeights, on_device
from trainer.errors import SettingsInvalid
from trainer.randomness import undisturbed

EVALUATION_SEED = 20_250_610
"""Noise and timesteps of every evaluation are the same, so that two of them can be compared."""
WEIGHTS = "diffusion_pytorch_model.safetensors"

PixelLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Prediction(StrEnum):
    """What the model predicts; `prediction_type` of a diffusers scheduler."""

    EPSILON = "epsilon"
    V = "v_prediction"
    SAMPLE = "sample"


def squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The error of each element."""
    return functional.mse_loss(prediction, target, reduction="none")


class DiffusionTrainer(OwnWeights, Trainer):
    """Trains a diffusers model (`UNet2DModel` and its kin) to undo the noise of a diffusers scheduler.

    Timesteps are uniform over the scheduler's. `pixel_loss` may be replaced while training runs; it gives the error of
    each element. Checkpoints and `save_model` are folders that diffusers' `from_pretrained` reads, the scheduler's
    configuration beside the model's.
    """

    def __init__(self, *args: Any, noise_scheduler: Any, pixel_loss: PixelLoss = squared_error, **kwargs: Any) -> None:
        known = [kind.value for kind in Prediction]
        if noise_scheduler.config.prediction_type not in known:
            raise SettingsInvalid(
                f"prediction_type is {noise_scheduler.config.prediction_type!r}, but it is one of {', '.join(known)}"
            )
        self.noise_scheduler = noise_scheduler
        self.pixel_loss = pixel_loss
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch, whatever `forward` takes

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted mean of the samples' losses; each is the mean of its elements' weighted errors."""
        sample = inputs["sample"]
        noise = torch.randn_like(sample)
        timesteps = torch.randint(self.noise_scheduler.config.num_train_timesteps, (len(sample),), device=sample.device)
        noisy = self.noise_scheduler.add_noise(sample, noise, timesteps)
        condition = inputs.get("condition")
        shown = noisy if condition is None else torch.cat([noisy, condition], dim=1)
        prediction = model(shown, timesteps).sample
        error = self.pixel_loss(prediction.float(), self._target(sample, noise, timesteps).float())
        if (weight := inputs.get("weight")) is not None:
            error = error * weight
        losses = error.flatten(1).mean(1)
        self.saw_losses(losses)
        loss = _weighted_mean(losses, inputs.get("loss_weight"))
        return (loss, {"losses": losses}) if return_outputs else loss

    def saw_losses(self, losses: torch.Tensor) -> None:
        """The loss of each sample of a batch; an interactive trainer reports it by source."""

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of an evaluation batch."""
        with torch.no_grad():
            return self.compute_loss(model, on_device(self, inputs)).detach(), None, None

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The mean loss over the evaluation data, with the same noise every time."""
        with undisturbed(EVALUATION_SEED):
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a folder that diffusers' `from_pretrained` reads."""
        if self.args.should_save:
            folder = output_dir or self.args.output_dir
            self.accelerator.unwrap_model(self.model).save_pretrained(folder)
            self.noise_scheduler.save_pretrained(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def load_weights(self, folder: Path) -> None:
        """Load the model's weights from a folder that `save_model` wrote."""
        if (folder / WEIGHTS).exists():
            load_model(self.model, folder / WEIGHTS)
        else:  # too large for one file
            self.model.load_state_dict(type(self.model).from_pretrained(folder).state_dict())

    def _target(self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        match Prediction(self.noise_scheduler.config.prediction_type):
            case Prediction.EPSILON:
                return noise
            case Prediction.V:
                velocity: torch.Tensor = self.noise_scheduler.get_velocity(sample, noise, timesteps)
                return velocity
            case Prediction.SAMPLE:
                return sample


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """The mean of a vector; where nothing counts it is 0."""
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype)
    return (weight * values).sum() / weight.sum().clamp_min(1e-8)
