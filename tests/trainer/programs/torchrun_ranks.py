"""A real training as torchrun starts it, over sources of unequal size: one rank runs dry before the other.

    torchrun … torchrun_ranks.py FOLDER UNTIL

Rank 0 changes weights after the third step of its life, waits until step UNTIL was made, a little longer for steps that
must not come, and stops. Each rank writes down what it trained: step, weights version, keys by source.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import IterableDataset, get_worker_info
from transformers import Trainer, TrainerCallback

from dataset import IterableSource, LiveSource, make_interactive_dataset
from tests.trainer.livedata import open_log, words
from tests.trainer.trainings import LENGTH, WORDS, arguments, gpt2
from trainer import InteractiveSettings, MemoryLink, make_interactive

BASE = 30


class Rows(IterableDataset[dict[str, Any]]):
    """A finite iterable; it would split itself by workers, if there were any."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        for number in range(0 if info is None else info.id, BASE, 1 if info is None else info.num_workers):
            row = (torch.arange(LENGTH) * (number + 2)) % WORDS
            yield {"__key__": f"base/{number}", "input_ids": row, "labels": row}


def tensors(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "__key__"}


class Notes(TrainerCallback):
    """Steps of this life; after the third one, rank 0 changes weights."""

    def __init__(self, link: MemoryLink) -> None:
        self.link, self.steps = link, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps += 1
        if self.steps == 3:
            self.link.send("update_dataset_runtime_hyperparameters", weights={"base": 2, "live": 1})


def main(folder: Path, until: int) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    sources = {
        "base": IterableSource(Rows(), decode=tensors, epochs=1, parts=2),
        "live": LiveSource(open_log(folder / "log"), decode=words),
    }
    data = make_interactive_dataset(sources, {"base": 1, "live": 2}, seed=3)
    told, complete = (folder / f"trained-{rank}.jsonl").open("a"), data.complete

    def noting(receipts: Any) -> None:
        batches = list(receipts)
        complete(batches)
        for receipt in batches:
            keys = {name: receipt.keys_of(name) for name in sources}
            told.write(json.dumps([trainer.state.global_step, receipt.version, keys]) + "\n")
        told.flush()

    data.complete = noting  # type: ignore[method-assign]
    link = MemoryLink()
    trainer = make_interactive(Trainer)(
        model=gpt2(dropout=0.0),
        args=arguments(
            folder / f"args-{world}",
            lr_scheduler_type="constant",
            max_steps=100_000,
            per_device_train_batch_size=2,
            **({"ddp_backend": "gloo"} if world > 1 else {}),
        ),
        train_dataset=data,
        callbacks=[Notes(link)],
        control=InteractiveSettings(folder=folder / "run", run="torchrun", serve=False),
        link=link,
    )
    if rank == 0:
        threading.Thread(target=stop_after, args=(trainer, link, until), daemon=True).start()
    trainer.train(resume_from_checkpoint=world == 1)
    total = float(sum(parameter.detach().double().sum() for parameter in trainer.model.parameters()))
    (folder / f"ended-{world}-{rank}.json").write_text(json.dumps([trainer.state.global_step, total]))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def stop_after(trainer: Any, link: MemoryLink, until: int) -> None:
    while trainer.state.global_step < until:
        time.sleep(0.02)
    time.sleep(1)
    link.send("stop_training", save=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
