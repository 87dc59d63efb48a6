"""Reading commands: one, a page, those that are open, and the settings that a run should have."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from control.api import AuditEntry, AuditPage, CommandPage, CommandRecord, CommandReport
from control.bodies import Open
from control.protocol import CommandKind, EventType, Outcome, Status
from control.store.rows import fetch


def by_uuid(connection: apsw.Connection, uuid: str) -> CommandRecord | None:
    """The command of that uuid."""
    return _one(connection.execute("SELECT record FROM commands WHERE uuid = ?", (uuid,)))


def by_client_uuid(connection: apsw.Connection, client_uuid: str) -> CommandRecord | None:
    """The newest command that a client of the paper's paths sent under that uuid."""
    return _one(
        connection.execute(
            "SELECT record FROM commands WHERE client_uuid = ? ORDER BY first_seq DESC LIMIT 1", (client_uuid,)
        )
    )


def still_open(connection: apsw.Connection) -> list[CommandRecord]:
    """All commands without an outcome, oldest first."""
    return _all(connection.execute("SELECT record FROM commands WHERE outcome IS NULL ORDER BY first_seq"))


def settings_after(connection: apsw.Connection, run: str, revision: int, actor: str) -> list[CommandRecord]:
    """The settings of `actor` that a state of `revision` lacks, in the order in which they succeeded as numbered.

    What a load put back is not among them: it undid the settings before it.
    """
    rows = connection.execute(
        "SELECT record FROM commands WHERE run = ? AND number > ? AND outcome = 'success' ORDER BY number",
        (run, revision),
    )
    wanted: list[CommandRecord] = []
    for record in _all(rows):
        if record.actor != actor or record.dry_run:
            continue
        if record.kind is CommandKind.RESTORE:
            wanted.clear()
        elif record.kind is CommandKind.SETTING:
            wanted.append(record)
    return wanted


def page(
    connection: apsw.Connection, run: str | None, author: str | None, before: int | None, limit: int
) -> CommandPage:
    """Commands, newest first, with a number of their first event below `before`."""
    clauses, values = ["first_seq < ?"], list[object]([before if before is not None else 1 << 62])
    if run is not None:
        clauses.append("run = ?")
        values.append(run)
    if author is not None:
        clauses.append("json_extract(record, '$.author') = ?")
        values.append(author)
    rows = fetch(
        connection,
        f"SELECT first_seq, record FROM commands WHERE {' AND '.join(clauses)} ORDER BY first_seq DESC LIMIT ?",
        (*values, limit + 1),
    )
    records = tuple(CommandRecord.model_validate_json(text) for _, text in rows[:limit])
    return CommandPage(commands=records, before=rows[limit - 1][0] if len(rows) > limit else None)


def audit(
    connection: apsw.Connection, run: str | None, author: str | None, before: int | None, limit: int
) -> AuditPage:
    """Interventions, newest first: `page` in the words of those who ask who did what."""
    found = page(connection, run, author, before, limit)
    return AuditPage(entries=tuple(map(_entry, found.commands)), before=found.before)


class _Report(Open):
    status: Status
    outcome: Outcome | None = None
    reason: str = ""
    step: int | None = None


def history(connection: apsw.Connection, uuid: str) -> tuple[CommandReport, ...]:
    """Every state that the command was in, oldest first."""
    rows = connection.execute(
        "SELECT seq, time, body FROM events WHERE type = ? AND json_extract(body, '$.uuid') = ? ORDER BY seq",
        (EventType.COMMAND.value, uuid),
    )
    found = []
    for seq, time, text in rows:
        told = _Report.model_validate_json(text)
        found.append(
            CommandReport(
                seq=seq, time=time, status=told.status, outcome=told.outcome, reason=told.reason, step=told.step
            )
        )
    return tuple(found)


def _entry(record: CommandRecord) -> AuditEntry:
    return AuditEntry(
        time=record.received_at,
        author=record.author,
        note=record.note,
        run=record.run,
        branch=record.branch,
        command=record.command,
        arguments=record.arguments,
        uuid=record.uuid,
        outcome=record.outcome,
        reason=record.reason,
        step=record.step,
        takes_effect_at=record.takes_effect_at,
        before=record.before,
        after=record.after,
        dry_run=record.dry_run,
        seconds=None if record.final_at is None else record.final_at - record.received_at,
    )


def _all(rows: Iterable[tuple[str]]) -> list[CommandRecord]:
    return [CommandRecord.model_validate_json(text) for (text,) in rows]


def _one(rows: Iterable[tuple[str]]) -> CommandRecord | None:
    return next(iter(_all(rows)), None)
