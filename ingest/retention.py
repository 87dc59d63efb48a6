"""How long records stay in the log: by age and by bytes, and never past what somebody still needs.

Only a topic's writer trims it, up to a floor: for `samples` what is archived (`archived_before`); for `steps` what is
archived and older than every open episode of the annotator (`steps_floor`). The age of a record is known only by
reading it, so what is given up is read once more, in small pieces.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ingest.annotator_lane import annotator_progress
from ingest.log import Log, LogReader
from ingest.shard_reader import archived_before
from ingest.shards import ShardStore
from ingest.types import STEPS

_PIECE = 4 << 20
"""Bytes that are looked at in one call: trimming must not hold up the writer's own work."""


class RetentionSettings(BaseModel):
    """Limits of each partition of a topic, in seconds and bytes; None sets no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age: PositiveFloat | None = 7 * 86_400.0
    max_bytes: PositiveInt | None = 8 << 30


def trim_point(
    reader: LogReader, topic: str, partition: int, settings: RetentionSettings, floor: int, now: float
) -> int | None:
    """The offset below which records are to be trimmed now, at most `floor`; None where nothing is due.

    Looks at a few MiB a call: call again after trimming, until it returns None. A record is due when it is older than
    `max_age` at the time `now`, or while all from it on are more than `max_bytes`.
    """
    bounds = reader.bounds(topic, partition)
    excess = bounds.size - settings.max_bytes if settings.max_bytes is not None else 0
    horizon = now - settings.max_age if settings.max_age is not None else float("-inf")
    before, seen = bounds.start, 0
    for budget in (1, _PIECE):  # mostly the first record says that there is nothing to do
        for record in reader.fetch(topic, partition, before, budget).records:
            due = record.time < horizon or seen < excess
            if not due or record.offset >= floor:
                return before if before > bounds.start else None
            before, seen = record.offset + 1, seen + len(record.value)
    return before if before > bounds.start else None


def steps_floor(log: Log, store: ShardStore, partition: int) -> int:
    """The offset of `steps` below which nobody needs the log's copy: archived, and older than every open episode."""
    progress = annotator_progress(log).get(partition)
    return min(archived_before(store, STEPS, partition), progress.restart[0]) if progress is not None else 0
