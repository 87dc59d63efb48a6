"""The mixture: weights that an operator changes while it runs, and draws that are a function of them and an index.

A draw looks at nothing but (seed, rank, index, weights), and never ahead: weights that change between two draws hold
from the second on. Where the drawn source has nothing now, the draw is repeated among the others; which ones were dry
is all that has to be recorded for anybody to come to the same choice again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

from dataset.errors import WeightsError
from dataset.uniforms import BLOCK, Uniforms

KEPT = 256
"""Changes of weights that a state remembers."""


class Weights(msgspec.Struct, frozen=True):
    """Relative weights, one a source, all at least 0 and at least one above; `version` counts their changes.

    With them, under the same version: a `temperature` T, by which each is raised to the power 1 / T (above 1 evens them
    out, below 1 sharpens them); `epochs`, after so many of which a source counts as dry; and `half_life`, so many samples
    back in its partition a history draws half as often as from the newest, or `half_life_seconds`, so many seconds back
    (of the two a source has one at most). Sources that are not named have no such limit.
    """

    version: int
    by_source: Mapping[str, float]
    temperature: float = 1.0
    epochs: Mapping[str, int] = {}
    half_life: Mapping[str, float] = {}
    half_life_seconds: Mapping[str, float] = {}

    @classmethod
    def first(cls, sources: Iterable[str], given: Mapping[str, float] | None = None) -> Weights:
        """Version 0: the given weights; sources that are not named there get 0, and without any all are equal."""
        names = list(sources)
        if given is None:
            return cls(0, dict.fromkeys(names, 1.0))
        return cls(0, _checked(dict.fromkeys(names, 0.0), given))

    def changed(
        self,
        given: Mapping[str, float] | None = None,
        version: int | None = None,
        *,
        temperature: float | None = None,
        epochs: Mapping[str, int | None] | None = None,
        half_life: Mapping[str, float | None] | None = None,
        half_life_seconds: Mapping[str, float | None] | None = None,
    ) -> Weights:
        """The next version: what is given holds, all else stays; None for a source lifts its limit.

        Raises `WeightsError`.
        """
        next_version = self.version + 1 if version is None else version
        if next_version <= self.version:
            raise WeightsError(
                f"weights: version {next_version} was announced, but {self.version} is in force; versions only grow"
            )
        by_source = dict(self.by_source) if given is None else _checked(dict(self.by_source), given)
        samples = _limits("half_life", self.half_life, half_life, by_source)
        seconds = _limits("half_life_seconds", self.half_life_seconds, half_life_seconds, by_source)
        for name in samples.keys() & seconds.keys():
            raise WeightsError(
                f'half_life of "{name}" would be {samples[name]:g} samples and {seconds[name]:g} seconds, but a source has '
                f'one; lift the other in the same change, as half_life={{"{name}": null}}'
            )
        return Weights(
            next_version,
            by_source,
            self.temperature if temperature is None else _above_0("temperature", temperature),
            _limits("epochs", self.epochs, epochs, by_source),
            samples,
            seconds,
        )

    def parameters(self) -> dict[str, Any]:
        """All of it by name, as an operator gives it."""
        return {
            "weights": dict(self.by_source),
            "temperature": self.temperature,
            "epochs": dict(self.epochs),
            "half_life": dict(self.half_life),
            "half_life_seconds": dict(self.half_life_seconds),
        }

    def drawn(self) -> Mapping[str, float]:
        """What is drawn by: the weights, at their temperature."""
        if self.temperature == 1:
            return self.by_source
        largest = max(self.by_source.values())
        return {
            name: (weight / largest) ** (1 / self.temperature) if weight > 0 else 0.0
            for name, weight in self.by_source.items()
        }

    def shares(self) -> dict[str, float]:
        """What they come to: the same proportions, with the sum 1."""
        drawn = self.drawn()
        total = math.fsum(drawn.values())
        return {name: weight / total for name, weight in drawn.items()}


def _above_0(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise WeightsError(f"{name}: it is {value!r}, but it is a number above 0, as 1")
    return float(value)


def _limits(
    name: str, before: Mapping[str, Any], given: Mapping[str, Any] | None, sources: Mapping[str, float]
) -> dict[str, Any]:
    limits = dict(before)
    if given is not None and not isinstance(given, Mapping):
        raise WeightsError(f'{name}: {given!r} is not a mapping; give it by source, as {{"{next(iter(sources))}": 3}}')
    for source, value in (given or {}).items():
        if source not in sources:
            raise WeightsError(f'{name}: there is no source "{source}"; the sources are {", ".join(sources)}')
        if value is None:
            limits.pop(source, None)
            continue
        number = _above_0(f'{name} of "{source}"', value)
        if name == "epochs" and number != int(number):
            raise WeightsError(f'epochs of "{source}": it is {value!r}, but a source is read whole times, as 3')
        limits[source] = int(number) if name == "epochs" else number
    return limits


def _checked(weights: dict[str, float], given: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise WeightsError(
            f'weights: {given!r} is not a mapping; give numbers by source, as {{"{next(iter(weights))}": 1}}'
        )
    for name, weight in given.items():
        if name not in weights:
            known = ", ".join(weights)
            raise WeightsError(f'weights: there is no source "{name}"; the sources are {known}')
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise WeightsError(f'weights: "{name}" is {weight!r}, but a weight is a number, as 0.5')
        if not math.isfinite(weight):
            raise WeightsError(f'weights: "{name}" is {weight}, but a weight is finite; give a number, as 0.5')
        if weight < 0:
            raise WeightsError(
                f'weights: "{name}" is {weight}, but a weight is at least 0; to pause a source, set it to 0'
            )
        weights[name] = float(weight)
    if not 0 < math.fsum(weights.values()) < math.inf:
        shown = ", ".join(f'"{name}": {weight:g}' for name, weight in weights.items())
        raise WeightsError(
            f"weights: {{{shown}}} leave nothing to draw from; set one above 0, or pause training instead"
        )
    return weights


class InForce(msgspec.Struct, frozen=True):
    """Weights, and the draw from which on they hold."""

    from_draw: int
    weights: Weights


class Schedule:
    """Which weights held for which draws, over the last changes."""

    def __init__(self, entries: Iterable[InForce]) -> None:
        self._entries = list(entries)

    @property
    def newest(self) -> Weights:
        """The weights that were set last."""
        return self._entries[-1].weights

    def at(self, draw: int) -> Weights:
        """The weights that hold for a draw."""
        newest = self._entries[-1]
        if newest.from_draw <= draw:
            return newest.weights
        return next(entry.weights for entry in reversed(self._entries) if entry.from_draw <= draw)

    def change(self, weights: Weights, from_draw: int) -> None:
        """Let `weights` hold from a draw on; those that would have begun there or later never will."""
        while self._entries and self._entries[-1].from_draw >= from_draw:
            self._entries.pop()
        self._entries.append(InForce(from_draw, weights))
        del self._entries[:-KEPT]

    def dump(self) -> tuple[InForce, ...]:
        """As it is saved."""
        return tuple(self._entries)


class Draws:
    """Which source each index of a rank draws, as a pure function of (seed, rank, index, weights)."""

    def __init__(self, seed: int, rank: int) -> None:
        self._uniforms = Uniforms("draw", seed, rank)
        self._weights: Weights | None = None
        self._names: list[str] = []
        self._bounds: list[float] = []
        self._block = -1
        self._picks: list[str] = []

    def pick(self, weights: Weights, index: int) -> str:
        """The source that `index` draws; one of weight 0 is never drawn."""
        block, place = divmod(index, BLOCK)
        if weights is not self._weights or block != self._block:
            self._prepare(weights, block)
        return self._picks[place]

    def picks(self, weights: Weights, first: int, count: int) -> list[str]:
        """The sources that `count` draws from `first` on draw."""
        block, place = divmod(first, BLOCK)
        if weights is not self._weights or block != self._block:
            self._prepare(weights, block)
        picked = self._picks[place : place + count]
        return (
            picked if len(picked) == count else picked + self.picks(weights, (block + 1) * BLOCK, count - len(picked))
        )

    def again(self, weights: Weights, index: int, dry: Iterable[str]) -> str | None:
        """The source that `index` draws after the dry ones, in the order in which they were drawn; None if all are."""
        tried = frozenset(dry)
        drawn = weights.drawn()
        names = [name for name, weight in drawn.items() if weight > 0 and name not in tried]
        if not names:
            return None
        bounds = list(accumulate(drawn[name] for name in names))
        return names[_place(bounds, self._uniforms.at(index, attempt=len(tried)))]

    def _prepare(self, weights: Weights, block: int) -> None:
        if weights is not self._weights:
            drawn = weights.drawn()
            self._names = [name for name, weight in drawn.items() if weight > 0]
            self._bounds = list(accumulate(drawn[name] for name in self._names))
            self._weights = weights
        names, bounds = self._names, self._bounds
        places = np.array(bounds).searchsorted(self._uniforms.block(block) * bounds[-1], side="right")
        self._picks = np.array(names, dtype=object).take(places, mode="clip").tolist()
        self._block = block


def _place(bounds: list[float], uniform: float) -> int:
    return bisect_right(bounds, uniform * bounds[-1], 0, len(bounds) - 1)


def replayed(draws: Draws, weights: Weights, index: int, dry: Iterable[str]) -> str:
    """The source that gave the sample of `index`, from the record alone: the weights and which sources were dry."""
    known_dry = frozenset(dry)
    tried: list[str] = []
    name: str | None = draws.pick(weights, index)
    while name in known_dry:
        tried.append(name)
        name = draws.again(weights, index, tried)
    if name is None:
        raise ValueError(f"draw {index}: all of {sorted(known_dry)} were dry, so nothing can have been drawn")
    return name
