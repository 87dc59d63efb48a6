"""What was consumed: sets of intervals between points of a partition, merged by union.

An item covers the interval from where its reader went on (the end of the item before it, in reading order) to its own
end. Gaps in offsets, empty records and skipped samples are therefore covered by the item that follows them, and the
set of a partition read in order is one interval. Read out of order, it is one interval and a few later ones, as many
as the shuffle window allows. Union is idempotent, commutative and associative, so sets of workers and ranks merge in
any order, and a resume on another layout starts from the same set.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from ingest import Point

FORMAT = 1
ORIGIN: Point = (0, 0)


class Span(msgspec.Struct, frozen=True, order=True, gc=False):
    """The stretch of one partition that one item covers: from `start` up to, not including, `end`."""

    partition: str
    start: Point
    end: Point


class IntervalSet:
    """A set of points as sorted, disjoint, non-touching half-open intervals."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[tuple[Point, Point]] = ()) -> None:
        self._starts: list[Point] = []
        self._ends: list[Point] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: Point, end: Point) -> None:
        """Unite with [start, end); neighbours that touch become one. An empty interval adds nothing."""
        if self._ends and start == self._ends[-1] and start < end:  # read in order, as most are
            self._ends[-1] = (end[0], end[1])
            return
        start, end = (start[0], start[1]), (end[0], end[1])
        if end < start:
            raise ValueError(f"interval {start}..{end}: the end lies before the start; swap them")
        if end == start:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def update(self, other: IntervalSet) -> None:
        """Unite with another set."""
        for start, end in other:
            self.add(start, end)

    def covers(self, start: Point, end: Point) -> bool:
        """Whether all of [start, end) is in the set."""
        at = bisect_right(self._starts, start) - 1
        return end <= start or (at >= 0 and end <= self._ends[at])

    def touches(self, start: Point, end: Point) -> bool:
        """Whether any of [start, end) is in the set."""
        at = bisect_right(self._ends, start)
        return start < end and at < len(self._starts) and self._starts[at] < end

    def next_after(self, point: Point = ORIGIN) -> Point:
        """The first point at or after `point` that is not in the set: where an in-order reader goes on."""
        at = bisect_right(self._starts, point) - 1
        return max(point, self._ends[at]) if at >= 0 else point

    def copy(self) -> IntervalSet:
        """An independent copy."""
        twin = IntervalSet()
        twin._starts, twin._ends = list(self._starts), list(self._ends)
        return twin

    def __iter__(self) -> Iterator[tuple[Point, Point]]:
        return zip(list(self._starts), list(self._ends), strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # a mutable set has no hash

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)!r})"


@dataclass
class Consumed:
    """Per source and partition, what a completed optimizer step has used."""

    sources: dict[str, dict[str, IntervalSet]] = field(default_factory=dict)

    def add(self, source: str, span: Span) -> None:
        """Record that `source` gave `span` to a completed step."""
        self.partition(source, span.partition).add(span.start, span.end)

    def add_all(self, source: str, spans: Iterable[Span]) -> None:
        """Record several of one source."""
        partitions = self.sources.get(source) or self.sources.setdefault(source, {})
        for span in spans:
            held = partitions.get(span.partition)
            if held is None:
                held = partitions[span.partition] = IntervalSet()
            held.add(span.start, span.end)

    def partition(self, source: str, partition: str) -> IntervalSet:
        """The set of one partition, made empty where there was none."""
        partitions = self.sources.setdefault(source, {})
        intervals = partitions.get(partition)
        if intervals is None:
            intervals = partitions[partition] = IntervalSet()
        return intervals

    def of(self, source: str) -> dict[str, IntervalSet]:
        """The sets of one source, as independent copies."""
        return {name: intervals.copy() for name, intervals in self.sources.get(source, {}).items()}

    def update(self, other: Consumed) -> None:
        """Unite with what another worker or rank consumed."""
        for source, partitions in other.sources.items():
            for name, intervals in partitions.items():
                self.partition(source, name).update(intervals)

    def copy(self) -> Consumed:
        """An independent copy."""
        return Consumed({source: self.of(source) for source in self.sources})

    def watermark(self) -> dict[str, dict[str, Point]]:
        """Per source and partition, the point below which everything was consumed."""
        return {
            source: {name: intervals.next_after() for name, intervals in partitions.items()}
            for source, partitions in self.sources.items()
        }

    def dump(self) -> Mapping[str, object]:
        """A small, versioned form for checkpoints, of JSON types only."""
        return {
            "format": FORMAT,
            "sources": {
                source: {name: [[*start, *end] for start, end in intervals] for name, intervals in partitions.items()}
                for source, partitions in self.sources.items()
            },
        }

    @classmethod
    def load(cls, stored: Mapping[str, object]) -> Consumed:
        """The inverse of `dump`; refuses a format that is not known here, by name."""
        if stored.get("format") != FORMAT:
            raise ValueError(f"consumed positions of format {stored.get('format')!r}: only {FORMAT} is known here")
        sources = msgspec.convert(stored["sources"], dict[str, dict[str, list[tuple[int, int, int, int]]]])
        return cls(
            {
                source: {
                    name: IntervalSet(((a, b), (c, d)) for a, b, c, d in quads) for name, quads in partitions.items()
                }
                for source, partitions in sources.items()
            }
        )
