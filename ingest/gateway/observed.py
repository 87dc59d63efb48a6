"""Gives every request an id, counts and times every answer, and refuses headers that are too large."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.problems import Problem
from ingest.gateway.metrics import Metrics
from ingest.problems import HEADERS_TOO_LARGE, too_large

HEADER = b"x-request-id"
ACCEPTABLE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, 3.2; of a later version only what it has in common with this one."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Observed:
    """ASGI middleware. A client's own X-Request-Id is kept, so that its log and ours can be laid side by side."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_headers_bytes: int) -> None:
        self._app, self._metrics, self._max_headers_bytes = app, metrics, max_headers_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _stated(scope) or secrets.token_hex(8)
        scope["request_id"] = request_id
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
            await send(message)

        try:
            refused = self._refused(scope)
            if refused is not None:
                await refused.response(Request(scope))(scope, receive, observe)
            else:
                await self._app(scope, receive, observe)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "_OTHER"
            self._metrics.request_seconds.labels(method, route, status).observe(time.monotonic() - started)

    def _refused(self, scope: Scope) -> Problem | None:
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size <= self._max_headers_bytes:
            return None
        return too_large(HEADERS_TOO_LARGE, "bytes of headers", size, self._max_headers_bytes)


def traceparent_of(headers: Mapping[str, str]) -> str | None:
    """The W3C trace that a request belongs to; None where there is none, or it is not well-formed."""
    stated = headers.get("traceparent", "")
    return stated if TRACEPARENT.fullmatch(stated) else None


def _stated(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER and ACCEPTABLE.fullmatch(value):
            return str(value, "ascii")
    return None
