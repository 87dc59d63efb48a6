"""From a user's click to durable, ordered, archived samples.

The room promises that a 2xx means durable, that `(session_id, seq)` is taken once, that every acked step has exactly
one recorded outcome, and that every sample stands in exactly one shard.

Two doors are packages of their own, so that this one stays quick to import: `ingest.gateway` takes steps in
(`serve_gateway`), `ingest.client` and `ingest.async_client` post them (`SessionClient`, `AsyncSessionClient`).
"""

from ingest.annotator import Annotator, Members, PassThrough, SessionAware
from ingest.errors import (
    AnnotatorError,
    ClientError,
    GatewayError,
    IngestError,
    LayoutMismatch,
    LogBroken,
    LogCorrupt,
    LogError,
    LogForked,
    LogFull,
    LogLocked,
    LogUnavailable,
    OffsetOutOfRange,
    PluginError,
    ShardError,
)
from ingest.log import Append, Bounds, Fetch, Log, LogReader, LogWriter, Record, partition_of
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore, ShardStore
from ingest.sqlite import SqliteLog
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
    "Annotator",
    "AnnotatorError",
    "Append",
    "Bounds",
    "ClientError",
    "DeadLetter",
    "DirectoryStore",
    "EndReason",
    "Fetch",
    "GatewayError",
    "IngestError",
    "LayoutMismatch",
    "Log",
    "LogBroken",
    "LogCorrupt",
    "LogError",
    "LogForked",
    "LogFull",
    "LogLocked",
    "LogReader",
    "LogUnavailable",
    "LogWriter",
    "Members",
    "OffsetOutOfRange",
    "PassThrough",
    "PluginError",
    "Point",
    "Position",
    "Record",
    "Sample",
    "SessionAware",
    "SessionEnded",
    "SessionOpened",
    "SessionRecord",
    "ShardChain",
    "ShardError",
    "ShardStore",
    "SqliteLog",
    "Step",
    "StepOutcome",
    "StepsAppended",
    "partition_of",
]
