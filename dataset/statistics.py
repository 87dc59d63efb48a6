"""What the mixture came to: requested and actual shares, rates, ages, shortfalls, over the last completed batches."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import msgspec

from dataset.mixture import Weights
from dataset.receipt import Receipt
from dataset.source import SourceStats

WINDOW = 60.0
"""Seconds of completed batches that shares and rates are taken over (at most `KEPT` batches)."""
KEPT = 2000


class SourceStatistics(msgspec.Struct, frozen=True):
    """One source. `requested` and `actual` are shares; `shortfall` counts draws in the window that found it dry.

    `age` is the median seconds from when a sample's step was received to when it was trained, None where times are
    unknown. The rest are the counters of its reader (see `SourceStats`).
    """

    weight: float
    requested: float
    actual: float
    samples: int
    samples_per_second: float
    bytes_per_second: float
    shortfall: int
    age: float | None
    repeats: int = 0
    skipped: int = 0
    jumped: int = 0
    lag: int = -1
    oldest_waiting: float | None = None


class MixtureStatistics(msgspec.Struct, frozen=True):
    """The mixture over the last `seconds`; `total` counts samples that were trained since the stream was opened."""

    version: int
    seconds: float
    samples: int
    total: int
    sources: Mapping[str, SourceStatistics]

    def as_event(self) -> dict[str, Any]:
        """The body of an event of type `mixture`."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


class _Batch(msgspec.Struct, frozen=True):
    time: float
    counts: Counter[str]
    dry: Counter[str]
    sizes: Mapping[str, int]
    ages: Mapping[str, list[float]]


class Tally:
    """Counts completed batches."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = tuple(sources)
        self._batches: deque[_Batch] = deque(maxlen=KEPT)
        self._since: float | None = None  # when the window's first batch was begun
        self._total = 0

    def book(self, receipt: Receipt, now: float) -> None:
        """Take in a completed batch."""
        ages: dict[str, list[float]] = {}
        for name, received in zip(receipt.sources, receipt.times, strict=True):
            if received is not None:
                ages.setdefault(name, []).append(now - received)
        dry = Counter(name for redraw in receipt.redraws for name in redraw.dry)
        self._batches.append(_Batch(now, Counter(receipt.sources), dry, receipt.sizes, ages))
        self._total += len(receipt.sources)

    def statistics(self, weights: Weights, readers: Mapping[str, SourceStats], now: float) -> MixtureStatistics:
        """The figures as of now."""
        while self._batches and self._batches[0].time < now - WINDOW:
            self._since = self._batches.popleft().time
        batches = self._batches
        since = self._since if self._since is not None else (batches[0].time if batches else now)
        seconds = now - since
        counts: Counter[str] = Counter()
        dry: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        ages: dict[str, list[float]] = {}
        for batch in batches:
            counts.update(batch.counts)
            dry.update(batch.dry)
            sizes.update(batch.sizes)
            for name, known in batch.ages.items():
                ages.setdefault(name, []).extend(known)
        shares, samples = weights.shares(), counts.total()
        sources = {}
        for name in self._sources:
            reader = readers.get(name, SourceStats())
            sources[name] = SourceStatistics(
                weight=weights.by_source[name],
                requested=shares[name],
                actual=counts[name] / samples if samples else 0.0,
                samples=counts[name],
                samples_per_second=counts[name] / seconds if seconds > 0 else 0.0,
                bytes_per_second=sizes[name] / seconds if seconds > 0 else 0.0,
                shortfall=dry[name],
                age=median(ages[name]) if name in ages else None,
                repeats=reader.repeats,
                skipped=reader.skipped,
                jumped=reader.jumped,
                lag=reader.lag,
                oldest_waiting=reader.oldest_waiting,
            )
        return MixtureStatistics(weights.version, seconds, samples, self._total, sources)
