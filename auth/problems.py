"""Refusals that a program can read: RFC 9457 problem details, the same at every door.

A door keeps a table of `ProblemType`s, raises `Problem` and calls `install_problems` once on its application. The
`type` of a problem is a URN that never changes; `detail` is for people and may.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
URN = "urn:stovetop:problem:"

Json: TypeAlias = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

logger = logging.getLogger(__name__)


class ProblemType(msgspec.Struct, frozen=True):
    """One kind of refusal. `retryable`: the same request may succeed later, unchanged."""

    slug: str
    status: int
    title: str
    retryable: bool = False

    @property
    def uri(self) -> str:
        """The stable identifier that clients compare."""
        return URN + self.slug


INVALID_REQUEST = ProblemType("invalid-request", 400, "The request is not well-formed")
INTERNAL = ProblemType("internal-error", 500, "The server failed", retryable=True)


class Problem(Exception):
    """A refusal. `members` are extensions of the body, such as `expected_seq`; `retry_after` is in seconds."""

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__(f"{kind.slug}: {detail}")
        self.kind, self.detail, self.retry_after = kind, detail, retry_after
        self.headers, self.members = dict(headers or {}), dict(members or {})

    def body(self, scope: Mapping[str, Any]) -> dict[str, Json]:
        """The problem details, with the request's id where the application gave it one (RFC 9457, 3)."""
        kind = self.kind
        body: dict[str, Json] = {
            "type": kind.uri,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "instance": scope.get("path", "/"),
            "retryable": kind.retryable,
            **self.members,
        }
        request_id = scope.get("request_id")
        if request_id is not None:
            body["request_id"] = request_id
        return body

    def response(self, request: Request) -> Response:
        """The HTTP answer."""
        kind, body = self.kind, self.body(request.scope)
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(msgspec.json.encode(body), kind.status, headers, MEDIA_TYPE)


def install_problems(app: FastAPI) -> None:
    """Answer every refusal of `app` as a problem: its own, the framework's, and what nobody expected (500)."""

    @app.exception_handler(Problem)
    async def own(request: Request, problem: Problem) -> Response:
        return problem.response(request)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors: list[Json] = [
            {"pointer": "/" + "/".join(map(str, item["loc"])), "code": item["type"], "detail": item["msg"]}
            for item in error.errors()
        ]
        first = error.errors()[0]
        said = f"{'.'.join(map(str, first['loc'][1:])) or 'the request'}: {first['msg']}"
        return Problem(INVALID_REQUEST, said, members={"errors": errors}).response(request)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        kind = ProblemType(status.phrase.lower().replace(" ", "-"), status, status.phrase)
        return Problem(kind, str(error.detail), headers=error.headers).response(request)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed: %r", request.method, request.url.path, error)
        return Problem(INTERNAL, "see the server's log under this request_id").response(request)
