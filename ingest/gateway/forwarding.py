"""Requests about a session that another gateway has are handed on to that one, so that any gateway may be asked.

The token goes along and is looked at there. A request is handed on once: where the next gateway does not have the
session either, the shares are just moving, and the client is asked to try again (`ShareElsewhere`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.problems import Problem
from ingest.gateway.gateway import Gateway
from ingest.problems import ELSEWHERE, RETRY_AFTER
from ingest.sessions import Opening

HOP, REQUEST_ID = "stovetop-forwarded", "x-request-id"
SESSION = re.compile(r"/v1/(?:sessions/|deletions/session\.)([^/]+)")
OPEN, TOKENS, DELETIONS = "/v1/sessions", "/v1/tokens", "/v1/deletions/"
NOT_HANDED_ON = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive", "expect"})
SECONDS = 60.0

logger = logging.getLogger(__name__)


class Forwarding:
    """ASGI middleware; does nothing on a log that only one gateway can write."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith((OPEN, TOKENS, DELETIONS))
        if not ours or not self._gateway.lanes.shared:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if HOP in request.headers:
            await self._app(scope, receive, send)
            return
        named = SESSION.match(scope["path"])
        body: bytes | None = None
        if named is not None:
            share = self._gateway.lanes.share_of(named[1])
        elif scope["path"] in (OPEN, TOKENS) and scope["method"] == "POST":
            body = await _small_body(request, self._gateway.settings.max_metadata_bytes)
            if body is None:
                await self._app(scope, receive, send)
                return
            share = self._gateway.lanes.share_of_opening(_opening(body, request))
        else:
            await self._app(scope, receive, send)
            return
        address = self._gateway.lanes.address_of(share)
        if address is None:
            await self._app(scope, receive if body is None else _replayed(body), send)
            return
        response = await self._hand_on(request, address, body)
        await response(scope, receive, send)

    async def _hand_on(self, request: Request, address: str, body: bytes | None) -> Response:
        if self._client is None:
            limits = httpx.Limits(max_connections=256)
            self._client = httpx.AsyncClient(timeout=SECONDS, limits=limits, trust_env=False)
        headers = {name: value for name, value in request.headers.items() if name not in NOT_HANDED_ON}
        headers |= {HOP: "1", REQUEST_ID: request.scope["request_id"]}  # one id in both logs, and in the answer
        if (length := request.headers.get("content-length")) is not None:
            headers["content-length"] = length
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        content: AsyncIterator[bytes] | bytes = request.stream() if body is None else body
        try:
            answer = await self._client.request(request.method, f"{address}{path}", headers=headers, content=content)
        except (httpx.HTTPError, ClientDisconnect) as error:
            logger.warning("the gateway at %s does not answer: %r", address, error)
            detail = f"the gateway at {address} does not answer; try again in a moment"
            problem = Problem(ELSEWHERE, detail, retry_after=RETRY_AFTER, members={"gateway": address})
            return problem.response(request)
        dropped = NOT_HANDED_ON | {REQUEST_ID}
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        return Response(answer.content, answer.status_code, kept)


async def _small_body(request: Request, limit: int) -> bytes | None:
    """The body, where it says that it is small; else it is left for whoever refuses it."""
    stated = request.headers.get("content-length", "")
    if not stated.isdigit() or int(stated) > limit:
        return None
    with suppress(ClientDisconnect):
        return await request.body()
    return None


def _opening(body: bytes, request: Request) -> Opening:
    session_id: str | None = None
    with suppress(msgspec.DecodeError):
        given = msgspec.json.decode(body)
        named = given.get("session_id") if isinstance(given, dict) else None
        session_id = named if isinstance(named, str) else None
    key = request.headers.get("idempotency-key")
    return Opening("", session_id=session_id, key=key)


def _replayed(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
