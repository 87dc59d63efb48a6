"""Rates measured in turns, and their ratios: on a machine that is shared, only what ran side by side can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of ratios, and the interval that holds it with 95 % (percentile bootstrap over the rounds)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ours by theirs, where both were measured in the same rounds."""
    logs = np.log(np.asarray(ours) / np.asarray(theirs))
    drawn = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Ratio(math.exp(logs.mean()), math.exp(low), math.exp(high))


def pooled(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], share: float) -> Ratio:
    """A quantile of all that was measured in our windows, by that of theirs; the interval draws whole pairs of windows
    again, since what lies in one window is not independent."""
    ones, others = [np.asarray(window) for window in ours], [np.asarray(window) for window in theirs]

    def among(chosen: Sequence[int]) -> float:
        one, other = (np.concatenate([each[at] for at in chosen]) for each in (ones, others))
        return float(np.quantile(one, share) / np.quantile(other, share))

    drawn = np.random.default_rng(0).choice(len(ones), (RESAMPLES // 4, len(ones)))
    low, high = np.quantile([among(chosen) for chosen in drawn], (0.025, 0.975))
    return Ratio(among(range(len(ones))), float(low), float(high))


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))


def best(rates: Mapping[str, Sequence[float]], of: Sequence[str], lower: bool = False) -> str:
    """Whose geometric mean is the highest (or the lowest) among some."""
    means = {name: float(np.log(rates[name]).mean()) for name in of}
    return min(means, key=means.__getitem__) if lower else max(means, key=means.__getitem__)
