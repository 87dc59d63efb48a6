"""Metrics as series: one branch along its chain of segments, at most so many points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
import numpy as np
import numpy.typing as npt

from control.api import MetricSeries, SegmentInfo

Column = npt.NDArray[np.float64]


class Span(msgspec.Struct, frozen=True):
    """What a thinned row stands for: how many rows, from which step on, and the extremes of each metric."""

    count: int
    first_step: int | None
    low: dict[str, float | None]
    high: dict[str, float | None]


decode_span = msgspec.json.Decoder(Span).decode


class Piece(msgspec.Struct, frozen=True):
    """A stretch of one branch: events of these numbers, up to and with a step."""

    branch: str
    first_seq: int
    end_seq: int
    last_step: int


ENDLESS = (1 << 62) - 1


def pieces(segments: Sequence[SegmentInfo], branch: str, lineage: bool) -> list[Piece]:
    """Where the points of a branch lie, oldest first: each segment cut at the step where its successor forks.

    What was trained beyond a cut is undone and is left out. With `lineage`, the chain goes on into the branches that
    this one was forked from.
    """
    named = {segment.segment: segment for segment in segments}
    own = [segment for segment in segments if segment.branch == branch]
    found: list[Piece] = []
    current, cut = (own[-1] if own else None), ENDLESS
    while current is not None:
        later = [s.first_seq for s in segments if s.branch == current.branch and s.first_seq > current.first_seq]
        found.append(Piece(current.branch, current.first_seq, min(later, default=ENDLESS), cut))
        parent = named.pop(current.parent or "", None)  # popped, so that a circle ends
        cut = min(cut, ENDLESS if current.forked_at is None else current.forked_at)
        if parent is not None and not lineage and parent.branch != branch:
            parent = None
        current = parent
    found.reverse()
    # what a trainer said before it named a segment, or without ever naming one
    begin = min((s.first_seq for s in own), default=ENDLESS)
    root = Piece(branch, 0, begin, ENDLESS if not own else cut)
    return [root, *found] if not found or found[0].branch == branch else found


def series(
    connection: apsw.Connection,
    run: str,
    branch: str,
    metrics: Sequence[str],
    points: int,
    *,
    lineage: bool = False,
    until: int = ENDLESS,
) -> list[MetricSeries]:
    """The named metrics of a branch, each in at most `points` rows; of more, buckets with their extremes and mean.

    `until` is the last event that counts.
    """
    segments = [
        SegmentInfo.model_validate_json(text)
        for (text,) in connection.execute("SELECT record FROM segments WHERE run = ? ORDER BY first_seq", (run,))
    ]
    gathered = {name: _Points() for name in metrics}
    with connection:
        for piece in pieces(segments, branch, lineage):
            rows = connection.execute(
                "SELECT step, time, body, span FROM events WHERE run = ? AND branch = ? AND seq >= ? AND seq < ? "
                "AND step <= ? AND type IN ('metrics', 'evaluation') ORDER BY seq",  # as its index says it
                (run, piece.branch, piece.first_seq, min(piece.end_seq, until + 1), piece.last_step),
            )
            for row in rows:
                _gather(gathered, row)
    return [_series(branch, name, found, points) for name, found in gathered.items()]


class _Points:
    """One metric's rows as they are read."""

    __slots__ = ("highs", "lows", "means", "steps", "times")

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.times: list[float] = []
        self.lows: list[float | None] = []
        self.highs: list[float | None] = []
        self.means: list[float | None] = []


def _gather(gathered: dict[str, _Points], row: tuple[Any, ...]) -> None:
    step, time, text, span_text = row
    body = msgspec.json.decode(text)
    span = decode_span(span_text) if span_text else None
    for name, found in gathered.items():
        if name not in body:
            continue
        value = body[name]
        if not isinstance(value, (int, float, type(None))):
            continue
        found.steps.append(step)
        found.times.append(time)
        found.means.append(value)
        found.lows.append(span.low.get(name) if span else value)
        found.highs.append(span.high.get(name) if span else value)


def _series(branch: str, name: str, found: _Points, points: int) -> MetricSeries:
    count = len(found.steps)
    low, high, mean = (np.array(column, dtype=np.float64) for column in (found.lows, found.highs, found.means))
    steps, times = found.steps, found.times
    if count > points:
        starts = np.linspace(0, count, points, endpoint=False).astype(np.int64)
        ends = np.append(starts[1:], count)
        low, high = np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)
        mean = _bucket_means(mean, starts)
        steps, times = [steps[end - 1] for end in ends], [times[end - 1] for end in ends]
    return MetricSeries(
        branch=branch,
        metric=name,
        downsampled=count > points,
        steps=tuple(steps),
        times=tuple(times),
        low=_plain(low),
        high=_plain(high),
        mean=_plain(mean),
    )


def _bucket_means(values: Column, starts: npt.NDArray[np.int64]) -> Column:
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _plain(column: Column) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in column)
