"""`POST /api/v1/report`: figures and heartbeats of those who keep no connection."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from auth.problems import Problem, ProblemType
from auth.tokens import Grant, Scope
from control.api import NewReport, ReportAccepted
from control.protocol import Event, EventType
from control.server.access import Doors
from control.server.desk import Desk
from control.server.switchboard import Switchboard, servers_own

NOT_YOURS = ProblemType("event-not-yours", 403, "The token may not report this type of event")

BY_INGEST = frozenset({EventType.PIPELINE, EventType.FOLLOWER, EventType.HEALTH, EventType.LOG})
"""What a token with the scope `ingest` may say: a deployed app's, which stands beside a gateway or a follower."""


def report_routes(switchboard: Switchboard, desk: Desk, doors: Doors) -> APIRouter:
    """The reporters' door, for tokens with `operate` (any event but the server's own) or `ingest` (see BY_INGEST)."""
    router = APIRouter(prefix="/api/v1", tags=["events"])

    @router.post("/report")
    async def report(new: NewReport, grant: Grant = Depends(doors.report)) -> ReportAccepted:
        """Store events. Not deduplicated: a report sent twice is there twice, as befits a heartbeat."""
        now = switchboard.journal.clock()
        told = [
            Event(
                time=item.time if item.time is not None else now,
                run=item.run,
                type=item.type,
                branch=item.branch,
                step=item.step,
                level=item.level,
                body=item.body,
            )
            for item in new.events
        ]
        for event in told:
            if servers_own(event) or not (grant.allows(Scope.OPERATE) or event.type in BY_INGEST):
                raise Problem(NOT_YOURS, f"token {grant.name!r} may not report {event.type.value!r}")
        return ReportAccepted(last=await desk.do(switchboard.tell, told))

    return router
