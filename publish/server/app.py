"""The application: all doors of the embedded hub."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from auth import Scope, TokenStore
from auth.http import RequireScope
from auth.problems import INVALID_REQUEST, Problem, install_problems
from publish.directory import DirectoryHub
from publish.errors import FileNotAllowed, HubUnavailable, Unreadable
from publish.server.api import api_routes
from publish.server.doors import Doors
from publish.server.files import file_routes
from publish.server.large import large_routes
from publish.server.live import live_routes
from publish.server.refusals import AWAY, bad_commit
from publish.server.stored import Repositories
from publish.server.versions import VersionsRepository
from publish.settings import HubSettings

logger = logging.getLogger(__name__)


def create_app(settings: HubSettings, hub: DirectoryHub, own: str, tokens: TokenStore) -> FastAPI:
    """`own` is the name under which the hub's versions are one repository, such as `stovetop/desktop`.

    `app.state.stopping` is an event that ends the streams of followers.
    """
    app = FastAPI(title="Stovetop hub", docs_url=None, redoc_url=None)
    app.state.stopping = stopping = asyncio.Event()
    doors = Doors(
        hub=hub,
        own=own,
        versions=VersionsRepository(hub, settings.main),
        stored=Repositories(Path(settings.repositories)),
        read=RequireScope(tokens, Scope.READ),
        write=RequireScope(tokens, Scope.OPERATE),
        largest_commit=settings.largest_commit,
    )

    @app.get("/livez", include_in_schema=False)
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> dict[str, str]:
        hub.versions()
        return {"status": "ok"}

    app.include_router(live_routes(doors, stopping))
    app.include_router(api_routes(doors))
    app.include_router(large_routes(doors))
    app.include_router(file_routes(doors))
    install_problems(app)
    _refuse(app)
    return app


def _refuse(app: FastAPI) -> None:
    """What this room raises, as problems."""

    @app.exception_handler(HubUnavailable)
    @app.exception_handler(Unreadable)
    async def away(request: Request, error: Exception) -> Response:
        return Problem(AWAY, str(error), retry_after=1).response(request)

    @app.exception_handler(FileNotAllowed)
    async def not_allowed(request: Request, error: Exception) -> Response:
        return Problem(INVALID_REQUEST, str(error)).response(request)

    @app.exception_handler(ValueError)
    async def invalid(request: Request, error: Exception) -> Response:
        logger.warning("%s %s is refused: %s", request.method, request.url.path, error)
        return bad_commit(str(error)).response(request)
