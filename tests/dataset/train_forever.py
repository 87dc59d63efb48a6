"""A training run without a model: takes batches, and after each step writes its state and what it trained, at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dataset import LiveSource, MapSource, make_interactive_dataset
from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import decode


def train_forever(log: Path, checkpoint: Path, workers: int = 0) -> None:
    sources = {
        "base": MapSource([{"key": f"base/{number}"} for number in range(50)]),
        "live": LiveSource(SqliteLog(log, Layout(partitions=2)), decode=decode),
    }
    data = make_interactive_dataset(sources, {"base": 1, "live": 3}, workers=workers)
    trained: list[str] = []
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        trained = saved["trained"]
        data.load_state_dict(saved["state"])
    while True:
        taken = [data.take(3) for _ in range(2)]  # an accumulation of two
        receipts = [receipt for _, receipt in taken]
        data.complete(receipts)
        for receipt in receipts:
            trained += receipt.keys_of("live")
        staged = checkpoint.with_suffix(".part")
        processes = data._reading.pool.processes if data._reading.pool is not None else ()
        staged.write_text(json.dumps({"trained": trained, "state": data.state_dict(), "workers": processes}))
        os.replace(staged, checkpoint)
