"""Makes the packaged base model: `python -m examples.desktop.pretrain FOLDER`.

What NeuralOS learned from scripts before it met people (section 3.3 of the paper), this learns from `base_stream`:
everything but the two tasks that take effort. The objective is the one that it is finetuned with, and the averaged
weights are packaged, in half precision. Two things are there to learn in minutes what else takes hours:

- of every batch a share shows what is rare in sessions: clicks, and windows that come or go;
- the hidden convolutions are trained by Muon, the others by AdamW (`muon`).

And one is there for running freely: some frames are spoilt before they are shown, and the frame to paint is the true one,
so that the model learns to mend what it got wrong a frame earlier, as GameNGen does (Valevski et al. 2024).
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainingArguments

from examples.desktop import codec, screen
from examples.desktop.model import BASE, HALF, build_model, build_scheduler
from examples.desktop.muon import Muon
from examples.desktop.screen import Frame
from examples.desktop.scripted import Transition, base_stream
from trainer import DiffusionTrainer
from trainer.ema import Ema
from trainer.settings import EmaSettings

__all__ = ["RareOften", "pretrain", "spoil"]

STEPS = 4_000
BATCH = 16
LEARNING_RATE = 2e-3
EMA_DECAY = 0.99
WARM_UP, STEADY = 100, 0.35  # steps; then the share of all steps before the rate begins to fall, to nothing
RARE = 0.4  # the share of a batch
MANY_PIXELS = 60  # more of them change only when something opens or closes
SPOILT = 0.3  # the share of frames
FRESH_PER_SAMPLE = 1.5  # transitions taken from the stream for each one trained on
KEPT = 30_000  # transitions of each kind that are drawn from


class RareOften(IterableDataset[dict[str, torch.Tensor]]):
    """Samples of base sessions without end, rare moments among them more often than people meet them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng, stream = random.Random(self._seed), base_stream(self._seed)
        rare: list[Transition] = []
        others: list[Transition] = []
        fresh = 2_000.0
        while True:
            fresh += FRESH_PER_SAMPLE
            while fresh >= 1.0:
                fresh -= 1.0
                step = next(stream)
                kept = rare if _is_rare(step) else others
                if len(kept) < KEPT:
                    kept.append(step)
                else:
                    kept[rng.randrange(KEPT)] = step
            step = rng.choice(rare if rng.random() < RARE else others)
            prev = spoil(step.prev, rng) if rng.random() < SPOILT else step.prev
            yield codec.tensors(prev, step.inputs, step.next)


def _is_rare(step: Transition) -> bool:
    changed = int((step.prev != step.next).any(axis=-1).sum())
    return step.inputs.pressed or changed > MANY_PIXELS


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
            train_dataset=RareOften(seed),
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
