"""What a history can be drawn from, weighed by age: a pool is a function of its snapshot and of the archive."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.shard_reader import ShardChain

Intervals: TypeAlias = Mapping[str, tuple[tuple[int, int, int, int], ...]]
"""By partition: offset and index of the start, offset and index of the end."""


class Snapshot(msgspec.Struct, frozen=True):
    """What can be drawn from, and with which half-life (samples, or seconds), from draw number `from_draw` on."""

    from_draw: int
    eligible: Intervals
    half_life: float | None = None
    half_life_seconds: float | None = None


class Pool(Protocol):
    """The samples of a snapshot."""

    snapshot: Snapshot
    total: int

    def at(self, uniform: float) -> tuple[str, int]:
        """The sample that a number in [0, 1) draws: its partition, and its number there."""
        ...


class PoolByCount:
    """Samples that are all alike, or weighed by how many of their partition are newer.

    A stretch is drawn from by its weight, and within it by age: both in closed form, whatever its length.
    """

    def __init__(self, snapshot: Snapshot, chains: Mapping[str, ShardChain]) -> None:
        self.snapshot = snapshot
        self._stretches: list[tuple[str, int, int]] = []  # partition, first sample, number of samples
        weights: list[float] = []
        for partition, quads in _in_order(snapshot):
            newer = 0  # samples of the partition that are newer than the stretch
            stretches = []
            for a, b, c, d in reversed(quads):
                first, end = chains[partition].number_at((a, b)), chains[partition].number_at((c, d))
                stretches.append(((partition, first, end - first), self._weight(newer, end - first)))
                newer += end - first
            for stretch, weight in reversed(stretches):
                self._stretches.append(stretch)
                weights.append(weight)
        self._ends = list(accumulate(weights))
        self.total = sum(count for _, _, count in self._stretches)

    def at(self, uniform: float) -> tuple[str, int]:
        """See `Pool`."""
        if self.snapshot.half_life is None:  # whole numbers, all the way
            drawn = min(int(uniform * self.total), self.total - 1)
            at = bisect_right(self._ends, drawn)
            partition, first, _ = self._stretches[at]
            return partition, first + drawn - int(self._ends[at - 1] if at else 0)
        weighed = uniform * self._ends[-1]
        at = min(bisect_right(self._ends, weighed), len(self._ends) - 1)
        before = self._ends[at - 1] if at else 0.0
        partition, first, count = self._stretches[at]
        age = self._age((weighed - before) / (self._ends[at] - before), count)
        return partition, first + count - 1 - age

    def _weight(self, newer: int, count: int) -> float:
        """Of `count` samples with so many newer ones: the sum of 2 ** -(age / half-life) over them, but for a factor."""
        half_life = self.snapshot.half_life
        if half_life is None:
            return count
        return math.exp2(-newer / half_life) * -math.expm1(-math.log(2) * count / half_life)

    def _age(self, uniform: float, count: int) -> int:
        """How many samples of a stretch are newer than the drawn one: the inverse of the sum."""
        rate = math.log(2) / (self.snapshot.half_life or 1.0)
        age = -math.log1p(uniform * math.expm1(-rate * count)) / rate
        return min(int(age), count - 1)


class Times:
    """When the samples of shards were received, read once from the shards' indexes."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], NDArray[np.float64]] = {}

    def of(self, partition: str, chain: ShardChain, shard: int) -> NDArray[np.float64]:
        """Unix seconds of each sample of a shard."""
        times = self._times.get((partition, shard))
        if times is None:
            times = self._times[partition, shard] = np.array(chain.shard(shard).times(), np.float64)
        return times


class PoolByTime:
    """Samples weighed by how many seconds before the newest of them they were received.

    The weights within a shard are summed once; a later snapshot only adds the shards that are new, or larger.
    """

    def __init__(
        self, snapshot: Snapshot, chains: Mapping[str, ShardChain], times: Times, before: PoolByTime | None = None
    ) -> None:
        self.snapshot = snapshot
        self.half_life_seconds = snapshot.half_life_seconds or 1.0
        known = before._sums if before is not None and before.half_life_seconds == self.half_life_seconds else {}
        self._sums: dict[tuple[str, int, int, int], tuple[float, NDArray[np.float64]]] = {}
        self._stretches: list[tuple[str, int]] = []  # partition, first sample
        for partition, quads in _in_order(snapshot):
            chain = chains[partition]
            for a, b, c, d in quads:
                first, end = chain.number_at((a, b)), chain.number_at((c, d))
                for shard, low, high in chain.pieces(first, end):
                    key = (partition, shard, low, high)
                    self._sums[key] = known.get(key) or self._summed(times.of(partition, chain, shard)[low:high])
                    self._stretches.append((partition, first))
                    first += high - low
        newest = max((newest for newest, _ in self._sums.values()), default=0.0)
        self._within = [sums for _, sums in self._sums.values()]
        weights = [
            float(sums[-1]) * math.exp2((latest - newest) / self.half_life_seconds)
            for latest, sums in self._sums.values()
        ]
        self._ends = list(accumulate(weights))
        self.total = sum(map(len, self._within))

    def at(self, uniform: float) -> tuple[str, int]:
        """See `Pool`."""
        weighed = uniform * self._ends[-1]
        at = min(bisect_right(self._ends, weighed), len(self._ends) - 1)
        before = self._ends[at - 1] if at else 0.0
        sums = self._within[at]
        place = int(np.searchsorted(sums, (weighed - before) / (self._ends[at] - before) * sums[-1], side="right"))
        partition, first = self._stretches[at]
        return partition, first + min(place, len(sums) - 1)

    def _summed(self, times: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        newest = float(times.max())
        return newest, np.cumsum(np.exp2((times - newest) / self.half_life_seconds))


def pool_of(snapshot: Snapshot, chains: Mapping[str, ShardChain], times: Times, before: Pool | None) -> Pool:
    """The pool of a snapshot; `before` is the one that was drawn from until now."""
    if snapshot.half_life_seconds is None:
        return PoolByCount(snapshot, chains)
    return PoolByTime(snapshot, chains, times, before if isinstance(before, PoolByTime) else None)


def _in_order(snapshot: Snapshot) -> list[tuple[str, tuple[tuple[int, int, int, int], ...]]]:
    return sorted(snapshot.eligible.items(), key=lambda pair: int(pair[0]))
