"""Mixers of three sources that cost next to nothing, each as its library would have it, by batches of samples.

Every source gives the same object again and again, and counts what it gave where its library asks a source to know its
place. What differs is the mixers' own work; ours also has keys and positions for every sample, and books them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dataset import ORIGIN, IntervalSet, Item, MapSource, Share, SourceStats, Span, make_interactive_dataset

WEIGHTS = {"base": 0.7, "history": 0.2, "live": 0.1}
Batches = Iterator[Any]
Mixer = Callable[[int], Batches]
"""Makes batches of so many samples, without end."""


class OneByOne:
    """A source of one sample, again and again, at ever later positions: all that a `Source` has to be."""

    fingerprint = "same"

    def __init__(self, sample: Mapping[str, Any]) -> None:
        self.sample = sample
        self.at = ORIGIN

    def open(self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None) -> Any:
        return self

    def poll(self) -> Item:
        start = self.at
        self.at = end = (0, start[1] + 1)
        return Item(self.sample, "", Span("0", start, end))

    def exhausted(self) -> bool:
        return False

    def stats(self) -> SourceStats:
        return SourceStats()

    def state(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass


class Same:
    """A map-style dataset of one sample, which it gives for every index."""

    def __init__(self, sample: Mapping[str, Any]) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.sample

    def __getitems__(self, indices: Sequence[int]) -> list[Mapping[str, Any]]:
        return [self.sample] * len(indices)


def ours(size: int) -> Batches:
    """Of map-style datasets, in their own order. Weights may change before any batch, and each is booked when its step is
    done."""
    return _mixed(lambda sample: MapSource(Same(sample), shuffle=False), size)


def ours_one_by_one(size: int) -> Batches:
    """The same, of sources of one's own that are asked for every sample by itself."""
    return _mixed(OneByOne, size)


def _mixed(source: Callable[[Mapping[str, Any]], Any], size: int) -> Batches:
    mixture = make_interactive_dataset({name: source({"source": name}) for name in WEIGHTS}, WEIGHTS)
    while (taken := mixture.take_samples(size)) is not None:
        samples, receipt = taken
        yield samples
        mixture.complete([receipt])


def torchdata(size: int) -> Batches:
    """`MultiNodeWeightedSampler`, which draws 1,000 ahead."""
    from torchdata.nodes import BaseNode, Batcher, MultiNodeWeightedSampler

    class Node(BaseNode[Any]):
        def __init__(self, sample: Any) -> None:
            super().__init__()
            self.sample = sample
            self.given = 0

        def reset(self, initial_state: Any = None) -> None:
            super().reset(initial_state)
            self.given = initial_state["given"] if initial_state else 0

        def next(self) -> Any:
            self.given += 1
            return self.sample

        def get_state(self) -> dict[str, Any]:
            return {"given": self.given}

    nodes = {name: Node({"source": name}) for name in WEIGHTS}
    sampler = MultiNodeWeightedSampler(nodes, WEIGHTS, stop_criteria="CYCLE_FOREVER", rank=0, world_size=1)
    batcher = Batcher(sampler, size)
    batcher.reset()
    return iter(lambda: next(batcher), None)


def webdataset(size: int) -> Batches:
    """`RandomMix`."""
    from webdataset.filters import batched
    from webdataset.mix import RandomMix

    sources = [Endless({"source": name}) for name in WEIGHTS]
    return iter(batched(size, collation_fn=None)(RandomMix(sources, list(WEIGHTS.values()))))


def datasets(size: int) -> Batches:
    """Hugging Face's `interleave_datasets`, of iterable datasets."""
    from datasets import IterableDataset, interleave_datasets

    parts = [IterableDataset.from_generator(Endless({"source": name}).__iter__) for name in WEIGHTS]
    return iter(interleave_datasets(parts, probabilities=list(WEIGHTS.values()), seed=0).iter(size))


def grain(size: int) -> Batches:
    """`IterDataset.mix`."""
    from grain import IterDataset, MapDataset, ReadOptions

    in_turn = ReadOptions(num_threads=0, prefetch_buffer_size=0)
    parts = [MapDataset.source([{"source": name}] * 1000).repeat().to_iter_dataset(in_turn) for name in WEIGHTS]
    return iter(IterDataset.mix(parts, list(WEIGHTS.values())).batch(size, batch_fn=list))


class Endless:
    """The same sample for ever."""

    def __init__(self, sample: Mapping[str, Any]) -> None:
        self.sample = sample

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        while True:
            yield self.sample


PEERS: dict[str, Mixer] = {"torchdata": torchdata, "webdataset": webdataset, "datasets": datasets, "grain": grain}


def installed(module: str) -> bool:
    """Whether a peer can be measured here; `make bench` installs all."""
    return importlib.util.find_spec(module) is not None
