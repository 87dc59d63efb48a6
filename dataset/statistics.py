"""What the mixture came to: requested and actual shares, rates, ages, shortfalls, over the last completed batches."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from dataset.mixture import Weights
from dataset.receipt import Receipt, Redraw
from dataset.source import SourceStats

WINDOW = 60.0
"""Seconds of completed batches that shares and rates are taken over."""
KEPT = 1000
"""At most so many batches of them, and so many ages of samples a source."""


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


class _Batch(msgspec.Struct):
    time: float
    rows: Sequence[str]
    redraws: Sequence[Redraw]
    sizes: Mapping[str, int]
    counts: Mapping[str, int] | None = None

    def counted(self) -> Mapping[str, int]:
        """Rows by source."""
        if self.counts is None:
            self.counts, self.rows = Counter(self.rows), ()
        return self.counts


class Tally:
    """Counts completed batches; those in the window are added up when they are asked for."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = tuple(sources)
        self._batches: deque[_Batch] = deque()
        self._ages: dict[str, deque[float]] = {name: deque(maxlen=KEPT) for name in self._sources}
        self._since: float | None = None  # the window begins there; None: with its first batch, begun nobody knows when
        self._total = 0

    def book(self, receipt: Receipt, now: float) -> None:
        """Take in a completed batch."""
        if receipt.times:
            for name, received in zip(receipt.sources, receipt.times, strict=True):
                if received is not None:
                    self._ages[name].append(now - received)
        self._batches.append(_Batch(now, receipt.sources, receipt.redraws, receipt.sizes))
        self._total += len(receipt.sources)
        if len(self._batches) > KEPT:
            self._forget_first()

    def statistics(self, weights: Weights, readers: Mapping[str, SourceStats], now: float) -> MixtureStatistics:
        """The figures as of now."""
        while self._batches and self._batches[0].time < now - WINDOW:
            self._forget_first()
        first = self._batches[0] if self._batches else None
        since = self._since if self._since is not None else first.time if first else now
        counts = _total(batch.counted() for batch in self._batches)
        dry = Counter(name for batch in self._batches for redraw in batch.redraws for name in redraw.dry)
        sizes = _total(batch.sizes for batch in self._batches)
        shares, samples, seconds = weights.shares(), counts.total(), now - since
        sources = {}
        for name in self._sources:
            count, size = counts[name], sizes[name]
            if self._since is None and first is not None:  # when its first batch was begun is not known
                count, size = count - first.counted().get(name, 0), size - first.sizes.get(name, 0)
            reader = readers.get(name, SourceStats())
            sources[name] = SourceStatistics(
                weight=weights.by_source[name],
                requested=shares[name],
                actual=counts[name] / samples if samples else 0.0,
                samples=counts[name],
                samples_per_second=count / seconds if seconds > 0 else 0.0,
                bytes_per_second=size / seconds if seconds > 0 else 0.0,
                shortfall=dry[name],
                age=median(self._ages[name]) if self._ages[name] else None,
                repeats=reader.repeats,
                skipped=reader.skipped,
                jumped=reader.jumped,
                lag=reader.lag,
                oldest_waiting=reader.oldest_waiting,
            )
        return MixtureStatistics(weights.version, seconds, samples, self._total, sources)

    def _forget_first(self) -> None:
        self._since = self._batches.popleft().time


def _total(counted: Iterable[Mapping[str, int]]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for counts in counted:
        for name, count in counts.items():
            totals[name] += count
    return totals
