"""Rows of the event table as events, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import apsw
import msgspec
from pydantic import BaseModel

from control.protocol import Event, EventType

COLUMNS = "seq, time, run, branch, step, type, level, body"

Row: TypeAlias = tuple[Any, ...]


def fetch(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> list[Row]:
    """All rows of a query."""
    return connection.execute(statement, tuple(values)).fetchall()


def to_event(row: Row) -> Event:
    """The event of a row of `COLUMNS`, without checking it again: it was checked when it was stored."""
    seq, time, run, branch, step, kind, level, body = row
    return Event.model_construct(
        seq=seq,
        time=time,
        run=run,
        branch=branch,
        step=step,
        type=EventType(kind),
        level=level,
        body=msgspec.json.decode(body),
    )


def to_row(event: Event) -> Row:
    """The row of an event, in the order of `COLUMNS`."""
    body = msgspec.json.encode(event.body).decode()
    return (event.seq, event.time, event.run, event.branch, event.step, event.type.value, event.level, body)


def dump(record: BaseModel) -> str:
    """A record as the text that its table keeps."""
    return record.model_dump_json()


def to_text(row: Row) -> str:
    """The event of a row of `COLUMNS` as the JSON that watchers get, without parsing its body."""
    seq, time, run, branch, step, kind, level, body = row
    return msgspec.json.encode(
        {
            "seq": seq,
            "time": time,
            "run": run,
            "type": kind,
            "branch": branch,
            "step": step,
            "level": level,
            "body": msgspec.Raw(body.encode()),
        }
    ).decode()
