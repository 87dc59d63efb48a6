"""What the keeper sees of the log in one look: who has come how far, each asked for once, however many deletions ask."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.annotator_state import Progress, annotator_progress
from ingest.log import Log, LogReader, next_record
from ingest.shard_reader import archived_before
from ingest.shards import ShardStore
from ingest.types import STEPS


class Look:
    """How far annotator, archive and retention have come, as of the first time that it was asked.

    An end is passed where no record lies before it that was not dealt with. Offsets alone do not tell: on Kafka every
    transaction leaves a marker behind its records, so that a partition ends beyond the last of them.
    """

    def __init__(self, log: Log, reader: LogReader, store: ShardStore) -> None:
        self._log, self._reader, self._store = log, reader, store
        self._progress: Mapping[int, Progress] | None = None
        self._archived: dict[tuple[str, int], int] = {}
        self._starts: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int, int], int] = {}

    def annotated(self, partition: int, end: int) -> bool:
        """Whether the annotator puts out nothing more of the steps before `end`."""
        if self._progress is None:
            self._progress = annotator_progress(self._log)
        progress = self._progress.get(partition)
        if progress is None:
            return False
        offset, index = progress.done
        return offset >= end or (index == 0 and self._passes(STEPS, partition, offset, end))

    def archived(self, topic: str, partition: int, end: int) -> bool:
        """Whether everything before `end` is in shards."""
        key = topic, partition
        if key not in self._archived:
            self._archived[key] = archived_before(self._store, topic, partition)
        return self._passes(topic, partition, self._archived[key], end)

    def forgotten(self, topic: str, partition: int, end: int) -> bool:
        """Whether the log has no record before `end` any more."""
        key = topic, partition
        if key not in self._starts:
            self._starts[key] = self._reader.bounds(topic, partition).start
        return self._passes(topic, partition, self._starts[key], end)

    def _passes(self, topic: str, partition: int, reached: int, end: int) -> bool:
        if reached >= end:
            return True
        key = topic, partition, reached
        if key not in self._next:
            self._next[key] = next_record(self._reader, topic, partition, reached)
        return self._next[key] >= end
