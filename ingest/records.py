"""The values of the log's records: MessagePack of the types that `ingest.types` says, and back.

Here as everywhere in this room, decoders are made while modules are imported: msgspec takes a type apart when it meets
it first, and two threads that do so at once may read what is half done (it ends in a crash of the process).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ingest.errors import LogCorrupt
from ingest.log import Record
from ingest.types import Annotated, DeadLetter, SessionDeleted, SessionRecord

Value = TypeVar("Value")

_sessions: msgspec.msgpack.Decoder[SessionRecord] = msgspec.msgpack.Decoder(SessionRecord)
_annotated = msgspec.msgpack.Decoder(Annotated)
_deleted = msgspec.msgpack.Decoder(SessionDeleted)
_dead = msgspec.msgpack.Decoder(DeadLetter)


decode_annotated, decode_dead_letter = _annotated.decode, _dead.decode


def session_record(record: Record) -> SessionRecord:
    """What a record of the topic `steps` holds. Raises `LogCorrupt`, naming the record, like the others here."""
    return _decoded(_sessions, record)


def annotated(record: Record) -> Annotated:
    """What a record of the topic `samples` holds."""
    return _decoded(_annotated, record)


def dead_letter(record: Record) -> DeadLetter:
    """What a record of the topic `dead` holds."""
    return _decoded(_dead, record)


def session_deleted(record: Record) -> SessionDeleted:
    """What a record of the topic `deletions` holds."""
    return _decoded(_deleted, record)


def _decoded(decoder: msgspec.msgpack.Decoder[Value], record: Record) -> Value:
    try:
        return decoder.decode(record.value)
    except msgspec.DecodeError as error:
        raise LogCorrupt(
            f"{record.topic}/{record.partition}: the record at offset {record.offset} cannot be read ({error}); "
            "was the log written by another version?"
        ) from error
