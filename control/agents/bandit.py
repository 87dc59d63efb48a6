"""Which data to draw more of: an online-mixing bandit (Albalak et al. 2023, "Efficient Online Data Mixing").

The sources are the arms of an Exp3 bandit with a decaying exploration rate. An arm's reward is what is left to be
learned from its source: its training loss, and how far the evaluations that depend on it are from their goals. The
shares that come out are moved into an operator's bounds. There the exploration rate is also what the rewards are
multiplied with; as their average does not grow, that would fade to equal shares in time, so `strength` takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class Bandit:
    """Shares by source. Rewards are numbers from 0 to 1; `memory` is the weight of the past in their average, and
    `strength` how much a larger one counts."""

    def __init__(self, sources: Sequence[str], memory: float = 0.9, strength: float = 1.0) -> None:
        self._memory, self._strength = memory, strength
        self._gains = dict.fromkeys(sources, 0.0)
        self._rounds = 0

    @property
    def sources(self) -> frozenset[str]:
        """The arms."""
        return frozenset(self._gains)

    def learn(self, rewards: Mapping[str, float], shares: Mapping[str, float]) -> None:
        """One round: the reward of each source that was seen, drawn with these shares (importance weights)."""
        least = self.exploration() / len(self._gains)
        self._rounds += 1
        for source, reward in rewards.items():
            if source in self._gains:
                estimated = reward / max(shares.get(source, 0.0), least, 1e-3)
                self._gains[source] = self._memory * self._gains[source] + (1 - self._memory) * estimated

    def exploration(self) -> float:
        """The least share of an arm: 1/K at first, then falling with the square root of the rounds."""
        count = len(self._gains)
        if self._rounds == 0 or count == 1:
            return 1.0 / count
        return min(1.0 / count, math.sqrt(math.log(count) / (count * self._rounds)))

    def shares(self) -> dict[str, float]:
        """What to draw from now on; the sum is 1."""
        count, least = len(self._gains), self.exploration()
        top = max(self._gains.values())
        weights = {source: math.exp(self._strength * (gain - top)) for source, gain in self._gains.items()}
        total = math.fsum(weights.values())
        return {source: (1 - count * least) * weight / total + least for source, weight in weights.items()}


def within(wanted: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The shares nearest to those that are wanted (in the sum of squares) which obey the bounds and sum to 1.

    Where the bounds leave no such shares, the nearest corner of them, scaled to 1.
    """
    low = {name: bounds.get(name, (0.0, 1.0))[0] for name in wanted}
    high = {name: bounds.get(name, (0.0, 1.0))[1] for name in wanted}

    def clipped(shift: float) -> dict[str, float]:
        return {name: min(high[name], max(low[name], share + shift)) for name, share in wanted.items()}

    below, above = -2.0, 2.0
    for _ in range(60):
        middle = (below + above) / 2
        if math.fsum(clipped(middle).values()) < 1:
            below = middle
        else:
            above = middle
    found = clipped((below + above) / 2)
    total = math.fsum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else dict(wanted)
