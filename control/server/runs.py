"""`/api/v1/runs` and what belongs to a run: its state, its series, its events, versions and followers."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query

from auth.problems import Problem, ProblemType
from auth.tokens import Grant
from control.api import (
    NAME_PATTERN,
    Comparison,
    Desired,
    EventPage,
    FollowerList,
    ModelTree,
    NewDesired,
    RunDetail,
    RunList,
    SeriesPage,
    VersionList,
)
from control.protocol import EventType
from control.server.access import Doors
from control.server.desk import Desk
from control.server.overview import Overview
from control.server.switchboard import Switchboard
from control.store import EventFilter, events, series
from control.store import runs as stored
from control.store.readers import Readers
from control.store.rows import to_event
from control.way import WayInfo

UNKNOWN_RUN = ProblemType("unknown-run", 404, "There is no such run")

MAX_METRICS = 100
MAX_RUNS = 20
MAX_POINTS = 5000

RunName = Annotated[str, Path(pattern=NAME_PATTERN)]
RunFilter = Annotated[str | None, Query(pattern=NAME_PATTERN)]


def run_routes(switchboard: Switchboard, desk: Desk, readers: Readers, doors: Doors, overview: Overview) -> APIRouter:
    """The doors of those who look at runs."""
    router = APIRouter(prefix="/api/v1", tags=["runs"], dependencies=[Depends(doors.read)])

    def known(name: str) -> stored.StoredRun:
        found = stored.run(readers.connection(), name)
        if found is None:
            raise Problem(UNKNOWN_RUN, f"there is no run {name!r}")
        return found

    @router.get("/runs")
    def runs() -> RunList:
        """All runs, those with the newest events first."""
        return overview.runs()

    @router.get("/runs/{run}")
    def run(run: RunName) -> RunDetail:
        """Everything that a page needs to draw a run."""
        detail = overview.run(run)
        if detail is None:
            raise Problem(UNKNOWN_RUN, f"there is no run {run!r}")
        return detail

    @router.get("/runs/{run}/way")
    def way(run: RunName) -> WayInfo:
        """The way of one click, link by link: rates, lags, and what to do where it is broken."""
        found = overview.way(run)
        if found is None:
            raise Problem(UNKNOWN_RUN, f"there is no run {run!r}")
        return found

    @router.get("/runs/{run}/model")
    def model(run: RunName) -> ModelTree:
        """The model's layers, as its trainer described them."""
        return overview.model(run)

    @router.get("/runs/{run}/desired")
    def desired(run: RunName) -> Desired:
        """What people want of the run: a supervisor asks this before it starts a trainer."""
        found = known(run)
        return Desired(run=run, state=found.desired, author=found.desired_by, time=found.desired_at)

    @router.post("/runs/{run}/desired")
    async def want(run: RunName, new: NewDesired, grant: Grant = Depends(doors.operate)) -> Desired:
        """Want something else of the run. It is turned into the command that does it, and recorded as that."""
        await to_thread.run_sync(known, run)
        command = await desk.do(switchboard.want, run, new.state, grant.name, new.note)
        found = await to_thread.run_sync(known, run)
        return Desired(run=run, state=found.desired, author=found.desired_by, time=found.desired_at, command=command)

    @router.get("/runs/{run}/metrics/series")
    def metric_series(
        run: RunName,
        metric: Annotated[list[str] | None, Query(max_length=MAX_METRICS, description="default: all")] = None,
        branch: Annotated[list[str] | None, Query(max_length=20, description="default: all")] = None,
        points: Annotated[int, Query(ge=10, le=MAX_POINTS, description="at most so many rows for each series")] = 1000,
        lineage: Annotated[bool, Query(description="begin a branch with what it was forked from")] = False,
    ) -> SeriesPage:
        """Metrics by step, one series for each metric and branch; what was undone by a resume is left out."""
        known(run)
        return gathered(run, metric, branch, points, lineage, events.last_seq(readers.connection()))

    @router.get("/metrics/series")
    def compared(
        run: Annotated[list[str], Query(min_length=1, max_length=MAX_RUNS, description="names of runs")],
        metric: Annotated[list[str] | None, Query(max_length=MAX_METRICS, description="default: all")] = None,
        points: Annotated[int, Query(ge=10, le=MAX_POINTS, description="at most so many rows for each series")] = 1000,
        lineage: Annotated[bool, Query(description="begin a branch with what it was forked from")] = False,
    ) -> Comparison:
        """The same metrics of several runs, for one chart; runs that train at the same time may be among them."""
        last = events.last_seq(readers.connection())
        for name in run:
            known(name)
        found = tuple(gathered(name, metric, None, points, lineage, last) for name in dict.fromkeys(run))
        return Comparison(seq=last, runs=found)

    def gathered(
        run: str, metric: list[str] | None, branch: list[str] | None, points: int, lineage: bool, last: int
    ) -> SeriesPage:
        connection = readers.connection()
        names = metric or stored.metric_names(connection, run)[:MAX_METRICS]
        branches = branch or [found.branch for found in stored.branches(connection, run) if not found.deleted]
        found = [
            item
            for name in branches
            for item in series.series(connection, run, name, names, points, lineage=lineage, until=last)
        ]
        return SeriesPage(run=run, seq=last, series=tuple(item for item in found if item.steps))

    @router.get("/events", tags=["events"])
    def history(
        since: Annotated[int, Query(ge=0)] = 0,
        run: RunFilter = None,
        type: Annotated[list[EventType] | None, Query()] = None,
        branch: str | None = None,
        limit: Annotated[int, Query(ge=1, le=5000)] = 500,
    ) -> EventPage:
        """Events of a number above `since`, in order. A stream of them: the WebSocket of the same address."""
        wanted = EventFilter(run=run, types=tuple(type or ()), branch=branch)
        found = events.after(readers.connection(), since, wanted, limit)
        return EventPage(events=tuple(map(to_event, found.rows)), last=found.last, more=found.more)

    @router.get("/versions", tags=["versions"])
    def versions(run: RunFilter = None, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> VersionList:
        """Versions of the weights, newest first, and the channels that point at them."""
        connection = readers.connection()
        return VersionList(versions=stored.versions(connection, run, limit), channels=stored.channels(connection, run))

    @router.get("/followers", tags=["versions"])
    def followers(run: RunFilter = None) -> FollowerList:
        """Servers that follow the weights, as of their last heartbeats."""
        return FollowerList(followers=stored.followers(readers.connection(), run))

    return router
