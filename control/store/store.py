"""The one writer of the store: events go in, with their numbers; the tables follow in the same transaction."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from control.api import ActorInfo
from control.errors import StoreLocked
from control.forks import keep_from_children
from control.protocol import CommandSpec, Event, EventType
from control.store import samples as pictures
from control.store.derive import Tables
from control.store.events import last_seq
from control.store.rows import COLUMNS, to_event, to_row
from control.store.schema import DERIVED, DERIVED_TABLES, open_writer

FILE = "control.sqlite"

DURABLE = frozenset({EventType.COMMAND, EventType.RUN, EventType.CHECKPOINT, EventType.BRANCH, EventType.VERSION})
"""Events whose commit is fsynced. Others may be lost with the power, in order and from the end only: the write-ahead
log is one file, so the next durable commit takes everything before it along, and no kill of a process loses any."""


class StoredActor(msgspec.Struct, frozen=True):
    """What is kept of an actor over restarts. `stored` is the last of its numbers that were taken in."""

    run: str
    actor: str
    kind: str
    instance: str
    stored: int
    connected: bool
    since: float
    commands: tuple[CommandSpec, ...]
    state: dict[str, object]

    def info(self) -> ActorInfo:
        """What of it is shown."""
        return ActorInfo(
            actor=self.actor, kind=self.kind, connected=self.connected, since=self.since, instance=self.instance
        )


class Heard(msgspec.Struct, frozen=True):
    """How far an actor's count was taken in."""

    run: str
    actor: str
    number: int


class Store:
    """Appends events and keeps actors. One per folder, used from one thread; raises StoreLocked for a second one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._lock = os.open(folder / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StoreLocked(
                f"{folder}: another control server has it; stop that one, or choose another folder"
            ) from error
        keep_from_children(self)
        self.connection = open_writer(self.path)
        self.name: str = self.connection.execute("SELECT value FROM meta WHERE key = 'store'").get
        self._tables = Tables(self.connection)
        self.last_seq = last_seq(self.connection)
        self._durable = True

    def append(
        self,
        events: Sequence[Event],
        *,
        actor: StoredActor | None = None,
        heard: Heard | None = None,
        samples: pictures.Samples | None = None,
    ) -> list[Event]:
        """Number and store `events`, and what is known of an actor or shown of a version, in one transaction; return them
        as stored.

        Once this returns no kill loses them; see `DURABLE` for a loss of power.
        """
        self._synchronous(any(event.type in DURABLE for event in events))
        first = self.last_seq + 1
        stored = [event.model_copy(update={"seq": first + index}) for index, event in enumerate(events)]
        try:
            with self.connection:
                self.connection.executemany(
                    f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [to_row(e) for e in stored]
                )
                for event in stored:
                    self._tables.learn(event)
                if actor is not None:
                    self._keep(actor)
                if heard is not None:
                    self.connection.execute(
                        "UPDATE actors SET stored = ? WHERE run = ? AND actor = ?",
                        (heard.number, heard.run, heard.actor),
                    )
                if samples is not None:
                    pictures.put(self.connection, samples)
        except BaseException:
            self._tables.forget()
            raise
        self.last_seq += len(stored)
        return stored

    def actors(self) -> list[StoredActor]:
        """All actors that ever said hello, by run and name."""
        rows = self.connection.execute(
            "SELECT run, actor, kind, instance, stored, connected, since, commands, state FROM actors"
        )
        return [
            StoredActor(
                run, actor, kind, instance, stored, bool(connected), since, _specs(commands), msgspec.json.decode(state)
            )
            for run, actor, kind, instance, stored, connected, since, commands, state in rows
        ]

    def rebuild(self) -> None:
        """Make the tables again from the events, in one transaction."""
        with self.connection:
            for table in DERIVED_TABLES:
                self.connection.execute(f"DROP TABLE {table}")
            self.connection.execute(DERIVED)
            self._tables.forget()
            for row in self.connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq"):
                self._tables.learn(to_event(row))

    def held_descriptors(self) -> Iterable[int]:
        """The lock's, which no child may keep."""
        return [self._lock] if self._lock >= 0 else []

    def close(self) -> None:
        """Close the file and let another server have it. Harmless when done twice."""
        self.connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _keep(self, actor: StoredActor) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO actors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                actor.run,
                actor.actor,
                actor.kind,
                actor.instance,
                actor.stored,
                actor.connected,
                actor.since,
                msgspec.json.encode([spec.model_dump(mode="json") for spec in actor.commands]).decode(),
                msgspec.json.encode(actor.state).decode(),
            ),
        )

    def _synchronous(self, durable: bool) -> None:
        if durable is not self._durable:
            self.connection.pragma("synchronous", "FULL" if durable else "NORMAL")
            self._durable = durable


def _specs(text: str) -> tuple[CommandSpec, ...]:
    return tuple(CommandSpec.model_validate(item) for item in msgspec.json.decode(text))
