"""The paper's paths, in the shapes of the authors' server, so that clients written for it work (A.1, 2.1).

What differs from `/api/v1`: arguments are JSON in a string and may be empty, an identity whose command has its outcome
counts as new, and a command expires from its receipt on, however old its `time` is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, WebSocket
from pydantic_core import from_json

from auth.problems import Problem, ProblemType
from auth.tokens import Grant, Scope, TokenStore
from control.api import NAME_PATTERN, UUID_PATTERN, CommandRecord, NewCommand
from control.bodies import StateKey
from control.protocol import Body, Event, EventType, Outcome, RunStatus, Status, WireCommand, finite
from control.server.access import PaperAccess, admit
from control.server.desk import Desk
from control.server.hub import Hub
from control.server.overview import Overview
from control.server.pace import Pace
from control.server.paper_shapes import (
    PaperAnswer,
    PaperBranch,
    PaperCheckpoint,
    PaperDataset,
    PaperInfo,
    PaperLogs,
    PaperMessage,
    PaperPoint,
)
from control.server.switchboard import Switchboard
from control.server.watchers import Tail, WatchLoop
from control.settings import ControlSettings
from control.store import EventFilter, events
from control.store import runs as stored
from control.store.readers import Readers

NO_RUN = ProblemType("no-run", 404, "There is no run yet", retryable=True)

MAX_NAME = 128
SHOWN = 2000
"""Characters kept of arguments that cannot be read."""

LOG_POINTS = 5000
"""Newest points that `/api/get_logs/` gives; the authors' page keeps no more than a few thousand itself."""

POINTS = (EventType.METRICS, EventType.EVALUATION)
MILLISECONDS = 1e11
"""Times above this are milliseconds, as the authors' page sends them."""

RunChoice = Annotated[str | None, Query(pattern=NAME_PATTERN, description="default: the run that trains")]


class Papers:
    """Answers in the paper's words, for the run that trains now."""

    def __init__(self, switchboard: Switchboard, overview: Overview, readers: Readers) -> None:
        self._switchboard, self._overview, self._readers = switchboard, overview, readers

    def run(self, name: str | None) -> stored.StoredRun:
        """The run of that name; without one, the newest of those whose trainer is connected, else of all."""
        runs = stored.runs(self._readers.connection())
        if name is not None:
            runs = [run for run in runs if run.run == name]
        here = [run for run in runs if self._overview.status(run) is not RunStatus.DISCONNECTED]
        found = next(iter(here or runs), None)
        if found is None:
            raise Problem(NO_RUN, "no trainer has connected yet" if name is None else f"there is no run {name!r}")
        return found

    def status(self, run: stored.StoredRun) -> RunStatus:
        """What the run does."""
        return self._overview.status(run)

    def state(self, name: str | None, key: StateKey) -> dict[str, Any]:
        """What the actors said under that key, empty where nobody did."""
        run = self.run(name).run
        if key is StateKey.MODEL:
            return dict(self._overview.model(run).model or {})
        detail = self._overview.run(run)
        value = detail.state.get(key) if detail else None
        return value if isinstance(value, dict) else {}

    def command(self, wire: WireCommand, run: str | None, author: str) -> CommandRecord:
        """Take a command in the paper's envelope; at the desk."""
        uuid, name = wire.uuid[:MAX_NAME], wire.command[:MAX_NAME] or "?"
        arguments, problem = _arguments(wire.args)
        for record in self._switchboard.ledger.open.values():
            if uuid and (record.client_uuid, record.command, record.arguments) == (uuid, name, arguments):
                return record
        free = re.fullmatch(UUID_PATTERN, uuid) is not None and self._switchboard.ledger.find(uuid) is None
        new = NewCommand(
            command=name,
            arguments=arguments if problem is None else {"args": (wire.args or "")[:SHOWN]},
            run=run,
            uuid=uuid if free else None,
            time=(wire.time / 1000 if wire.time > MILLISECONDS else wire.time) or None,
        )
        if problem is not None:
            return self._switchboard.turn_down(new, author, problem, client_uuid=uuid)
        return self._switchboard.submit(new, author, client_uuid=uuid)

    def logs(self, run: str | None) -> PaperLogs:
        """The newest numbers of every branch."""
        found = self.run(run)
        branches = {branch.branch: branch for branch in stored.branches(self._readers.connection(), found.run)}
        names = list(branches) or [found.branch]
        logs: dict[str, list[PaperPoint]] = {name: [] for name in names}
        for event in events.newest(self._readers.connection(), EventFilter(run=found.run, types=POINTS), LOG_POINTS):
            logs.setdefault(event.branch, []).append(_point(event))
        info = {
            name: PaperBranch(
                id=name,
                wall_time=branches[name].time if name in branches else found.created_at,
                parent=branches[name].parent if name in branches else None,
            )
            for name in logs
        }
        tree = {name: [child.id for child in info.values() if child.parent == name] for name in logs}
        return PaperLogs(
            local_step=found.step or 0,
            branched_logs=logs,
            current_branch=found.branch,
            branch_info=info,
            branch_tree=tree,
        )

    def message(self, event: Event) -> PaperMessage | None:
        """The event as the authors' page knows it; None where it knows nothing of the kind."""
        if event.type in POINTS:
            args: dict[str, Any] = {**_point(event).model_dump(), "branch_id": event.branch}
            return self._told("log_update", args, event)
        if event.type is EventType.CHECKPOINT and event.body.get("action", "saved") == "saved":
            args = {
                "uuid": event.body.get("uuid"),
                "checkpoint_dir": event.body.get("path", ""),
                "global_step": event.step,
                "time": event.time,
                "branch": event.branch,
            }
            return self._told("checkpoint_info_update", args, event)
        if event.type is not EventType.COMMAND:
            return None
        record = CommandRecord.model_validate(event.body)
        args = dict(record.arguments)
        if record.command == "load_checkpoint" and record.outcome is Outcome.SUCCESS:
            args["branch_info"] = self._branch_now(record)
        return PaperMessage(
            command=record.command,
            args=_text(args),
            uuid=record.uuid if record.client_uuid is None else record.client_uuid,
            time=record.time,
            status=record.status.value,
        )

    def _branch_now(self, record: CommandRecord) -> dict[str, Any]:
        branches = stored.branches(self._readers.connection(), record.run)
        newest = max(branches, key=lambda branch: branch.time, default=None)
        if newest is None:
            return {}
        return PaperBranch(id=newest.branch, wall_time=newest.time, parent=newest.parent).model_dump()

    @staticmethod
    def _told(command: str, args: dict[str, Any], event: Event) -> PaperMessage:
        return PaperMessage(
            command=command, args=_text(args), uuid=f"event-{event.seq}", time=event.time, status=Status.SUCCESS.value
        )


def paper_routes(
    papers: Papers,
    desk: Desk,
    hub: Hub,
    readers: Readers,
    tokens: TokenStore,
    settings: ControlSettings,
    pace: Pace,
) -> APIRouter:
    """The doors that the paper names."""
    look, steer = PaperAccess(tokens, settings, Scope.READ), PaperAccess(tokens, settings, Scope.OPERATE)
    router = APIRouter(tags=["paper"])
    looking = [Depends(look)]

    @router.post("/api/command/")
    async def command(wire: WireCommand, grant: Grant = Depends(steer), run: RunChoice = None) -> PaperAnswer:
        """Send a command; what becomes of it comes over `WS /ws/message/`."""
        pace.step(grant.name)
        record = await desk.do(papers.command, wire, run, grant.name)
        refused = record.outcome not in (None, Outcome.SUCCESS)
        uuid = record.uuid if record.client_uuid is None else record.client_uuid
        return PaperAnswer(status="error" if refused else "success", message=record.reason, uuid=uuid)

    @router.get("/api/get_info/", dependencies=looking)
    def info(run: RunChoice = None) -> PaperInfo:
        found = papers.run(run)
        told = papers.state(found.run, StateKey.INFO)
        status = papers.status(found)
        return PaperInfo(
            run_name=found.run,
            start_time=float(told.get("start_time") or found.created_at),
            status="init" if status is RunStatus.STARTING else status.value,
        )

    @router.get("/api/get_dataset_info/", dependencies=looking)
    def dataset(run: RunChoice = None) -> PaperDataset:
        told = papers.state(run, StateKey.DATASET)
        parts = (told.get(key) for key in ("initialization_parameters", "interactive_parameters"))
        initial, interactive = (part if isinstance(part, dict) else {} for part in parts)
        return PaperDataset(initialization_parameters=initial, interactive_parameters=interactive)

    @router.get("/api/get_optimizer_info/", dependencies=looking)
    def optimizer(run: RunChoice = None) -> Body:
        return papers.state(run, StateKey.OPTIMIZER)

    @router.get("/api/get_model_info/", dependencies=looking)
    def model(run: RunChoice = None) -> Body:
        return papers.state(run, StateKey.MODEL)

    @router.get("/api/get_checkpoints/", dependencies=looking)
    def checkpoints(run: RunChoice = None) -> list[PaperCheckpoint]:
        found = stored.checkpoints(readers.connection(), papers.run(run).run)
        return [
            PaperCheckpoint(uuid=c.uuid, checkpoint_dir=c.path, global_step=c.step, time=c.time, branch=c.branch)
            for c in found
        ]

    @router.get("/api/get_logs/", dependencies=looking)
    def logs(run: RunChoice = None) -> PaperLogs:
        return papers.logs(run)

    @router.websocket("/ws/message/")
    async def messages(websocket: WebSocket, since: int | None = None, run: RunChoice = None) -> None:
        if await admit(websocket, look) is None:
            return
        await websocket.accept()
        place = hub.last if since is None else max(0, min(since, hub.last))
        tail = Tail(hub, readers, place, EventFilter(run=run))

        async def texts() -> AsyncIterator[str]:
            async for batch in tail.batches():
                for item in batch:
                    told = papers.message(item.event)
                    if told is not None:
                        yield told.model_dump_json()

        await WatchLoop(websocket, hub, settings.client_stall).run(texts())

    return router


def _point(event: Event) -> PaperPoint:
    numbers = {name: value for name, value in event.body.items() if isinstance(value, (int, float))}
    return PaperPoint(
        local_step=event.step or 0, wall_time=event.time, metrics={**numbers, "global_step": event.step or 0}
    )


def _arguments(text: str | None) -> tuple[dict[str, Any], str | None]:
    """The arguments in the string, or what is wrong with it."""
    if text is None or not text.strip():
        return {}, None
    try:
        found = finite(from_json(text))
    except ValueError as error:
        return {}, f'args is not JSON ({error}); send an object as a string, like {{"lr": {{"value": 1e-5}}}}'
    if found is None:
        return {}, None
    if not isinstance(found, dict):
        return {}, f"args is {type(found).__name__}, but a command takes an object"
    return found, None


def _text(args: dict[str, Any]) -> str:
    return msgspec.json.encode(finite(args)).decode()
