"""Small charts as SVG text, for a page that carries everything in itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Band", "Line", "Mark", "line_chart", "share_chart"]

WIDTH, HEIGHT = 680, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 34

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve; `colour` is a CSS colour or variable."""

    label: str
    points: Points
    colour: str


@dataclass(frozen=True)
class Band:
    """A curve's uncertainty: (x, low, high)."""

    points: Sequence[tuple[float, float, float]]
    colour: str


@dataclass(frozen=True)
class Mark:
    """A vertical line at x: an intervention or a version. A title shows when the pointer is on it."""

    x: float
    title: str
    colour: str = "var(--mark)"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Four or five round numbers in the range."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1) if self.low <= 10.0**power <= self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10.0 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
    logarithmic: bool = False,
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """Curves over one axis, with their uncertainty and marks."""
    points = [point for line in lines for point in line.points]
    if not points:
        return f'<p class="empty">{escape(title)}: nothing was measured.</p>'
    across = _Scale(min(x for x, _ in points), max(x for x, _ in points), LEFT, WIDTH - RIGHT)
    values = [y for _, y in points if not logarithmic or y > 0]
    low, high = y_range or ((min(values), max(values)) if logarithmic else (min(0.0, *values), max(values) or 1.0))
    up = _Scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic)
    parts = [_frame(title, across, up, x_label, percent), _marks(marks, across)]
    for band in bands:
        upper = [f"{across(x):.1f},{up(top):.1f}" for x, _, top in band.points]
        lower = [f"{across(x):.1f},{up(bottom):.1f}" for x, bottom, _ in reversed(band.points)]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{band.colour}" opacity=".18"/>')
    for line in lines:
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points if not logarithmic or y > 0)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"/>')
    return _figure(title, parts, [(line.label, line.colour) for line in lines])


def share_chart(
    title: str,
    names: Sequence[str],
    rows: Sequence[tuple[float, Sequence[float]]],
    colours: Sequence[str],
    *,
    x_label: str,
    marks: Sequence[Mark] = (),
) -> str:
    """Shares that sum to one, stacked, as they were at each x."""
    if not rows:
        return f'<p class="empty">{escape(title)}: nothing was measured.</p>'
    across = _Scale(rows[0][0], rows[-1][0], LEFT, WIDTH - RIGHT)
    up = _Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    parts = []
    for index, colour in enumerate(colours[: len(names)]):
        upper, lower = [], []
        for x, shares in rows:
            below = sum(shares[:index])
            upper.append(f"{across(x):.1f},{up(below + shares[index]):.1f}")
            lower.append(f"{across(x):.1f},{up(below):.1f}")
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity=".75"/>')
    parts += [_frame(title, across, up, x_label, True), _marks(marks, across)]
    return _figure(title, parts, list(zip(names, colours, strict=False)))


def _frame(title: str, across: _Scale, up: _Scale, x_label: str, percent: bool) -> str:
    parts = [f"<title>{escape(title)}</title>"]
    for tick in up.ticks():
        y = up(tick)
        text = f"{tick:.0%}" if percent else f"{tick:g}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in across.ticks():
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _marks(marks: Sequence[Mark], across: _Scale) -> str:
    return "".join(
        f'<line x1="{across(mark.x):.1f}" x2="{across(mark.x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
        f'stroke="{mark.colour}" stroke-dasharray="3 3"><title>{escape(mark.title)}</title></line>'
        for mark in marks
        if across.low <= mark.x <= across.high
    )


def _figure(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> str:
    keys = "".join(f'<span><i style="background:{colour}"></i>{escape(label)}</span>' for label, colour in legend)
    return (
        f'<figure><figcaption>{escape(title)}<span class="legend">{keys}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )
