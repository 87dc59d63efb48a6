"""From a user's click to durable, ordered, archived samples.

The room promises that a 2xx means durable, that `(session_id, seq)` is taken once, that every acked step has exactly
one recorded outcome, and that every sample stands in exactly one shard.
"""

from ingest.errors import AnnotatorError, IngestError, LogCorrupt, LogError, LogLocked, OffsetOutOfRange, ShardError
from ingest.log import Append, Bounds, Fetch, Log, LogReader, LogWriter, Record, partition_of
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    Annotated,
    DeadLetter,
    EndReason,
    Point,
    Position,
    Sample,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    Step,
    StepOutcome,
    StepsAppended,
)

__all__ = [
    "DEAD",
    "SAMPLES",
    "STEPS",
    "Annotated",
    "AnnotatorError",
    "Append",
    "Bounds",
    "DeadLetter",
    "EndReason",
    "Fetch",
    "IngestError",
    "Log",
    "LogCorrupt",
    "LogError",
    "LogLocked",
    "LogReader",
    "LogWriter",
    "OffsetOutOfRange",
    "Point",
    "Position",
    "Record",
    "Sample",
    "SessionEnded",
    "SessionOpened",
    "SessionRecord",
    "ShardError",
    "Step",
    "StepOutcome",
    "StepsAppended",
    "partition_of",
]
