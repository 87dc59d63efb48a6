"""What the losses of the last steps say about the newest one."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

WINDOW = 64
FEWEST = 16
"""Losses that must be known before one can stand out."""
NORMAL = 1.4826  # a median absolute deviation of normal numbers, times this, is their standard deviation
CALM = 3
"""Steps below the limit after which a spike has passed."""


@dataclass(frozen=True)
class Spike:
    """A loss that stands out: `usual` is the median of those before, `deviations` how far it lies above."""

    step: int
    loss: float
    usual: float
    deviations: float


class LossWatch:
    """Finds spikes: a loss so many robust deviations, and a fifth, above the median of the last steps.

    Losses of a spike are left out of what counts as usual, but for so long only: a new level becomes the usual one.
    """

    def __init__(self, deviations: float = 8.0, rise: float = 0.2) -> None:
        self._deviations, self._rise = deviations, rise
        self._usual: deque[float] = deque(maxlen=WINDOW)
        self._calm, self._spiking = CALM, 0

    def begin(self) -> None:
        """Another state was loaded: what was usual is not known."""
        self._usual.clear()
        self._calm, self._spiking = CALM, 0

    def see(self, step: int, loss: float) -> Spike | None:
        """Take in a step's loss; the spike that begins with it, if one does."""
        if not math.isfinite(loss):
            return None
        if len(self._usual) < FEWEST:
            self._usual.append(loss)
            return None
        middle = median(self._usual)
        spread = NORMAL * median(abs(value - middle) for value in self._usual)
        above = (loss - middle) / max(spread, 1e-12)
        if above <= self._deviations or loss - middle <= self._rise * abs(middle):
            self._usual.append(loss)
            self._calm, self._spiking = self._calm + 1, 0
            return None
        begins = self._calm >= CALM and not self._spiking
        self._calm, self._spiking = 0, self._spiking + 1
        if self._spiking >= FEWEST:
            self._usual.append(loss)
        return Spike(step, loss, middle, above) if begins else None
