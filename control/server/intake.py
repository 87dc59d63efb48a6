"""Takes in commands: finds who is to act, turns down what nobody could do, and lets the rest through."""

from __future__ import annotations

from control.api import CommandRecord, NewCommand
from control.errors import CommandConflict
from control.protocol import CommandKind, CommandName, CommandSpec, DesiredState, Outcome, new_uuid
from control.server.arguments import fault, nearest
from control.server.branches import DESCRIBE, describe
from control.server.journal import Journal
from control.server.ledger import WANTED, Ending, Ledger
from control.server.roster import Roster, Seat
from control.settings import ControlSettings
from control.store import runs as stored_runs

CONTROL = "control"
"""The server itself, as the actor of commands that need no other."""

START = CommandSpec(
    name=CommandName.START_TRAINING.value,
    summary="Let a stopped run train again, from where it stopped",
    arguments={"type": "object", "properties": {}, "additionalProperties": False},
)

OWN = (START, DESCRIBE)
"""What the server takes itself."""

STATES = (CommandName.PAUSE_TRAINING, CommandName.RESUME_TRAINING, CommandName.STOP_TRAINING)


class Intake:
    """From what somebody sent to a command that waits for its actor, or to an outcome at once."""

    def __init__(self, journal: Journal, ledger: Ledger, roster: Roster, settings: ControlSettings) -> None:
        self._journal, self._ledger, self._roster, self._settings = journal, ledger, roster, settings
        self._connection = journal.store.connection

    def take(self, new: NewCommand, token: str, client_uuid: str | None) -> tuple[CommandRecord, Seat | None]:
        """Accept a command, with the seat that it is for, or end it here with a reason (then without a seat).

        A uuid that is known changes nothing; raises CommandConflict when it belongs to one that says something else.
        """
        if new.uuid is not None and (known := self._ledger.find(new.uuid)) is not None:
            if (known.command, known.arguments) != (new.command, new.arguments):
                raise CommandConflict(
                    f"uuid {new.uuid!r} belongs to a {known.command!r} that says something else; take a new one"
                )
            return known, None
        seats = self._roster.takers(new.command, new.run)
        run, problem = self._run_for(new, seats)
        record = self._record(new, token, run, client_uuid)
        if problem is None and self._own(record):
            return self._act(record), None
        seats = [seat for seat in seats if seat.actor.run == run]
        seat = next((seat for seat in seats if seat.link), seats[0] if seats else None)
        problem = problem or self._objection(record, seat)
        if problem is not None or seat is None:
            return self._ledger.settle(record, Ending(Outcome.REJECTED, problem or "nobody takes it")), None
        if record.expires_at is not None and record.expires_at <= record.received_at:
            late = record.received_at - record.expires_at
            return self._ledger.settle(record, Ending(Outcome.EXPIRED, f"it came {late:.1f} s after it expired")), None
        spec = seat.spec(record.command)
        kind = spec.kind if spec else CommandKind.ACTION
        record = self._ledger.accept(record.model_copy(update={"actor": seat.actor.actor, "kind": kind}))
        self._ledger.supersede(record)
        return record, seat

    def turn_down(self, new: NewCommand, token: str, reason: str, client_uuid: str | None) -> CommandRecord:
        """Record a command as rejected."""
        run, _ = self._run_for(new, self._roster.takers(new.command, new.run))
        return self._ledger.settle(self._record(new, token, run, client_uuid), Ending(Outcome.REJECTED, reason))

    def wanted(self, run: str) -> DesiredState:
        """What people want of the run."""
        found = stored_runs.run(self._connection, run)
        return found.desired if found else DesiredState.RUNNING

    def command_for(self, run: str, state: DesiredState) -> CommandName | None:
        """The command that makes the run what it should be; None where it is wanted so already."""
        current = self.wanted(run)
        if current is state:
            return None
        if state is DesiredState.RUNNING:
            stopped = current is DesiredState.STOPPED
            return CommandName.START_TRAINING if stopped else CommandName.RESUME_TRAINING
        return CommandName.STOP_TRAINING if state is DesiredState.STOPPED else CommandName.PAUSE_TRAINING

    def _record(self, new: NewCommand, token: str, run: str, client_uuid: str | None) -> CommandRecord:
        now = self._journal.clock()
        found = stored_runs.run(self._connection, run)
        return CommandRecord(
            uuid=new.uuid or new_uuid(),
            run=run,
            number=self._ledger.next_number(run) if run else 0,
            command=new.command,
            arguments=new.arguments,
            author=new.author or token,
            token=token,
            note=new.note,
            time=new.time if new.time is not None else now,
            received_at=now,
            expires_at=new.expires_at if new.expires_at is not None else now + self._settings.command_expiry,
            expected_revision=new.expected_revision,
            dry_run=new.dry_run,
            branch=found.branch if found else "main",
            client_uuid=client_uuid,
        )

    def _run_for(self, new: NewCommand, seats: list[Seat]) -> tuple[str, str | None]:
        """The run that a command is for, or why there is none."""
        known = [found.run for found in stored_runs.runs(self._connection)]
        if new.run is not None:
            if new.run in known:
                return new.run, None
            near = nearest(new.run, known)
            return "", f"there is no run {new.run!r}" + (f"; did you mean {near!r}?" if near else "")
        connected = {seat.actor.run for seat in seats if seat.link}
        taking = connected or {seat.actor.run for seat in seats} or set(known)
        if len(taking) == 1:
            return taking.pop(), None
        if not taking:
            return "", "there is no run yet"
        return "", f"{len(taking)} runs could take it; name one of {', '.join(sorted(taking))} with `run`"

    def _objection(self, record: CommandRecord, seat: Seat | None) -> str | None:
        """Why a command is turned down before it travels; None where nothing speaks against it."""
        if seat is None:
            return self._unknown(record)
        spec = seat.spec(record.command)
        if spec is not None and (wrong := fault(spec, record.arguments)) is not None:
            return wrong
        waiting = [other for other in self._ledger.open.values() if other.run == record.run]
        if len(waiting) >= self._settings.max_waiting:
            return f"{len(waiting)} commands wait in run {record.run!r} already; let some of them end"
        if record.expected_revision is None:
            return None
        latest = max([other.number for other in waiting], default=0)
        revision = self._ledger.revision(record.run)
        if revision == record.expected_revision and latest <= revision:
            return None
        under_way = f" with command {latest} under way" if latest > revision else ""
        return (
            f"it expected revision {record.expected_revision}, but the run is at {revision}{under_way}; "
            "look at what changed, and send it again"
        )

    def _unknown(self, record: CommandRecord) -> str:
        everything = {name.value for name in CommandName} | self._roster.commands()
        if record.command in everything:
            there = sorted(seat.actor.actor for seat in self._roster.of(record.run) if seat.link)
            return f"nobody in run {record.run!r} takes {record.command!r}; connected: {', '.join(there) or 'nobody'}"
        near = nearest(record.command, everything)
        return f"there is no command {record.command!r}" + (f"; did you mean {near!r}?" if near else "")

    def _own(self, record: CommandRecord) -> bool:
        """Whether the server itself takes this one: its own always, and a run's states while the trainer is away."""
        if record.command in (spec.name for spec in OWN):
            return True
        trainer = self._roster.trainer(record.run)
        return record.command in STATES and trainer is not None and trainer.link is None

    def _act(self, record: CommandRecord) -> CommandRecord:
        record = record.model_copy(update={"actor": CONTROL})
        if record.command == CommandName.DESCRIBE_BRANCH:
            ending, extra = describe(self._journal, self._connection, record)
            return self._ledger.settle(record, ending, extra)
        before, wanted = self.wanted(record.run), WANTED[CommandName(record.command)]
        if record.command == CommandName.START_TRAINING and before is DesiredState.PAUSED:
            return self._ledger.settle(
                record, Ending(Outcome.REJECTED, "the run is paused, not stopped; send resume_training")
            )
        if (
            record.command in (CommandName.RESUME_TRAINING, CommandName.PAUSE_TRAINING)
            and before is DesiredState.STOPPED
        ):
            return self._ledger.settle(
                record, Ending(Outcome.REJECTED, "the run is stopped; send start_training first")
            )
        trainer = self._roster.trainer(record.run)
        reason = "" if trainer is not None and trainer.link else "no trainer is here; the next one will obey"
        return self._ledger.settle(record, Ending(Outcome.SUCCESS, reason, before=before.value, after=wanted.value))
