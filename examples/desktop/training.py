"""The training recipe, named in `stovetop.toml` as `examples.desktop.training:recipe`."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import TrainingArguments

import examples.desktop.commands  # noqa: F401  registers what the app adds to the trainer's commands
from examples.desktop.model import BASE, HALF, build_scheduler, load_base
from examples.desktop.muon import Muon
from trainer import DiffusionTrainer, make_interactive
from trainer.recipe import TrainingContext

__all__ = ["DesktopTrainer", "Options", "recipe"]


class Options(BaseModel):
    """What `[train.options]` may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(50, ge=0)
    batch_size: int = Field(16, ge=1)
    max_grad_norm: float = Field(1.0, gt=0)
    bf16: bool = Field(True, description="compute in bfloat16 where that is faster; weights stay float32")


class DesktopTrainer(DiffusionTrainer):
    """The diffusion objective, and the optimizer by which the base model was made."""

    optimizer: Any

    def create_optimizer(self, model: Any = None) -> Any:
        """Muon, once."""
        if self.optimizer is None:
            self.optimizer = Muon(model or self.model, self.args.learning_rate)
        return self.optimizer


def recipe(context: TrainingContext) -> Any:
    """A diffusion trainer around the base model, steered by commands."""
    options = Options.model_validate(context.options)
    accelerated = torch.accelerator.is_available()
    arguments = TrainingArguments(
        output_dir=str(context.folder),
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=options.warmup_steps,
        max_grad_norm=options.max_grad_norm,
        bf16=options.bf16 and (HALF or accelerated),
        use_cpu=not accelerated,
        max_steps=10**9,
        save_strategy="no",  # checkpoints are saved by time, see `[train]`
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=context.seed,
    )
    return make_interactive(DesktopTrainer)(
        model=load_base(context.base_model or BASE),
        noise_scheduler=build_scheduler(),
        args=arguments,
        train_dataset=context.data,
        control=context.control,
    )
