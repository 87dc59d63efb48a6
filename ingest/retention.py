"""How long records stay in the log: by age and by bytes, and never past what somebody still needs.

Only a topic's writer trims it, up to a floor: for `samples` what is archived (`archived_before`); for `steps` what is
archived and older than every open episode of the annotator (`steps_floor`).
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ingest.annotator_state import annotator_progress
from ingest.errors import ShardError, StoreError
from ingest.log import Log
from ingest.shard_reader import archived_before
from ingest.shards import ShardStore
from ingest.types import STEPS

logger = logging.getLogger(__name__)


class RetentionSettings(BaseModel):
    """Limits of each partition of a topic, in seconds and bytes; None sets no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age: PositiveFloat | None = 7 * 86_400.0
    max_bytes: PositiveInt | None = 8 << 30


def loss(topic: str, partition: int, first: int, start: int, done: str) -> str:
    """What to say where the log begins at `start`, and what stood from `first` on had still to be `done`."""
    return (
        f"{topic}/{partition}: what stood from offset {first} to {start - 1} was forgotten before it was {done}, and is "
        "lost; the log's hard limits (log.kafka.retention_seconds and retention_bytes, or the topic's own) are too low"
    )


def steps_floor(log: Log, store: ShardStore, partition: int) -> int:
    """The offset of `steps` below which nobody needs the log's copy: archived, and older than every open episode."""
    progress = annotator_progress(log).get(partition)
    if progress is None:
        return 0
    try:
        return min(archived_before(store, STEPS, partition), progress.restart[0])
    except (OSError, ShardError, StoreError) as error:
        logger.warning("steps/%d are not trimmed: the archive cannot be asked (%s)", partition, error)
        return 0
