"""What a candidate is looked at for before it may be served, each check with the figures that it judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from publish.tensors import FLOATS, Bytes, Piece, opened

Figures = Mapping[str, float]
CHUNK = 1 << 22
"""Bytes of a tensor that are looked at together."""

_KINDS: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class Check(msgspec.Struct, frozen=True):
    """One look at a candidate: what it was for, whether it passed, by which figures, and why not."""

    name: str
    passed: bool
    figures: Mapping[str, float]
    reason: str = ""


class Rule(BaseModel):
    """What a figure must keep, such as a loss or the app's own score.

    `at_most_worse` is by how much it may be above that of the version that stands, as a share of the latter's size
    (0.1: a tenth); with `higher_is_better`, below it. Where nothing stands, or the standing one was never measured, only
    the bounds count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at_most: float | None = None
    at_least: float | None = None
    at_most_worse: float | None = Field(None, ge=0)
    higher_is_better: bool = False

    @model_validator(mode="after")
    def _rules_something(self) -> Rule:
        if self.at_most is None and self.at_least is None and self.at_most_worse is None:
            raise ValueError("a rule without at_most, at_least and at_most_worse lets everything pass; set one")
        return self

    def broken_by(self, value: float, standing: float | None) -> str:
        """Why the value breaks the rule; empty where it keeps it. NaN keeps none."""
        if not math.isfinite(value):
            return f"it is {value}"
        if self.at_most is not None and value > self.at_most:
            return f"{value:.6g} is above {self.at_most:.6g}"
        if self.at_least is not None and value < self.at_least:
            return f"{value:.6g} is below {self.at_least:.6g}"
        if self.at_most_worse is not None and standing is not None and math.isfinite(standing):
            worse = standing - value if self.higher_is_better else value - standing
            if worse > self.at_most_worse * abs(standing):
                return f"{value:.6g} is worse than {standing:.6g}, which stands, by more than {self.at_most_worse:.0%}"
        return ""


def finite(files: Mapping[str, Path]) -> Check:
    """Whether every floating-point number is one. A model with a single NaN paints nothing."""
    bad, worst = 0, ""
    total = 0
    for name, piece, values in _numbers(files):
        found = int(values.size - np.isfinite(values).sum())
        total += values.size
        if found and not bad:
            worst = f"{name}: {piece.name!r}"
        bad += found
    reason = f"{bad} of {total} numbers are NaN or infinite, the first in {worst}" if bad else ""
    return Check("finite", not bad, {"not_finite": bad, "numbers": total}, reason)


def drift(files: Mapping[str, Path], standing: Mapping[str, Path], at_most: float) -> Check:
    """How far the weights are from those that stand, as a share of the latter's length (their Euclidean norm)."""
    moved = length = 0.0
    before = {(name, piece.name): values for name, piece, values in _parts(standing)}
    compared = 0
    for name, piece, values in _parts(files):
        old = before.get((name, piece.name))
        if old is None or old.size != values.size:
            continue
        compared += values.size
        for new_chunk, old_chunk in zip(_chunks(values, piece), _chunks(old, piece), strict=True):
            moved += float(np.sum(np.square(new_chunk - old_chunk)))
            length += float(np.sum(np.square(old_chunk)))
    share = math.sqrt(moved / length) if length else (math.inf if moved else 0.0)
    passed = share <= at_most
    reason = "" if passed else f"the weights moved by {share:.4g} of their length since the version that stands"
    figures = {"share": share if math.isfinite(share) else -1.0, "at_most": at_most, "compared": float(compared)}
    return Check("drift", passed, figures, reason)


def figures_keep(name: str, figures: Figures, standing: Figures, rules: Mapping[str, Rule]) -> Check:
    """Whether the figures that have a rule keep it; one that is missing does not."""
    broken = []
    for figure, rule in rules.items():
        if figure not in figures:
            broken.append(f"{figure} was not measured")
        elif why := rule.broken_by(figures[figure], standing.get(figure)):
            broken.append(f"{figure}: {why}")
    shown = {figure: value for figure, value in figures.items() if math.isfinite(value)}
    shown |= {f"standing_{figure}": value for figure, value in standing.items() if figure in rules}
    return Check(name, not broken, shown, "; ".join(broken))


def _numbers(files: Mapping[str, Path]) -> Iterator[tuple[str, Piece, npt.NDArray[np.float64]]]:
    for name, piece, values in _parts(files):
        for chunk in _chunks(values, piece):
            yield name, piece, chunk


def _parts(files: Mapping[str, Path]) -> Iterator[tuple[str, Piece, Bytes]]:
    """The bytes of every tensor of floating-point numbers, mapped and not read."""
    for name, path in sorted(files.items()):
        if name.endswith(".safetensors"):
            with opened(path) as (layout, data):
                for piece in layout.pieces:
                    if piece.kind in FLOATS and (piece.kind in _KINDS or piece.kind == "BF16"):
                        yield name, piece, data[piece.begin : piece.end]


def _chunks(values: Bytes, piece: Piece) -> Iterator[npt.NDArray[np.float64]]:
    for at in range(0, values.size, CHUNK):
        raw = values[at : at + CHUNK].tobytes()
        if piece.kind == "BF16":
            wide = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
            with np.errstate(invalid="ignore"):  # a signalling NaN is what is looked for
                exact = wide.view(np.float32).astype(np.float64)
            yield exact
        else:
            yield np.frombuffer(raw, _KINDS[piece.kind]).astype(np.float64)
