"""Three mixed sources of the same samples, written and read as four libraries would, decoded to tensors by one function."""

from __future__ import annotations

import io
import json
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader
from webdataset import ShardWriter, WebDataset
from webdataset.mix import RandomMix

from dataset import MixtureLoader, make_interactive_dataset, take_receipt

WEIGHTS = {"base": 0.5, "history": 0.3, "live": 0.2}
BATCH = 32
SHARD_BYTES = 16 << 20
SHUFFLED = 500
ENDLESS = 100_000

Batches = Iterator[Mapping[str, torch.Tensor]]
PREFETCH = 2
"""Batches that a worker may load ahead, as a `DataLoader` has it; none may be further ahead when the clock starts."""


class Data(NamedTuple):
    """What was written in a folder, as each library would have it, in samples of so many bytes."""

    folder: Path
    sample_bytes: int


Pipeline = Callable[[Data, int], Batches]
"""Batches of some data, read by so many workers; closed with the iterator."""


def decode(members: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A frame [height, width, channel] and what the user did before it."""
    frame = np.lib.format.read_array(io.BytesIO(members["npy"]), allow_pickle=False)
    inputs = json.loads(members["json"])
    return {"frame": torch.from_numpy(frame), "action": torch.tensor([inputs["x"], inputs["y"]], dtype=torch.float32)}


def write(folder: Path, samples: int, size: int) -> Data:
    """About `samples` samples of `size` bytes, in every source as many as its weight asks for."""
    for name, weight in WEIGHTS.items():
        made = list(_samples(round(samples * weight), size))
        for writer in (_write_tars, *(write for module, write in _WRITERS.items() if _importable(module))):
            writer(folder, name, made)
    return Data(folder, size)


def ours(data: Data, workers: int) -> Batches:
    """Stovetop: every batch is booked as a training step would."""
    sources = {name: data.folder / "tars" / name for name in WEIGHTS}
    ahead = max(1, PREFETCH * workers * BATCH * data.sample_bytes)
    made = make_interactive_dataset(sources, WEIGHTS, decode=decode, workers=workers, ahead_bytes=ahead)
    with closing(made) as mixture:
        for batch in MixtureLoader(mixture, BATCH):
            receipt = take_receipt(batch)
            yield batch
            mixture.complete([receipt])


def webdataset(data: Data, workers: int) -> Batches:
    """`WebDataset` and `RandomMix`, shuffled in a buffer."""
    sources = [
        WebDataset([str(path) for path in sorted((data.folder / "tars" / name).glob("*.tar"))], resampled=True)
        .shuffle(SHUFFLED)
        .map(decode)
        for name in WEIGHTS
    ]
    return _of(DataLoader(RandomMix(sources, list(WEIGHTS.values())), BATCH, num_workers=workers))


def mosaicml(data: Data, workers: int) -> Batches:
    """`StreamingDataset` of several `Stream`s."""
    streaming = _streaming()

    class Decoded(streaming.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, at: Any) -> Any:
            return decode(super().__getitem__(at))

    streams = [
        streaming.Stream(local=str(data.folder / "mds" / name), proportion=weight) for name, weight in WEIGHTS.items()
    ]
    streaming.base.util.clean_stale_shared_memory()
    dataset = Decoded(streams=streams, batch_size=BATCH, shuffle=True, epoch_size=ENDLESS)
    return _of(DataLoader(dataset, BATCH, num_workers=workers))


def litdata(data: Data, workers: int) -> Batches:
    """`CombinedStreamingDataset`."""
    from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset

    parts = [StreamingDataset(str(data.folder / "litdata" / name), shuffle=True, transform=decode) for name in WEIGHTS]
    mixed = CombinedStreamingDataset(parts, seed=0, weights=list(WEIGHTS.values()), iterate_over_all=False)
    return _of(StreamingDataLoader(mixed, batch_size=BATCH, num_workers=workers))


PEERS: dict[str, tuple[str, Pipeline]] = {
    "webdataset": ("webdataset", webdataset),
    "mosaicml": ("streaming", mosaicml),
    "litdata": ("litdata", litdata),
}
"""The module that each needs, and its pipeline."""


def readable() -> dict[str, Pipeline]:
    """The peers that are installed."""
    return {name: pipeline for name, (module, pipeline) in PEERS.items() if _importable(module)}


def _of(loader: Any) -> Batches:
    yield from loader


def _samples(count: int, size: int) -> Iterator[dict[str, bytes]]:
    edge = round((size / 3) ** 0.5)
    rng = np.random.default_rng(size)
    for number in range(count):
        file = io.BytesIO()
        np.save(file, rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8))
        yield {"npy": file.getvalue(), "json": json.dumps({"x": number % edge, "y": number // edge}).encode()}


def _write_tars(folder: Path, name: str, samples: list[dict[str, bytes]]) -> None:
    target = folder / "tars" / name
    target.mkdir(parents=True)
    with ShardWriter(f"{target}/%06d.tar", maxsize=SHARD_BYTES, verbose=0) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"{name}/{number:08d}", **sample})


def _write_mds(folder: Path, name: str, samples: list[dict[str, bytes]]) -> None:
    columns = {"npy": "bytes", "json": "bytes"}
    with _streaming().MDSWriter(out=str(folder / "mds" / name), columns=columns, size_limit=SHARD_BYTES) as writer:
        for sample in samples:
            writer.write(sample)


def _write_litdata(folder: Path, name: str, samples: list[dict[str, bytes]]) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "litdata" / name), chunk_bytes=SHARD_BYTES)
    for number, sample in enumerate(samples):
        writer[number] = sample
    writer.done()
    writer.merge()


_WRITERS = {"streaming": _write_mds, "litdata": _write_litdata}


def _streaming() -> Any:
    """mosaicml-streaming, but for its part for vision, which is what wants torchvision."""
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    import streaming
    import streaming.base.util

    return streaming


def _importable(module: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            if module == "streaming":
                _streaming()
            else:
                __import__(module)
    except ImportError:
        return False
    return True
