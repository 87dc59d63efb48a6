"""Makes the packaged base model: `python -m examples.desktop.pretrain FOLDER`.

What NeuralOS learned from scripts before it met people (section 3.3 of the paper), this learns from `base_stream`:
everything but the two tasks that take effort. The objective is the one that it is finetuned with, and the averaged
weights are packaged, in half precision. Two things are there to learn in minutes what else takes hours:

- of every batch a share shows clicks, which are rare in sessions, and after which most pixels change;
- the hidden convolutions are trained by Muon (Jordan 2024; scaled as in Liu et al. 2025), the others by AdamW.

And one is there for running freely: some frames are spoilt before they are shown, and the frame to paint is the true one,
so that the model learns to mend what it got wrong a frame earlier, as GameNGen does (Valevski et al. 2024).
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainingArguments

from examples.desktop import codec, screen
from examples.desktop.model import BASE, HALF, build_model, build_scheduler
from examples.desktop.screen import Frame
from examples.desktop.scripted import Transition, base_stream
from trainer import DiffusionTrainer
from trainer.ema import Ema
from trainer.settings import EmaSettings

__all__ = ["ClicksOften", "Muon", "pretrain", "spoil"]

STEPS = 3_000
BATCH = 32
LEARNING_RATE = 2e-3
EMA_DECAY = 0.99
WARM_UP, STEADY = 100, 0.35  # steps; then the share of all steps before the rate begins to fall, to nothing
CLICKS = 0.4  # the share of a batch
SPOILT = 0.3  # the share of frames
FRESH_PER_SAMPLE = 1.5  # transitions taken from the stream for each one trained on
KEPT = 30_000  # transitions of each kind that are drawn from


class ClicksOften(IterableDataset[dict[str, torch.Tensor]]):
    """Samples of base sessions without end, clicks and Escape among them more often than people make them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng, stream = random.Random(self._seed), base_stream(self._seed)
        clicks: list[Transition] = []
        others: list[Transition] = []
        fresh = 2_000.0
        while True:
            fresh += FRESH_PER_SAMPLE
            while fresh >= 1.0:
                fresh -= 1.0
                step = next(stream)
                inputs = step.inputs
                kept = clicks if inputs.left or inputs.right or inputs.escape else others
                if len(kept) < KEPT:
                    kept.append(step)
                else:
                    kept[rng.randrange(KEPT)] = step
            step = rng.choice(clicks if rng.random() < CLICKS else others)
            prev = spoil(step.prev, rng) if rng.random() < SPOILT else step.prev
            yield codec.tensors(prev, step.inputs, step.next)


def spoil(frame: Frame, rng: random.Random) -> Frame:
    """The frame with one to three blemishes such as a model leaves behind: blots, specks, and traces of a pointer."""
    spoilt = frame.copy()
    for _ in range(rng.randint(1, 3)):
        x, y = rng.randrange(screen.WIDTH), rng.randrange(screen.HEIGHT)
        match rng.choice(("blot", "specks", "trace")):
            case "blot":
                spoilt[y : y + rng.randint(1, 3), x : x + rng.randint(1, 3)] = rng.choice(screen.PALETTE)
            case "specks":
                for _ in range(rng.randint(1, 5)):
                    spoilt[rng.randrange(screen.HEIGHT), rng.randrange(screen.WIDTH)] = rng.choice(screen.PALETTE)
            case "trace":
                shape = screen.pointer_shape(x, y)
                seen = np.array([rng.random() < 0.6 for _ in range(shape[0].size)]).reshape(shape[0].shape)
                spoilt[(shape[0] > 0) & seen] = 0
                spoilt[(shape[1] > 0) & seen] = 255
    return spoilt


class Muon(torch.optim.Optimizer):
    """Muon for the weights of hidden convolutions, AdamW without weight decay for all else, under one learning rate.

    A convolution's weight is taken as the matrix [out, in x height x width]; its momentum is made nearly orthogonal, and
    scaled to the size that AdamW's steps have.
    """

    def __init__(self, model: torch.nn.Module, lr: float, momentum: float = 0.95) -> None:
        named = list(model.named_parameters())
        hidden = [p for name, p in named if p.ndim == 4 and not name.startswith(("conv_in", "conv_out"))]
        known = {id(p) for p in hidden}
        rest = [p for _, p in named if id(p) not in known]
        groups: list[dict[str, Any]] = [
            {"params": hidden, "momentum": momentum, "betas": None},
            {"params": rest, "betas": (0.9, 0.99)},
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": None, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; every parameter has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if group["betas"] is None:
                    self._orthogonal(parameter, state, group)
                else:
                    self._adam(parameter, state, group)

    @staticmethod
    def _orthogonal(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean: torch.Tensor = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        assert parameter.grad is not None
        update = orthogonalized(parameter.grad.lerp(mean, group["momentum"]).flatten(1))
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)

    @staticmethod
    def _adam(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter), count=0)
        gradient, (beta1, beta2) = parameter.grad, group["betas"]
        assert gradient is not None
        state["count"] += 1
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["count"])
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2 ** state["count"])
        parameter.sub_(mean / (square.sqrt() + group["eps"]), alpha=group["lr"])


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose singular values are all about 1, by five Newton-Schulz steps (Jordan 2024)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.T


class Averaging(TrainerCallback):
    """Keeps the average of the weights."""

    def __init__(self, ema: Ema) -> None:
        self._ema = ema

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._ema.update()


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up, steady, then down in a line."""
    begin = STEADY * steps
    return min(1.0, (step + 1) / WARM_UP, max(0.0, (steps - step) / (steps - begin)))


def pretrain(folder: Path, steps: int = STEPS, batch: int = BATCH, seed: int = 11) -> None:
    """Train a new model and package it in `folder`, which diffusers' `from_pretrained` reads."""
    torch.manual_seed(seed)
    model = build_model()
    optimizer = Muon(model, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    ema = Ema(model, EmaSettings(decay=EMA_DECAY))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch,
            max_grad_norm=1.0,
            bf16=HALF,
            use_cpu=not torch.accelerator.is_available(),
            logging_steps=min(100, steps),
            save_strategy="no",
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            seed=seed,
        )
        trainer = DiffusionTrainer(
            model=model,
            args=arguments,
            train_dataset=ClicksOften(seed),
            optimizers=(optimizer, schedule),
            callbacks=[Averaging(ema)],
            noise_scheduler=build_scheduler(),
        )
        trainer.train()
    with ema.applied():
        packaged: Any = trainer.accelerator.unwrap_model(model)
        packaged.half().save_pretrained(folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the desktop's base model.")
    parser.add_argument("folder", type=Path, nargs="?", default=BASE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    pretrain(given.folder, given.steps, given.batch, given.seed)


if __name__ == "__main__":
    main()
