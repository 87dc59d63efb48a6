"""The errors of this room.

    IngestError
    ├── LogError
    │   ├── LogLocked          another process writes this log
    │   ├── OffsetOutOfRange   the records were trimmed
    │   └── LogCorrupt         the file is not a log of a format that is known here
    ├── ShardError             a shard that is torn, foreign or not what its header says
    └── AnnotatorError         an app's annotator that cannot be loaded or broke its contract
"""

from __future__ import annotations


class IngestError(Exception):
    """Anything that goes wrong in ingest."""


class LogError(IngestError):
    """Anything that goes wrong in the log."""


class LogLocked(LogError):
    """Another process writes this log; stop it, or give this one a folder of its own."""


class OffsetOutOfRange(LogError):
    """The records asked for were trimmed; `start` is the first that is left (older ones are in the archive)."""

    def __init__(self, topic: str, partition: int, offset: int, start: int) -> None:
        super().__init__(
            f"{topic}/{partition}: offset {offset} was trimmed, the log starts at {start}; read older ones from the archive"
        )
        self.topic, self.partition, self.offset, self.start = topic, partition, offset, start


class LogCorrupt(LogError):
    """The file is not a log of a format that is known here."""


class ShardError(IngestError):
    """A shard that is torn, foreign or not what its header says."""


class AnnotatorError(IngestError):
    """An app's annotator that cannot be loaded or broke its contract."""
