"""Who may come in: tokens over HTTP and WebSocket, and pages of which origins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from auth.http import RequireScope
from auth.problems import Problem, ProblemType
from auth.tokens import Grant, TokenStore
from auth.tokens import Scope as Opens
from control.settings import ControlSettings

SUBPROTOCOL = "stovetop"
TOKEN_SUBPROTOCOL = "stovetop.token."
"""How a page, which can set no header, shows its token: `new WebSocket(url, ["stovetop", "stovetop.token." + it])`."""

FOREIGN_ORIGIN = ProblemType("foreign-origin", 403, "This page may not call here")
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

PAPER_GRANT_NAME = "paper client"


Keeper: TypeAlias = Callable[[HTTPConnection], Awaitable[Grant]]
"""Lets a request in, with its grant, or raises Problem."""


async def admit(websocket: WebSocket, keeper: Keeper) -> Grant | None:
    """Let a WebSocket in, not yet accepted, or answer its handshake with the refusal and return None."""
    try:
        return await keeper(websocket)
    except Problem as problem:
        await websocket.send_denial_response(problem.response(websocket))  # type: ignore[arg-type]
        return None


class RequireScopeByAnyMeans(RequireScope):
    """`RequireScope` that also takes the token from a WebSocket's subprotocols."""

    async def __call__(self, connection: HTTPConnection) -> Grant:
        if connection.scope["type"] == "websocket" and "authorization" not in connection.headers:
            for offered in connection.scope.get("subprotocols", []):
                if offered.startswith(TOKEN_SUBPROTOCOL):
                    return await super().__call__(_with_token(connection, offered.removeprefix(TOKEN_SUBPROTOCOL)))
        return await super().__call__(connection)


class PaperAccess:
    """The keeper of the paper's paths: a token like everywhere, unless settings wave local clients through.

    A page of another origin is kept out by `OriginCheck`; a name that somebody else's DNS points here, by the Host.
    """

    def __init__(self, tokens: TokenStore, settings: ControlSettings, scope: Opens) -> None:
        self._token = RequireScopeByAnyMeans(tokens, scope)
        self._settings = settings
        self._scope = scope

    async def __call__(self, connection: HTTPConnection) -> Grant:
        local = connection.client is not None and connection.client.host in LOCAL_HOSTS
        if self._settings.paper_clients and local and _hostname(connection) in LOCAL_HOSTS | {self._settings.host}:
            return Grant(PAPER_GRANT_NAME, frozenset({self._scope}), "")
        return await self._token(connection)


class OriginCheck:
    """Refuses requests that a page of a foreign origin makes a browser send: HTTP with 403, WebSockets as well.

    A request without an `Origin` comes from no page. One of the server's own host, or of `settings.origins`, is let on.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            connection = HTTPConnection(scope)
            origin = connection.headers.get("origin")
            if origin is not None and not self._admits(origin.lower(), connection):
                problem = Problem(
                    FOREIGN_ORIGIN, f"pages of {origin} may not call here; `origins` in the settings lets them"
                )
                await problem.response(connection)(scope, receive, send)  # type: ignore[arg-type]
                return
        await self._app(scope, receive, send)

    def _admits(self, origin: str, connection: HTTPConnection) -> bool:
        named = urlsplit(origin).netloc
        return origin in self._origins or (named != "" and named == connection.headers.get("host", "").lower())


def _hostname(connection: HTTPConnection) -> str | None:
    return urlsplit("//" + connection.headers.get("host", "")).hostname


def _with_token(connection: HTTPConnection, token: str) -> HTTPConnection:
    headers = [*connection.scope["headers"], (b"authorization", f"Bearer {token}".encode("latin-1", "replace"))]
    return HTTPConnection({**connection.scope, "headers": headers})


class Doors:
    """The keepers of `/api/v1`, made once for all routes."""

    def __init__(self, tokens: TokenStore) -> None:
        self.read = RequireScopeByAnyMeans(tokens, Opens.READ)
        self.operate = RequireScopeByAnyMeans(tokens, Opens.OPERATE)
        self.report = AnyOf(RequireScopeByAnyMeans(tokens, Opens.OPERATE), RequireScopeByAnyMeans(tokens, Opens.INGEST))


class AnyOf:
    """Opens to each of several scopes; the last one's refusal is the answer."""

    def __init__(self, *keepers: RequireScope) -> None:
        self._keepers = keepers

    async def __call__(self, connection: HTTPConnection) -> Grant:
        *others, last = self._keepers
        for keeper in others:
            try:
                return await keeper(connection)
            except Problem:
                continue
        return await last(connection)
