"""A training run without a model, as torchrun starts it: ranks that mix, each its part, and change weights together.

    torchrun … two_ranks.py FOLDER STEPS

Rank 0 announces a change of weights every third step. Each rank writes down what it trained, step by step, and rank 0
the state of all. It goes on where a state stands, on whatever number of ranks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dataset import LiveSource, MapSource, MixtureLoader, make_interactive_dataset, merge_states, take_receipt
from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import decode

WORKERS = 1


def main(folder: Path, steps: int) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    sources = {
        "base": MapSource([{"key": f"base/{number}"} for number in range(40)]),
        "live": LiveSource(SqliteLog(folder / "log", Layout(partitions=2)), decode=decode),
    }
    data = make_interactive_dataset(sources, {"base": 1, "live": 1}, seed=6, workers=WORKERS)
    saved = folder / "state.json"
    if saved.exists():
        data.load_state_dict(json.loads(saved.read_text()))
    batches = iter(MixtureLoader(data, 4, rank=rank, world=world))
    for step in range(steps):
        if step % 3 == 2:
            announced = torch.tensor([data.weights.version + 1, step % 4 + 1] if rank == 0 else [0, 0])
            dist.broadcast(announced, 0)
            data.set_weights({"live": float(announced[1])}, at_version=int(announced[0]))
        receipt = take_receipt(next(batches))
        dist.barrier()  # the gradients are exchanged
        data.complete([receipt])
        told = [receipt.version, receipt.keys_of("live"), receipt.keys_of("base"), world]
        with (folder / f"trained-{rank}.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")
    states: list[object] = [None] * world
    dist.all_gather_object(states, data.state_dict())
    if rank == 0:
        saved.write_text(json.dumps(merge_states(states)))  # type: ignore[arg-type]
    data.close()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
