"""Small charts as SVG text, for a page that carries everything in itself or for a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypedDict, Unpack

__all__ = ["Band", "Chart", "Line", "Mark", "draw_lines", "line_chart", "picture", "share_chart"]

WIDTH, HEIGHT = 680, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 34

LEGEND = 24
"""Height of the words over a chart in a picture."""

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
            factors = (1, 2, 3, 5) if self.high < 30 * self.low else (1,)
            found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
            return [value for value in found if self.low <= value <= self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10.0 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Look(TypedDict, total=False):
    """How curves are drawn."""

    y_range: tuple[float, float] | None
    percent: bool
    logarithmic: bool
    bands: Sequence[Band]
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Chart:
    """A chart that was drawn: its marks as SVG, and the name and colour of each curve. Without parts it is empty."""

    title: str
    parts: Sequence[str]
    legend: Sequence[tuple[str, str]]

    @property
    def html(self) -> str:
        """For a page, whose style it takes on."""
        if not self.parts:
            return f'<p class="empty">{escape(self.title)}: nothing was measured.</p>'
        return _figure(self.title, self.parts, self.legend)


def line_chart(title: str, lines: Sequence[Line], *, x_label: str, **look: Unpack[Look]) -> str:
    """Curves over one axis, with their uncertainty and marks, for a page."""
    return draw_lines(title, lines, x_label=x_label, **look).html


def picture(charts: Sequence[Chart]) -> str:
    """Charts one below the other as an SVG file of its own, on white."""
    height = HEIGHT + LEGEND
    parts = []
    for index, chart in enumerate(charts):
        names = "".join(
            f'<tspan dx="12" fill="{colour}">\u25a0</tspan><tspan dx="3">{escape(label)}</tspan>'
            for label, colour in chart.legend
        )
        parts.append(
            f'<g transform="translate(0 {index * height})"><text x="{LEFT}" y="16">{escape(chart.title)}{names}</text>'
            f'<g transform="translate(0 {LEGEND})">{"".join(chart.parts)}</g></g>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {len(charts) * height}" role="img">'
        "<style>text { font: 11px system-ui, sans-serif; fill: #222 } .grid { stroke: #ddd }</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def draw_lines(title: str, lines: Sequence[Line], *, x_label: str, **look: Unpack[Look]) -> Chart:
    """Curves over one axis, for a page or a picture."""
    logarithmic, percent = look.get("logarithmic", False), look.get("percent", False)
    points = [point for line in lines for point in line.points]
    if not points:
        return Chart(title, (), ())
    across = _Scale(min(x for x, _ in points), max(x for x, _ in points), LEFT, WIDTH - RIGHT)
    values = [y for _, y in points if not logarithmic or y > 0]
    low, high = look.get("y_range") or (
        (min(values), max(values)) if logarithmic else (min(0.0, *values), max(values) or 1.0)
    )
    up = _Scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic)
    parts = [_frame(title, across, up, x_label, percent), _marks(look.get("marks", ()), across)]
    for band in look.get("bands", ()):
        upper = [f"{across(x):.1f},{up(top):.1f}" for x, _, top in band.points]
        lower = [f"{across(x):.1f},{up(bottom):.1f}" for x, bottom, _ in reversed(band.points)]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{band.colour}" opacity=".18"/>')
    for line in lines:
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points if not logarithmic or y > 0)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"/>')
    return Chart(title, parts, [(line.label, line.colour) for line in lines])


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
