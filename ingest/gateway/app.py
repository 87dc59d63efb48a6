"""The gateway's doors, put together. Which token opens which:

    POST /v1/sessions, /v1/tokens        a key of scope `ingest`
    DELETE /v1/…, /v1/admin/…            see `keeping_doors`
    the rest of /v1                      the same, or the session's own token
    /metrics                             scope `read`
    /livez /readyz                       none: a supervisor has no token, and they tell nothing
    /openapi.json /v1/client.js          none: they are the program, not the data

Tokens are looked at before a body is read, and a body is read only within the budget (`admission`).
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware

from auth.http import RequireScope
from auth.problems import install_problems
from auth.tokens import Scope, TokenStore
from ingest.errors import IngestError
from ingest.gateway.append_door import AppendDoor
from ingest.gateway.description import PROBLEMS, describe
from ingest.gateway.desk import Desk
from ingest.gateway.forwarding import Forwarding
from ingest.gateway.gateway import Gateway
from ingest.gateway.keeping_doors import dead_letters_router, deletions_router
from ingest.gateway.observed import Observed
from ingest.gateway.replies import Ready, json_reply
from ingest.gateway.session_doors import session_doors
from ingest.gateway.socket_door import socket_door
from ingest.gateway.whole_door import whole_door
from ingest.problems import problem_of

CLIENT = Path(__file__).parent / "static" / "client.js"
HEADERS = (
    *("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "Ingest-First-Seq", "Prefer"),
    *("traceparent", "X-Request-Id"),
)
"""What a page may send."""
EXPOSED = ("Location", "Retry-After", "X-Request-Id")
"""What it may read of an answer."""


def create_app(gateway: Gateway, tokens: TokenStore) -> FastAPI:
    """The ASGI application over a running gateway."""
    app = FastAPI(title="Stovetop gateway", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    install_problems(app)
    desk = Desk(gateway, tokens)

    @app.exception_handler(IngestError)
    async def refused(request: Request, error: IngestError) -> Response:
        return problem_of(error).response(request)

    app.add_middleware(AppendDoor, desk=desk)
    app.add_middleware(Forwarding, gateway=gateway)
    app.add_middleware(Observed, metrics=gateway.metrics, max_headers_bytes=gateway.settings.max_headers_bytes)
    if gateway.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=gateway.settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=HEADERS,
            expose_headers=EXPOSED,
            max_age=600,
        )
    app.include_router(session_doors(desk))
    app.include_router(whole_door(desk))
    app.include_router(socket_door(desk))
    app.include_router(deletions_router(gateway, tokens))
    app.include_router(dead_letters_router(gateway, tokens))
    app.include_router(_client())
    app.include_router(_health(gateway, RequireScope(tokens, Scope.READ)))
    describe(app)
    return app


def _client() -> APIRouter:
    router = APIRouter()
    script = CLIENT.read_bytes()

    @router.get("/v1/client.js", response_class=Response, responses={200: {"content": {"text/javascript": {}}}})
    async def client() -> Response:
        # Any page may load it: a module is fetched with CORS, and there is no secret in it.
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300"}
        return Response(script, 200, headers, "text/javascript; charset=utf-8")

    return router


def _health(gateway: Gateway, read: RequireScope) -> APIRouter:
    router = APIRouter()

    @router.get("/livez", response_model=Ready)
    async def livez() -> Response:
        return json_reply(Ready(ready=True))

    @router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
    async def readyz() -> Response:
        reason = gateway.unready()
        return json_reply(Ready(ready=reason is None, reason=reason), 200 if reason is None else 503)

    @router.get(
        "/metrics",
        dependencies=[Depends(read)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **PROBLEMS},
    )
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
