"""A training of several ranks as a launcher starts it (torchrun, accelerate): `two_ranks.py FOLDER URL TOKEN`."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["ACCELERATE_USE_CPU"] = "true"

import torch
import torch.distributed as dist
from transformers import Trainer, TrainerCallback

from tests.trainer.trainings import Sentences, arguments, gpt2
from trainer import EmaSettings, InteractiveSettings, make_interactive

TIMEOUT = 6
"""Seconds that a collective of the gradients may take; a pause lasts longer."""


class Remembers(TrainerCallback):
    """The rate of each step on this rank."""

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.rates[state.global_step + 1] = given["optimizer"].param_groups[0]["lr"]


def main(folder: Path, url: str, token: str) -> None:
    """Train until it is stopped; say what this rank has come to."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    remembers = Remembers()
    model = gpt2(dropout=0.0)
    trainer = make_interactive(Trainer)(
        model=model,
        args=arguments(
            folder, max_steps=1_000_000, lr_scheduler_type="constant", ddp_backend="gloo", ddp_timeout=TIMEOUT
        ),
        train_dataset=Sentences(4096),
        eval_dataset=Sentences(8),
        callbacks=[remembers],
        control=InteractiveSettings.model_validate(
            {"url": url, "token": token, "run": "ranks", "folder": folder / "run", "ema": EmaSettings()}
        ),
    )
    assert trainer.args.ddp_timeout_delta == timedelta(seconds=TIMEOUT)
    trainer.train()
    total = float(sum(parameter.detach().double().sum() for parameter in model.parameters()))
    told = {"step": trainer.state.global_step, "rates": remembers.rates, "total": total}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()  # else the interpreter may abort at exit, with the work done


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
