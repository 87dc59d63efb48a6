"""The life of commands: each is written down when it is accepted, goes forward only, and gets one outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from control.api import CommandRecord
from control.knobs import supersedes
from control.protocol import (
    Command,
    CommandKind,
    CommandName,
    DesiredState,
    Event,
    EventType,
    Outcome,
    Report,
    Status,
)
from control.server.journal import Journal, Level
from control.store import Heard
from control.store import commands as stored_commands
from control.store import runs as stored_runs

WANTED = {
    CommandName.START_TRAINING: DesiredState.RUNNING,
    CommandName.RESUME_TRAINING: DesiredState.RUNNING,
    CommandName.PAUSE_TRAINING: DesiredState.PAUSED,
    CommandName.STOP_TRAINING: DesiredState.STOPPED,
}
"""What the run is to be once one of these has succeeded."""

ORDER = (Status.REQUESTED, Status.PENDING, Status.RUNNING)


@dataclass(frozen=True)
class Ending:
    """How a command ends."""

    outcome: Outcome
    reason: str = ""
    step: int | None = None
    takes_effect_at: int | None = None
    before: Any = None
    after: Any = None


class Ledger:
    """The open commands, in the order of their acceptance; those with an outcome are in the store."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._store = journal.store
        self.open = {record.uuid: record for record in stored_commands.still_open(self._store.connection)}
        self._floor: dict[str, int] = {}

    def find(self, uuid: str) -> CommandRecord | None:
        """The command of that uuid, open or not."""
        return self.open.get(uuid) or stored_commands.by_uuid(self._store.connection, uuid)

    def of(self, run: str, actor: str) -> list[CommandRecord]:
        """The open commands of one actor, oldest first."""
        return [record for record in self.open.values() if record.run == run and record.actor == actor]

    def revision(self, run: str) -> int:
        """The number of the newest command of the run that succeeded."""
        found = stored_runs.run(self._store.connection, run)
        return max(found.revision if found else 0, self._floor.get(run, 0))

    def lift(self, run: str, revision: int) -> None:
        """Let no number up to `revision` be given again: an actor remembers more than this store does."""
        self._floor[run] = max(self._floor.get(run, 0), revision)

    def next_number(self, run: str) -> int:
        """The number of the next command of the run."""
        found = stored_runs.run(self._store.connection, run)
        return max(found.numbered if found else 0, self._floor.get(run, 0)) + 1

    def accept(self, record: CommandRecord) -> CommandRecord:
        """Write down a command, which then waits."""
        self.open[record.uuid] = record
        self._journal.write([self._event(record)])
        return record

    def settle(self, record: CommandRecord, ending: Ending, extra: Iterable[Event] = ()) -> CommandRecord:
        """End a command that is open or was never accepted; one that has its outcome keeps it."""
        done = self._ended(record, ending)
        self._journal.write([self._event(done), *self._consequences(done), *extra])
        self._close(done)
        return done

    def progress(self, record: CommandRecord, **changes: object) -> CommandRecord:
        """Write down a new state of an open command."""
        moved = record.model_copy(update=changes)
        self._journal.write([self._event(moved)])
        self.open[moved.uuid] = moved
        return moved

    def report(self, report: Report, actor: str, heard: Heard) -> None:
        """Take in what an actor says of a command, and how far the actor was heard, together."""
        record = self.open.get(report.uuid)
        if record is None or record.actor != actor:
            self._journal.write(self._too_late(report, heard.run, actor), heard=heard)
            return
        if report.outcome is None:
            if ORDER.index(report.status) <= ORDER.index(record.status):
                self._journal.write([], heard=heard)
                return
            moved = record.model_copy(update={"status": report.status, "step": report.step})
            self._journal.write([self._event(moved)], heard=heard)
            self.open[moved.uuid] = moved
            return
        ending = Ending(report.outcome, report.reason, report.step, report.takes_effect_at, report.before, report.after)
        done = self._ended(record, ending)
        self._journal.write([self._event(done), *self._consequences(done)], heard=heard)
        self._close(done)

    def supersede(self, newer: CommandRecord) -> None:
        """End the settings that wait for the same actor and of which `newer` leaves nothing.

        Looks back only to the last command that is no setting: what comes before a save must be in it.
        """
        waiting = [r for r in self.of(newer.run, newer.actor or "") if r.uuid != newer.uuid and r.delivered_to is None]
        for older in reversed(waiting):
            if older.kind is not CommandKind.SETTING:
                break
            if supersedes(as_command(newer), as_command(older), newer.kind):
                self.settle(
                    older,
                    Ending(
                        Outcome.SUPERSEDED, f"command {newer.number} sets the same; it came before this was applied"
                    ),
                )

    def _ended(self, record: CommandRecord, ending: Ending) -> CommandRecord:
        return record.model_copy(
            update={
                "status": ending.outcome.status,
                "outcome": ending.outcome,
                "reason": ending.reason,
                "step": ending.step,
                "takes_effect_at": ending.takes_effect_at,
                "before": ending.before,
                "after": ending.after,
                "final_at": self._journal.clock(),
            }
        )

    def _close(self, done: CommandRecord) -> None:
        self.open.pop(done.uuid, None)

    def _event(self, record: CommandRecord) -> Event:
        level: Level = "warning" if record.outcome not in (None, Outcome.SUCCESS) else "info"
        return self._journal.event(
            record.run,
            EventType.COMMAND,
            record.model_dump(mode="json"),
            level=level,
            branch=record.branch,
            step=record.step,
        )

    def _consequences(self, done: CommandRecord) -> list[Event]:
        if done.outcome is not Outcome.SUCCESS or done.dry_run or done.command not in WANTED:
            return []
        return [self._journal.desired(done.run, WANTED[CommandName(done.command)], done.author)]

    def _too_late(self, report: Report, run: str, actor: str) -> list[Event]:
        if report.outcome is None:
            return []
        known = self.find(report.uuid)
        what = f"command {report.uuid}, which is unknown" if known is None else f"{known.command} ({known.uuid})"
        ended = "" if known is None or known.outcome is None else f", which had ended as {known.outcome.value}"
        said = f"{actor} reported {report.outcome.value} of {what}{ended}: {report.reason or 'no reason'}"
        return [self._journal.line(run, said, level="warning")]


def as_command(record: CommandRecord) -> Command:
    """The record as it travels to an actor."""
    return Command(
        uuid=record.uuid,
        command=record.command,
        arguments=record.arguments,
        run=record.run,
        author=record.author,
        note=record.note,
        time=record.time,
        expires_at=record.expires_at,
        expected_revision=record.expected_revision,
        dry_run=record.dry_run,
    )
