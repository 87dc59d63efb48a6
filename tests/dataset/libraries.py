"""Datasets of other libraries, as people hand them over: what workers unpickle has to lie in a module."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import webdataset
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, get_worker_info

from tests.dataset.streams import key

datasets.disable_progress_bars()


def rows(shards: list[int], size: int = 6) -> Iterator[dict[str, Any]]:
    """Rows of numbered shards; a generator function as `from_generator` takes it."""
    for shard in shards:
        for number in range(shard * size, (shard + 1) * size):
            yield {"key": key(number), "x": [number, number + 1]}


def hf_iterable(shards: int = 4, size: int = 6) -> datasets.IterableDataset:
    """Streamed rows, in shards."""
    return datasets.IterableDataset.from_generator(rows, gen_kwargs={"shards": list(range(shards)), "size": size})


def hf_map(size: int = 24) -> datasets.Dataset:
    """Rows in an arrow table."""
    table = {"key": [key(number) for number in range(size)], "x": [[number, number + 1] for number in range(size)]}
    return datasets.Dataset.from_dict(table)


def doubled(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset is mapped with."""
    return {**row, "twice": 2 * np.asarray(row["x"]).sum()}


class Slice(Dataset[dict[str, Any]]):
    """Some numbers of a map-style dataset."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return {"key": key(self.first + index), "x": torch.tensor([self.first + index])}


def concatenated() -> ConcatDataset[dict[str, Any]]:
    """Three map-style datasets as one."""
    return ConcatDataset([Slice(0, 10), Slice(10, 1), Slice(11, 13)])


class SplitsItself(IterableDataset[dict[str, Any]]):
    """Each worker of a `DataLoader` reads every n-th, as torch's documentation says; it also has a length."""

    def __init__(self, size: int = 24) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(first, self.size, step):
            yield {"key": key(number), "x": torch.tensor([number])}


class Stateful(IterableDataset[dict[str, Any]]):
    """Knows where it is, and goes on from there; counts what it makes."""

    def __init__(self, size: int = 24) -> None:
        self.size, self.next, self.made = size, 0, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.next < self.size:
            self.next += 1
            self.made += 1
            yield {"key": key(self.next - 1), "x": torch.tensor([self.next])}
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class OneWay(Stateful):
    """An iterator that knows where it is."""

    def __iter__(self) -> OneWay:
        return self

    def __next__(self) -> dict[str, Any]:
        if self.next >= self.size:
            raise StopIteration
        self.next += 1
        return {"key": key(self.next - 1), "x": torch.tensor([self.next])}


class Forgets(Stateful):
    """Says where it is, and goes on elsewhere, as a dataset with a buffer of its own does."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = min(state["next"] + 2, self.size) if state["next"] else 0


class PerPass(IterableDataset[dict[str, Any]]):
    """In another order in each pass, which it is told the number of; and of another length."""

    def __init__(self, size: int = 24, shrinks: bool = False) -> None:
        self.size, self.epoch, self.shrinks = size, 0, shrinks

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = np.random.default_rng(self.epoch).permutation(self.size)
        if self.shrinks:
            order = order[: self.size - 5 * (self.epoch % 3)]
        for number in order.tolist():
            yield {"key": key(number), "x": torch.tensor([number])}


def image_tars(folder: Path, tars: int = 3, each: int = 8) -> str:
    """Tars of arrays and JSON; their URL, as webdataset takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(tars):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for number in range(shard * each, (shard + 1) * each):
                buffer = io.BytesIO()
                np.save(buffer, np.full((2, 2), number, np.uint8))
                for name, content in (("json", json.dumps({"number": number}).encode()), ("npy", buffer.getvalue())):
                    info = tarfile.TarInfo(f"{key(number)}.{name}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(folder / f"{{000..{tars - 1:03d}}}.tar")


def named(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The last stage of a pipeline."""
    return {
        "key": sample["__key__"],
        "x": torch.from_numpy(np.array(sample["npy"])),
        "number": sample["json"]["number"],
    }


def wds_fluid(folder: Path) -> webdataset.WebDataset:
    """The pipeline of webdataset's own first page: shards and samples shuffled, decoded, mapped."""
    url = image_tars(folder)
    return webdataset.WebDataset(url, shardshuffle=3).shuffle(10, initial=4).decode().map(named)


def wds_stages(folder: Path) -> webdataset.DataPipeline:
    """The same, stage by stage, with splitting by node and worker."""
    return webdataset.DataPipeline(
        webdataset.SimpleShardList(image_tars(folder)),
        webdataset.detshuffle(),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(),
        webdataset.shuffle(7),
        webdataset.decode(),
        webdataset.map(named),
    )
