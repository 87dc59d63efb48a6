"""The server's mind, without any socket: commands find their actors, actors come, speak, go and come back.

Everything here runs on one thread, the desk's. A message is written down before anything follows from it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from control.api import CommandRecord, NewCommand
from control.knobs import lasting
from control.protocol import (
    Ack,
    CommandKind,
    Deliver,
    DesiredState,
    Event,
    EventType,
    Goodbye,
    Hello,
    Outcome,
    Reported,
    Said,
    StateChanged,
    Status,
    Welcome,
)
from control.server.intake import Intake
from control.server.journal import Journal
from control.server.ledger import Ending, Ledger, as_command
from control.server.roster import Link, Roster, Seat
from control.settings import ControlSettings
from control.store import Heard, StoredActor
from control.store import commands as stored_commands


def servers_own(event: Event) -> bool:
    """Whether only the server itself may write such an event: the record of commands, actors, and what is wanted."""
    return event.type in (EventType.COMMAND, EventType.ACTOR) or (
        event.type is EventType.RUN and "desired" in event.body
    )


logger = logging.getLogger(__name__)


class Switchboard:
    """Connects those who command with those who act."""

    def __init__(self, journal: Journal, settings: ControlSettings) -> None:
        self.journal, self.settings = journal, settings
        self.ledger = Ledger(journal)
        self.roster = Roster()
        self._intake = Intake(journal, self.ledger, self.roster, settings)
        self._connection = journal.store.connection
        now = journal.clock()
        for actor in journal.store.actors():
            if actor.connected:
                actor = _changed(actor, connected=False, since=now)
                journal.write([journal.actor(actor, "gone", "the control server was started again")], actor=actor)
            self.roster.put(Seat(actor, None, now))

    # Those who command

    def submit(self, new: NewCommand, token: str, *, client_uuid: str | None = None) -> CommandRecord:
        """Accept a command and send it on its way, or end it at once with a reason; see `Intake.take`."""
        record, seat = self._intake.take(new, token, client_uuid)
        return record if seat is None else self._deliver(record, seat)

    def turn_down(self, new: NewCommand, token: str, reason: str, *, client_uuid: str | None = None) -> CommandRecord:
        """Record a command that cannot even be read, as rejected."""
        return self._intake.turn_down(new, token, reason, client_uuid)

    def want(self, run: str, state: DesiredState, token: str, note: str = "") -> CommandRecord | None:
        """Make the run what it should be: the command that does it, or None where it is wanted so already."""
        name = self._intake.command_for(run, state)
        return None if name is None else self.submit(NewCommand(command=name.value, run=run, note=note), token)

    def tell(self, events: Sequence[Event]) -> int:
        """Store what a reporter without a connection says; return the last sequence number."""
        return self.journal.write(events)[-1].seq

    # Those who act

    def hello(self, hello: Hello, link: Link) -> None:
        """An actor is here, for the first time, again, or in place of one that died."""
        seat = self.roster.get(hello.run, hello.actor)
        same = seat is not None and seat.actor.instance == hello.instance
        if seat is not None and seat.link is not None:
            seat.link.dismiss("another connection of this actor took its place")
        actor = StoredActor(
            run=hello.run,
            actor=hello.actor,
            kind=hello.kind,
            instance=hello.instance,
            stored=seat.actor.stored if seat is not None and same else 0,
            connected=True,
            since=self.journal.clock(),
            commands=hello.commands,
            state=hello.state,
        )
        events = [self.journal.actor(actor, "connected")]
        if hello.starts and not same and self._intake.wanted(hello.run) is not DesiredState.RUNNING:
            events.append(self.journal.desired(hello.run, DesiredState.RUNNING, hello.actor))
        self.journal.write(events, actor=actor)
        self.ledger.lift(hello.run, hello.revision or 0)
        if seat is not None and not same:
            self._bury(seat.actor, hello.revision)
        seat = Seat(actor, link, 0.0, self.journal.clock())
        self.roster.put(seat)
        link.post(self._welcome(hello, actor, same))
        for record in self.ledger.of(hello.run, hello.actor):
            self._deliver(record, seat)

    def said(self, seat: Seat, said: Said) -> None:
        """Events of an actor; those that were stored before are not stored again."""
        skip = max(0, seat.actor.stored + 1 - said.first)
        fresh = [event for event in said.events[skip:] if self._belongs(event, seat)]
        heard = _heard(seat, said.first + len(said.events) - 1)
        self.journal.write(fresh, heard=heard)
        self._ack(seat, heard)

    def reported(self, seat: Seat, reported: Reported) -> None:
        """A command's new state."""
        heard = _heard(seat, reported.number)
        if reported.number > seat.actor.stored:
            self.ledger.report(reported.report, seat.actor.actor, heard)
        self._ack(seat, heard)

    def state_changed(self, seat: Seat, changed: StateChanged) -> None:
        """New values for what is shown of the actor."""
        seat.actor = _changed(seat.actor, state={**seat.actor.state, **changed.state})
        self.journal.write([], actor=seat.actor)

    def gone(self, link: Link, reason: str) -> None:
        """A connection is lost; the actor may come back as the same instance."""
        seat = self.roster.holding(link)
        if seat is None:
            return  # replaced: the seat is another's now
        seat.link, seat.left_at = None, self.journal.clock()
        seat.actor = _changed(seat.actor, connected=False, since=seat.left_at)
        self.journal.write([self.journal.actor(seat.actor, "gone", reason)], actor=seat.actor)

    def goodbye(self, link: Link, goodbye: Goodbye) -> None:
        """The actor ends in good order."""
        seat = self.roster.holding(link)
        self.gone(link, goodbye.reason or "it ended")
        if seat is not None:
            self._bury(
                seat.actor,
                0,
                f"{seat.actor.actor} ended before it had done this: {goodbye.reason or 'no reason given'}",
            )

    # Time

    def tick(self) -> None:
        """Expire what nobody took in time, and fail what an actor began and did not come back for."""
        now = self.journal.clock()
        for record in list(self.ledger.open.values()):
            expired = record.expires_at is not None and record.expires_at <= now
            seat = self.roster.get(record.run, record.actor or "")
            if record.delivered_to is None:
                if expired:
                    reason = f"{record.actor} was away; nobody took it up in time"
                    self.ledger.settle(record, Ending(Outcome.EXPIRED, reason))
                continue
            given_up = seat is None or (seat.link is None and seat.left_at + self.settings.actor_grace <= now)
            if given_up and (record.kind is not CommandKind.SETTING or expired):
                reason = f"{record.actor} has been away for {self.settings.actor_grace:g} s since it got this"
                self.ledger.settle(record, Ending(Outcome.FAILED, reason))

    # Inside

    def _deliver(self, record: CommandRecord, seat: Seat) -> CommandRecord:
        """Hand a command to its actor. What this instance was given before is given again: it knows what it has."""
        if seat.link is None:
            return record
        if record.delivered_to != seat.actor.instance:
            record = self.ledger.progress(record, status=Status.PENDING, delivered_to=seat.actor.instance)
        seat.link.post(Deliver(command=as_command(record), number=record.number))
        return record

    def _welcome(self, hello: Hello, actor: StoredActor, same: bool) -> Welcome:
        settings: tuple[Deliver, ...] = ()
        if hello.revision is not None and not same:
            lacking = stored_commands.settings_after(self._connection, hello.run, hello.revision, hello.actor)
            numbers = {record.uuid: record.number for record in lacking}
            settings = tuple(
                Deliver(command=command, number=numbers[command.uuid], again=True)
                for command in lasting([as_command(record) for record in lacking])
            )
        return Welcome(
            stored=actor.stored,
            revision=self.ledger.revision(hello.run),
            desired=self._intake.wanted(hello.run),
            settings=settings,
        )

    def _bury(self, dead: StoredActor, revision: int | None, reason: str | None = None) -> None:
        """Settle what a dead instance had: its actions fail, its settings wait for the next one.

        `revision` is what the next one's state holds: the command of just that number had been done.
        """
        reason = reason or f"{dead.actor} died before it reported an outcome"
        for record in self.ledger.of(dead.run, dead.actor):
            if record.delivered_to != dead.instance:
                continue
            if revision is not None and record.number == revision:
                done = f"done: the state that {dead.actor} resumed from holds it"
                self.ledger.settle(record, Ending(Outcome.SUCCESS, done))
            elif record.kind is CommandKind.SETTING and revision is not None and record.number > revision:
                self.ledger.progress(
                    record, status=Status.REQUESTED, delivered_to=None, reason=f"{reason}; it waits for the next one"
                )
            else:
                self.ledger.settle(record, Ending(Outcome.FAILED, reason))

    def _belongs(self, event: Event, seat: Seat) -> bool:
        wrong = event.run != seat.actor.run or servers_own(event)
        if wrong:
            logger.warning("%s of %s may not say %s of %s", seat.actor.actor, seat.actor.run, event.type, event.run)
        return not wrong

    def _ack(self, seat: Seat, heard: Heard) -> None:
        """Remember how far the actor was heard, now that it is stored, and let it forget."""
        seat.actor = _changed(seat.actor, stored=heard.number)
        if seat.link is not None:
            seat.link.post(Ack(number=heard.number))


def _heard(seat: Seat, number: int) -> Heard:
    return Heard(seat.actor.run, seat.actor.actor, max(seat.actor.stored, number))


def _changed(actor: StoredActor, **changes: object) -> StoredActor:
    return msgspec.structs.replace(actor, **changes)
