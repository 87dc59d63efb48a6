"""Dead letters: steps that an annotator could not turn into samples, kept with all of their bytes and the reason.

One can be retried, once: the present annotator is fed its episode again up to the step, and what then comes of the
step is recorded as the outcome of the next attempt, which takes the place of the one before. Where that fails too,
another dead letter of that attempt stands beside the old one, to be retried in turn.
"""

from __future__ import annotations

import re
from contextlib import closing

from ingest.deletions import DeletedSessions
from ingest.errors import OffsetOutOfRange
from ingest.log import Log
from ingest.records import dead_letter
from ingest.types import DEAD, DeadLetter, Position

_ID = re.compile(r"(\d{1,4})-(\d{1,18})")


def letter_id(place: Position) -> str:
    """The name of the dead letter at a place."""
    return f"{place.partition}-{place.offset}"


def letter_place(name: str) -> Position | None:
    """Where the dead letter of this name stands; None for what is no such name."""
    match = _ID.fullmatch(name)
    return None if match is None else Position(DEAD, int(match[1]), int(match[2]), 0)


class DeadLetters:
    """The dead letters of a log, but for those of deleted sessions. Opens a reader a call, so any process may ask."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def count(self) -> int:
        """How many are kept. Gaps in the offsets count too, so on Kafka it is an upper bound."""
        with closing(self._log.reader()) as reader:
            bounds = [reader.bounds(DEAD, partition) for partition in range(reader.partitions(DEAD))]
        return sum(bound.end - bound.start for bound in bounds)

    def latest(self, limit: int = 100) -> list[tuple[Position, DeadLetter]]:
        """The newest ones, newest first; at most `limit`."""
        found: list[tuple[Position, DeadLetter]] = []
        with closing(self._log.reader()) as reader:
            deleted = DeletedSessions(reader)
            for partition in range(reader.partitions(DEAD)):
                bounds = reader.bounds(DEAD, partition)
                offset = max(bounds.start, bounds.end - limit)
                while (fetched := reader.fetch(DEAD, partition, offset)).records:
                    for record in fetched.records:
                        if record.key not in deleted:
                            found.append((Position(DEAD, partition, record.offset, 0), dead_letter(record)))
                    offset = fetched.next_offset
        found.sort(key=lambda item: item[1].time, reverse=True)
        return found[:limit]

    def get(self, place: Position) -> DeadLetter | None:
        """The one at a place; None where there is none (any more), or its session was deleted."""
        with closing(self._log.reader()) as reader:
            if place.partition >= reader.partitions(DEAD):
                return None
            try:
                records = reader.fetch(DEAD, place.partition, place.offset, 1).records
            except OffsetOutOfRange:
                return None
            if not records or records[0].offset != place.offset or records[0].key in DeletedSessions(reader):
                return None
            return dead_letter(records[0])
