"""A tiny app's model and recipe: some thousand weights, so that a step takes a few milliseconds."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from thumbnail_steps import GRID, SHRINK, transition
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from examples.desktop.inputs import Inputs
from examples.desktop.scripted import base_stream
from ingest.annotator import Members
from trainer import DiffusionTrainer, make_interactive
from trainer.recipe import TrainingContext

EVALUATED = 8
PAUSE = 0.03
"""Seconds after each step, for what runs beside it: a model as small as this would take a processor for itself."""


class Unhurried(TrainerCallback):
    """Trains some thirty steps a second, at most."""

    def on_step_end(self, *args: Any, **told: Any) -> None:
        time.sleep(PAUSE)


def to_tensors(members: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    """`sample` [3, 12, 16]: half the change; `condition` [5, 12, 16]: the frame before, and where was clicked."""
    before, after = _pixels(members["prev.u8"]), _pixels(members["next.u8"])
    inputs = Inputs.parse(json.loads(members["json"])["inputs"])
    clicks = torch.zeros(2, *GRID)
    clicks[int(inputs.right), inputs.y // SHRINK, inputs.x // SHRINK] = float(inputs.left or inputs.right)
    return {"sample": (after - before) / 2, "condition": torch.cat([before, clicks])}


def recipe(context: TrainingContext) -> Any:
    """A diffusion trainer of small steps."""
    assert context.base_model is not None
    arguments = TrainingArguments(
        output_dir=str(context.folder),
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_steps=10**9,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=context.seed,
    )
    return make_interactive(DiffusionTrainer)(
        model=UNet2DModel.from_pretrained(context.base_model),  # type: ignore[no-untyped-call]
        noise_scheduler=_scheduler(),
        args=arguments,
        train_dataset=context.data,
        eval_dataset=_Evaluated(),
        control=context.control,
        callbacks=[Unhurried()],
    )


def write_base(folder: Path) -> None:
    """The packaged base model: untrained."""
    torch.manual_seed(0)
    model = UNet2DModel(  # type: ignore[no-untyped-call]
        sample_size=GRID,
        in_channels=8,
        out_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        add_attention=False,
        norm_num_groups=2,
    )
    model.save_pretrained(folder)
    _scheduler().save_pretrained(folder)


def write_base_shard(folder: Path, samples: int = 200) -> None:
    """What scripted people do, as a shard for the source `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "base-000000.tar", "w") as shard:
        for number, members in enumerate(_transitions(samples)):
            for extension, content in members.items():
                entry = tarfile.TarInfo(f"base-{number:06d}.{extension}")
                entry.size = len(content)
                shard.addfile(entry, BytesIO(content))


class _Evaluated(Dataset[dict[str, torch.Tensor]]):
    """A few transitions of scripted people."""

    def __init__(self) -> None:
        self._rows = [to_tensors(members) for members in _transitions(EVALUATED)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._rows[index]


def _transitions(count: int) -> Iterator[Members]:
    for made in islice(base_stream(7), count):
        yield transition(made.prev, made.inputs, made.next)


def _scheduler() -> Any:
    return DDIMScheduler(num_train_timesteps=10, prediction_type="sample")  # type: ignore[no-untyped-call]


def _pixels(raw: bytes) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    return flat.reshape(*GRID, 3).permute(2, 0, 1).float() / 127.5 - 1
