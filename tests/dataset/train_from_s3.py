"""A training run without a model whose base and history lie in S3: writes what it trained and its state at each step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dataset import HistorySource, RemoteOptions, ShardSource, make_interactive_dataset
from ingest.shards import DirectoryStore
from ingest.shards.cache import ShardCache
from ingest.shards.cached import CachedStore
from ingest.shards.s3 import S3Store
from tests.dataset.streams import decode

PARTITIONS = 2


def sources_in_s3(address: str, endpoint: str, cache: Path, cache_bytes: int) -> dict[str, Any]:
    remote = RemoteOptions(endpoint=endpoint, cache=cache, cache_bytes=cache_bytes)
    archive = CachedStore(S3Store(f"{address}/archive", endpoint=endpoint), ShardCache(cache, cache_bytes))
    return {
        "base": ShardSource(f"{address}/base", decode=decode, remote=remote),
        "history": HistorySource(archive, follows=None, partitions=PARTITIONS, decode=decode),
    }


def sources_in_folder(folder: Path) -> dict[str, Any]:
    return {
        "base": ShardSource(folder / "base", decode=decode),
        "history": HistorySource(
            DirectoryStore(folder / "archive"), follows=None, partitions=PARTITIONS, decode=decode
        ),
    }


def train(sources: dict[str, Any], checkpoint: Path, workers: int, steps: int) -> list[str]:
    data = make_interactive_dataset(sources, {"base": 1, "history": 1}, seed=3, workers=workers)
    trained: list[str] = []
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        trained = saved["trained"]
        data.load_state_dict(saved["state"])
    while len(trained) < 4 * steps:
        items, receipt = data.take(4)
        data.complete([receipt])
        trained += [item.sample["key"] for item in items]
        staged = checkpoint.with_suffix(".part")
        staged.write_text(json.dumps({"trained": trained, "state": data.state_dict()}))
        os.replace(staged, checkpoint)
    data.close()
    return trained


def train_in_s3(
    address: str, endpoint: str, cache: Path, cache_bytes: int, checkpoint: Path, workers: int, steps: int
) -> None:
    train(sources_in_s3(address, endpoint, cache, cache_bytes), checkpoint, workers, steps)
