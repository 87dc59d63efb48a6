"""`describe_branch`: what people call a branch and note about it. The server's own command: it needs no trainer, and the
name under which checkpoints, versions and events know the branch stays."""

from __future__ import annotations

from typing import Any

import apsw

from control.api import BranchInfo, CommandRecord
from control.bodies import BranchDescribedBody, body
from control.protocol import CommandName, CommandSpec, Event, EventType, Outcome
from control.server.arguments import fault, nearest
from control.server.journal import Journal
from control.server.ledger import Ending
from control.store import runs as stored

DESCRIBE = CommandSpec(
    name=CommandName.DESCRIBE_BRANCH.value,
    summary="Give a branch a title or a note",
    arguments={
        "type": "object",
        "properties": {
            "branch": {"type": "string", "maxLength": 64, "description": "the branch, as it is recorded"},
            "title": {"type": "string", "maxLength": 100, "description": "what people call it; empty: its own name"},
            "note": {"type": "string", "maxLength": 2000},
        },
        "required": ["branch"],
        "additionalProperties": False,
    },
)


def describe(journal: Journal, connection: apsw.Connection, record: CommandRecord) -> tuple[Ending, list[Event]]:
    """How the command ends, and what follows from it."""
    if (wrong := fault(DESCRIBE, record.arguments)) is not None:
        return Ending(Outcome.REJECTED, wrong), []
    name, changes = record.arguments["branch"], {k: v for k, v in record.arguments.items() if k != "branch"}
    if not changes:
        return Ending(Outcome.REJECTED, "describe_branch: nothing is given; give a title, a note or both"), []
    known = {branch.branch: branch for branch in stored.branches(connection, record.run)}
    if name not in known:
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near else f"; they are {', '.join(known) or 'none yet'}"
        return Ending(Outcome.REJECTED, f"branch: run {record.run!r} has no branch {name!r}{hint}"), []
    before = _shown(known[name])
    after = {**before, **changes}
    taken = [other.branch for other in known.values() if other.branch != name and after["title"] in _names(other)]
    if taken:
        return Ending(Outcome.REJECTED, f"title: {after['title']!r} is what {taken[0]!r} is called already"), []
    told = body(BranchDescribedBody(title=after["title"], note=after["note"]))
    event = journal.event(record.run, EventType.BRANCH, told, branch=name)
    return Ending(Outcome.SUCCESS, before=before, after=after), [] if record.dry_run else [event]


def _shown(branch: BranchInfo) -> dict[str, Any]:
    return {"title": branch.title, "note": branch.note}


def _names(branch: BranchInfo) -> set[str]:
    return {branch.branch, branch.title} - {""}
