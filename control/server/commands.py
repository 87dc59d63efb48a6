"""`/api/v1/commands` and `/api/v1/audit`: sending, following and looking back on interventions."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Response

from auth.problems import Problem, ProblemType
from auth.tokens import Grant
from control.api import NAME_PATTERN, AuditPage, CommandDetail, CommandPage, CommandRecord, NewCommand
from control.errors import CommandConflict
from control.server.access import Doors
from control.server.desk import Desk
from control.server.outcomes import Outcomes
from control.server.pace import Pace
from control.server.switchboard import Switchboard
from control.store import commands as stored
from control.store.readers import Readers

CONFLICT = ProblemType("command-conflict", 409, "The uuid belongs to another command")
UNKNOWN_COMMAND = ProblemType("unknown-command", 404, "There is no such command")

MAX_WAIT = 30.0

Uuid = Annotated[str, Path(min_length=1, max_length=128)]
RunFilter = Annotated[str | None, Query(pattern=NAME_PATTERN)]
Author = Annotated[str | None, Query(max_length=128)]
Before = Annotated[int | None, Query(description="the cursor of the page before this one")]
Limit = Annotated[int, Query(ge=1, le=500)]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, description="seconds to wait for the outcome")]


def command_routes(
    switchboard: Switchboard, desk: Desk, outcomes: Outcomes, readers: Readers, doors: Doors, pace: Pace
) -> APIRouter:
    """The doors of those who command."""
    router = APIRouter(prefix="/api/v1", tags=["commands"])

    @router.post("/commands", status_code=202, responses={200: {"model": CommandRecord}})
    async def send(
        new: NewCommand, response: Response, grant: Grant = Depends(doors.operate), wait: Wait = 0.0
    ) -> CommandRecord:
        """Send a command. 202 while it has no outcome, 200 once it has one (rejections included: look at `outcome`)."""
        pace.step(grant.name)
        try:
            record = await desk.do(switchboard.submit, new, grant.name)
        except CommandConflict as error:
            raise Problem(CONFLICT, str(error)) from error
        if wait and record.outcome is None:
            record = await outcomes.of(record.uuid, wait) or record
        response.status_code = 202 if record.outcome is None else 200
        return record

    @router.get("/commands", dependencies=[Depends(doors.read)])
    def page(run: RunFilter = None, author: Author = None, before: Before = None, limit: Limit = 100) -> CommandPage:
        """Commands, newest first."""
        return stored.page(readers.connection(), run, author, before, limit)

    @router.get("/commands/{uuid}", dependencies=[Depends(doors.read)])
    async def one(uuid: Uuid, wait: Wait = 0.0) -> CommandDetail:
        """A command and its history; with `wait`, when it has its outcome or the time is over."""
        record = await outcomes.of(uuid, wait)
        if record is None:
            raise Problem(UNKNOWN_COMMAND, f"no command has the uuid {uuid!r}")
        history = await to_thread.run_sync(lambda: stored.history(readers.connection(), uuid))
        return CommandDetail(command=record, history=history)

    @router.get("/audit", dependencies=[Depends(doors.read)])
    def audit(run: RunFilter = None, author: Author = None, before: Before = None, limit: Limit = 100) -> AuditPage:
        """Who wanted what, when, and what came of it, newest first."""
        return stored.audit(readers.connection(), run, author, before, limit)

    return router
