"""What the annotator's writer stores of each partition beside its outputs, in the same commit.

position/{partition}                 `Progress`
session/{partition}/{session id}     `OpenSession`, until the session ends
"""

from __future__ import annotations

import msgspec

from ingest.log import Log
from ingest.types import Point, SessionOpened

ANNOTATOR = "annotator"
"""The name of the annotator's writer."""


class Progress(msgspec.Struct, frozen=True):
    """Where a partition stands: what comes before `done` has its outcome, and reading begins at `restart`."""

    restart: Point
    done: Point


class OpenSession(msgspec.Struct):
    """What is stored of an open session: its opening, where its episode began, and steps that are not fed again."""

    opened: SessionOpened | None = None
    start: Point | None = None
    lethal: tuple[int, ...] = ()


decode_progress = msgspec.msgpack.Decoder(Progress).decode
decode_open = msgspec.msgpack.Decoder(OpenSession).decode


def annotator_progress(log: Log) -> dict[int, Progress]:
    """Where the annotator stands, by partition, as it committed it; empty before its first commit."""
    stored = log.writer_state(ANNOTATOR, "position/")
    return {int(key.partition("/")[2]): decode_progress(value) for key, value in stored.items()}
