"""Puts the server together: one store, one switchboard, and the doors in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from auth.problems import Problem, ProblemType, install_problems
from auth.tokens import TokenStore
from control.api import ProblemBody, WatchEvents, WatchWelcome
from control.server.access import Doors, OriginCheck
from control.server.actors import actor_routes
from control.server.alerts import Alerts
from control.server.beats import Beats
from control.server.body_limit import BodyLimit
from control.server.commands import command_routes
from control.server.desk import Desk
from control.server.hub import Hub
from control.server.journal import Journal
from control.server.outcomes import Outcomes
from control.server.overview import Overview
from control.server.pace import Pace
from control.server.pages import DIST, page_routes
from control.server.paper import Papers, paper_routes
from control.server.report import report_routes
from control.server.runs import run_routes
from control.server.samples import sample_routes
from control.server.state import state_routes
from control.server.switchboard import Switchboard
from control.server.watchers import watcher_routes
from control.settings import ControlSettings
from control.store import Store
from control.store.readers import Readers
from control.store.thin import thin

TICK = 0.25
THIN_EVERY = 20.0

NOTHING_HERE = ProblemType("not-found", 404, "There is nothing here")

logger = logging.getLogger(__name__)


def create_app(
    settings: ControlSettings, tokens: TokenStore, store: Store, port: int | None = None, dist: Path = DIST
) -> FastAPI:
    """The server as an ASGI application over an open store, which stays the caller's to close.

    `port` is where it will listen: pages that name this machine differently (localhost, 127.0.0.1) are its own too.
    """
    hub, desk = Hub(store.last_seq, settings.ring), Desk()
    switchboard = Switchboard(Journal(store, lambda events: desk.tell(hub.publish, events)), settings)
    readers, doors, pace = Readers(store.path), Doors(tokens), Pace(settings.commands_per_minute)
    beats = Beats(readers)
    overview, outcomes = Overview(switchboard.roster, readers, beats), Outcomes(hub, readers)
    hub.listeners.append(beats.notice)

    def line(run: str, message: str) -> None:
        desk.later(lambda: switchboard.tell([switchboard.journal.line(run, message, level="warning")]))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        desk.open()
        alerts = Alerts(settings.alerts, line)
        hub.listeners.append(alerts.notice)
        tasks = [asyncio.create_task(keep_time(switchboard, desk, settings)), asyncio.create_task(alerts.run())]
        try:
            yield
        finally:
            hub.listeners.remove(alerts.notice)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await desk.close()

    app = FastAPI(
        title="Stovetop control",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": ProblemBody, "description": "Refused"}},
    )
    install_problems(app)
    app.state.hub = hub
    app.include_router(command_routes(switchboard, desk, outcomes, readers, doors, pace))
    app.include_router(run_routes(switchboard, desk, readers, doors, overview))
    app.include_router(report_routes(switchboard, desk, doors))
    app.include_router(sample_routes(switchboard.journal, desk, readers, doors, settings))
    app.include_router(watcher_routes(hub, readers, store.name, settings, doors.read))
    app.include_router(actor_routes(switchboard, desk, doors.operate))
    papers = Papers(switchboard, overview, readers)
    app.include_router(paper_routes(papers, desk, hub, readers, tokens, settings, pace))
    app.include_router(state_routes(switchboard, desk, readers, hub, doors))

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def nothing(path: str, request: Request) -> Response:
        raise Problem(NOTHING_HERE, f"{request.method} /api/{path} is not known; /openapi.json lists what is")

    app.include_router(page_routes(dist))
    _describe_sockets(app)
    own = (f"http://localhost:{port}", f"http://127.0.0.1:{port}") if port and settings.loopback else ()
    origins = (*settings.origins, *own)
    app.add_middleware(BodyLimit, limit=settings.request_bytes)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            # the last one is no request header, but the authors' page sends it
            allow_headers=["Authorization", "Content-Type", "Access-Control-Allow-Origin"],
        )
    app.add_middleware(OriginCheck, origins=origins)
    return app


async def keep_time(switchboard: Switchboard, desk: Desk, settings: ControlSettings) -> None:
    """Expire and fail what its time has come for, and keep the store small, in pieces that delay nobody."""
    loop, connection = asyncio.get_running_loop(), switchboard.journal.store.connection
    next_thinning = loop.time() + THIN_EVERY
    while True:
        await asyncio.sleep(TICK)
        try:
            await desk.do(switchboard.tick)
            if loop.time() >= next_thinning:
                more = await desk.do(thin, connection, settings.keep_metrics, settings.keep_passing)
                next_thinning = loop.time() + (0.0 if more else THIN_EVERY)
        except Exception:
            logger.exception("keeping time failed; it goes on")


def _describe_sockets(app: FastAPI) -> None:
    """Add what travels over WebSockets to the schema, where OpenAPI has no place for it, so that types can be made."""
    from fastapi.openapi.utils import get_openapi
    from pydantic.json_schema import models_json_schema

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, routes=app.routes, description=DESCRIPTION, tags=None
            )
            _, extra = models_json_schema(
                [(WatchWelcome, "serialization"), (WatchEvents, "serialization")],
                ref_template="#/components/schemas/{model}",
            )
            known = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, definition in extra.get("$defs", {}).items():
                known.setdefault(name, definition)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


DESCRIPTION = """Steers and watches training runs.

`WS /api/v1/events?since=N&run=…&type=…` sends a `WatchWelcome`, then `WatchEvents`. A browser shows its token with the
subprotocols `stovetop` and `stovetop.token.<token>`; others send `Authorization: Bearer <token>`. Close code 1013 means
that the client was too slow: connect again with `since`.
"""
