"""Dead letters: steps that an annotator could not turn into samples, kept with all of their bytes and the reason."""

from __future__ import annotations

from contextlib import closing

from ingest.log import Log
from ingest.records import dead_letter
from ingest.types import DEAD, DeadLetter, Position


class DeadLetters:
    """The dead letters of a log, for people to look at. Opens a reader for each call, so any process may ask."""

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
            for partition in range(reader.partitions(DEAD)):
                bounds = reader.bounds(DEAD, partition)
                offset = max(bounds.start, bounds.end - limit)
                while (fetched := reader.fetch(DEAD, partition, offset)).records:
                    for record in fetched.records:
                        found.append((Position(DEAD, partition, record.offset, 0), dead_letter(record)))
                    offset = fetched.next_offset
        found.sort(key=lambda item: item[1].time, reverse=True)
        return found[:limit]
