"""`GET /v1/sessions/{session_id}/ws`: the handshake. What follows is in `sockets`.

The token comes as `Authorization`, in the hello, or, as a page can set no header, as a subprotocol:
`new WebSocket(url, ["ingest.v1", "ingest.token." + token])`. It never stands in the URL.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.websockets import WebSocket

from auth.http import bearer
from auth.problems import Problem
from ingest.gateway.desk import Desk
from ingest.gateway.sockets import Socket, request_of
from ingest.problems import BACKPRESSURE, FOREIGN_ORIGIN, RETRY_AFTER, UNAVAILABLE

SUBPROTOCOL = "ingest.v1"
TOKEN_SUBPROTOCOL = "ingest.token."


def socket_door(desk: Desk) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.websocket("/v1/sessions/{session_id}/ws")
    async def append_by_socket(websocket: WebSocket, session_id: str) -> None:
        sockets, offered = desk.gateway.sockets, websocket.scope.get("subprotocols", [])
        try:
            _check_origin(desk, websocket)
            secret = _secret(websocket, offered)
            if secret is not None:
                desk.any_token.admit(desk.any_token.grant(secret), session_id)
            _check_room(desk)
        except Problem as problem:
            await websocket.send_denial_response(problem.response(request_of(websocket)))
            return
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        socket = Socket(desk, websocket, session_id, secret)
        sockets.add(socket)
        try:
            await socket.run()
        finally:
            sockets.remove(socket)

    return router


def _check_origin(desk: Desk, websocket: WebSocket) -> None:
    """A browser lets any page open a socket, so the server has to look."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in desk.settings.cors_origins:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise Problem(FOREIGN_ORIGIN, f"{origin[:100]!r} is not among gateway.cors_origins")


def _check_room(desk: Desk) -> None:
    gateway, settings = desk.gateway, desk.settings
    if gateway.sockets.draining or gateway.broken is not None:
        raise Problem(UNAVAILABLE, "the gateway is shutting down", retry_after=RETRY_AFTER)
    # Two of the largest steps are kept free, so that sockets that wait to send one are never all in each other's way.
    if gateway.socket_budget.left < settings.sockets.window_bytes + 2 * settings.max_step_bytes:
        gateway.metrics.backpressure.labels("sockets").inc()
        raise Problem(BACKPRESSURE, f"{len(gateway.sockets)} sockets are open", retry_after=RETRY_AFTER)


def _secret(websocket: WebSocket, offered: list[str]) -> str | None:
    shown = [each.removeprefix(TOKEN_SUBPROTOCOL) for each in offered if each.startswith(TOKEN_SUBPROTOCOL)]
    return shown[0] if shown else bearer(websocket.headers.get("authorization"))
