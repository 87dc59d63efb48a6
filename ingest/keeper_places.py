"""Where the samples of some sessions stand, by which it can be told later who has trained on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ingest.errors import LogUnavailable, OffsetOutOfRange
from ingest.log import LogReader
from ingest.records import annotated
from ingest.types import SAMPLES, Point

Run = tuple[int, int, int]
"""Consecutive samples of one record: its offset, the first one's index, and how many they are."""
Runs = tuple[Run, ...]

CLOSE = 64
"""Offsets within which a time is not looked for more closely."""


def runs_of(points: Iterable[Point]) -> Runs:
    """Points as runs, in order, each point once."""
    runs: list[Run] = []
    for offset, index in sorted(set(points)):
        if runs and runs[-1][0] == offset and runs[-1][1] + runs[-1][2] == index:
            runs[-1] = (offset, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((offset, index, 1))
    return tuple(runs)


def points_of(runs: Iterable[Run]) -> list[Point]:
    """The inverse."""
    return [(offset, first + number) for offset, first, count in runs for number in range(count)]


def united(one: Runs, other: Runs) -> Runs:
    """All that is in either."""
    return runs_of([*points_of(one), *points_of(other)]) if one and other else one or other


def samples_in_log(
    reader: LogReader, partition: int, sessions: Collection[str], since: float, end: int
) -> Mapping[str, Runs]:
    """Where the log has samples of these sessions, by session: in records below `end`, written at `since` or later.

    Raises `LogUnavailable` where the log cannot be read so far: what is missing here would be missing for ever.
    """
    found: dict[str, list[Point]] = {}
    offset = _first_since(reader, partition, since, end)
    while offset < end:
        try:
            fetched = reader.fetch(SAMPLES, partition, offset)
        except OffsetOutOfRange as trimmed:
            offset = max(offset + 1, trimmed.start)
            continue
        if not fetched.records and fetched.next_offset < end:
            raise LogUnavailable(
                f"{SAMPLES}/{partition} was not read from {fetched.next_offset} to {end}; try again later"
            )
        for record in fetched.records:
            if record.key in sessions and record.offset < end:
                count = len(annotated(record).samples)
                found.setdefault(record.key, []).extend((record.offset, index) for index in range(count))
        offset = fetched.next_offset
    return {session_id: runs_of(points) for session_id, points in found.items()}


def _first_since(reader: LogReader, partition: int, since: float, end: int) -> int:
    """An offset not far before the first record of that time; records come in order of time, as far as clocks agree."""
    low, high = reader.bounds(SAMPLES, partition).start, end
    while high - low > CLOSE:
        middle = (low + high) // 2
        try:
            records = reader.fetch(SAMPLES, partition, middle, 1).records
        except OffsetOutOfRange as trimmed:
            low = max(low, trimmed.start)
            continue
        if records and records[0].time < since:
            low = max(middle, min(records[0].offset, high))
        else:
            high = middle
    return low
