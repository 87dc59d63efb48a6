"""Reading the record: events in order, from a sequence number on."""

from __future__ import annotations

import apsw
import msgspec

from control.protocol import Event, EventType
from control.store.rows import COLUMNS, Row, fetch, to_event

PAGE_BYTES = 8 << 20


class EventFilter(msgspec.Struct, frozen=True):
    """Which events are wanted; what is not given does not matter."""

    run: str | None = None
    types: tuple[EventType, ...] = ()
    branch: str | None = None

    def admits(self, event: Event) -> bool:
        """Whether the event is wanted."""
        return (
            (self.run is None or event.run == self.run)
            and (not self.types or event.type in self.types)
            and (self.branch is None or event.branch == self.branch)
        )


class Slice(msgspec.Struct, frozen=True):
    """Rows in order of `seq`; everything wanted up to `last` is in it, and with `more` there are later ones."""

    rows: tuple[Row, ...]
    last: int
    more: bool


def after(
    connection: apsw.Connection, since: int, wanted: EventFilter, limit: int, max_bytes: int = PAGE_BYTES
) -> Slice:
    """The first wanted events of a number above `since`: `limit` of them, or fewer of about `max_bytes` of bodies."""
    clauses, values = ["seq > ?"], list[object]([since])
    _narrow(wanted, clauses, values)
    with connection:  # one view of the table for both questions
        end = last_seq(connection)
        statement = f"SELECT {COLUMNS} FROM events WHERE {' AND '.join(clauses)} ORDER BY seq LIMIT ?"
        rows, size, more = list[Row](), 0, False
        for row in connection.execute(statement, (*values, limit + 1)):
            if len(rows) == limit or (rows and size + len(row[-1]) > max_bytes):
                more = True
                break
            rows.append(row)
            size += len(row[-1])
    return Slice(tuple(rows), rows[-1][0] if more else max(end, since), more)


def newest(connection: apsw.Connection, wanted: EventFilter, limit: int) -> list[Event]:
    """The last `limit` wanted events, in order."""
    clauses, values = ["1"], list[object]()
    _narrow(wanted, clauses, values)
    statement = f"SELECT {COLUMNS} FROM events WHERE {' AND '.join(clauses)} ORDER BY seq DESC LIMIT ?"
    return [to_event(row) for row in reversed(fetch(connection, statement, (*values, limit)))]


def last_seq(connection: apsw.Connection) -> int:
    """The newest sequence number that was given (0 in a new store), thinned out or not."""
    return connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").get or 0


def first_kept(connection: apsw.Connection) -> int:
    """The oldest sequence number that is still there (1 in an empty store)."""
    return connection.execute("SELECT min(seq) FROM events").get or 1


def _narrow(wanted: EventFilter, clauses: list[str], values: list[object]) -> None:
    if wanted.run is not None:
        clauses.append("run = ?")
        values.append(wanted.run)
    if wanted.types:
        # with several types no index has the order of `seq`: the plus keeps SQLite from sorting all of them
        clauses.append(f"{'+' if len(wanted.types) > 1 else ''}type IN ({', '.join('?' * len(wanted.types))})")
        values.extend(kind.value for kind in wanted.types)
    if wanted.branch is not None:
        clauses.append("branch = ?")
        values.append(wanted.branch)
