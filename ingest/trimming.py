"""Forgets what is old, bit by bit: the writer of a topic calls `Trimming` between its commits."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ingest.log import Bounds, Log, LogReader, LogWriter, Record
from ingest.retention import RetentionSettings

PART_BYTES = 4 << 20
MAX_PARTS = 16
"""One call forgets at most so many parts, each in a transaction of its own, so that commits wait for one at most."""

logger = logging.getLogger(__name__)


class Trimming:
    """Trims one topic by age and bytes, for each partition of a share, never beyond `floor(partition)`: what is needed.

    Records are read once more before they go, for their times; the bytes of a partition are known to the log.
    """

    def __init__(
        self,
        log: Log,
        writer: LogWriter,
        topic: str,
        settings: RetentionSettings,
        floor: Callable[[int], int],
        share: int = 0,
    ) -> None:
        self._log, self._writer, self._topic = log, writer, topic
        self._settings, self._floor = settings, floor
        self._partitions = log.partitions_of(share)
        self._reader: LogReader | None = None

    def run(self, now: float) -> int:
        """Forget what is due; returns how many records went. Call it from one thread."""
        if self._reader is None:
            self._reader = self._log.reader()
        trimmed = 0
        for partition in self._partitions:
            for _ in range(MAX_PARTS):
                part = self._trim_part(self._reader, partition, now)
                trimmed += part
                if part == 0:
                    break
        if trimmed:
            logger.info("forgot %d records of %s", trimmed, self._topic)
        return trimmed

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            self._reader.close()

    def _trim_part(self, reader: LogReader, partition: int, now: float) -> int:
        bounds = reader.bounds(self._topic, partition)
        floor = min(self._floor(partition), bounds.end)
        if bounds.start >= floor:
            return 0
        before, left = bounds.start, bounds.size
        for budget in (1, PART_BYTES):  # mostly the first record says that nothing is due
            for record in reader.fetch(self._topic, partition, before, budget).records:
                if record.offset >= floor or not self._due(record, left, now):
                    return self._forget(partition, bounds, before)
                before, left = record.offset + 1, left - len(record.value)
        return self._forget(partition, bounds, before)

    def _due(self, record: Record, left: int, now: float) -> bool:
        """Whether a record is to go, when it is the oldest of `left` bytes."""
        max_age, max_bytes = self._settings.max_age, self._settings.max_bytes
        return (max_age is not None and record.time < now - max_age) or (max_bytes is not None and left > max_bytes)

    def _forget(self, partition: int, bounds: Bounds, before: int) -> int:
        return self._writer.trim(self._topic, partition, before) if before > bounds.start else 0
