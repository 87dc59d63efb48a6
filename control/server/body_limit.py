"""Refuses request bodies that are too large, before they are in memory."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.problems import Problem, ProblemType

TOO_LARGE = ProblemType("body-too-large", 413, "The request body is too large")


class BodyLimit:
    """ASGI middleware: 413 by `Content-Length`, or once more than `limit` bytes came without one."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        announced = connection.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > self._limit:
            problem = Problem(TOO_LARGE, f"{announced} bytes were sent, and {self._limit} are allowed")
            await problem.response(connection)(scope, receive, send)  # type: ignore[arg-type]
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._limit:
                raise Problem(TOO_LARGE, "")  # ends the reading, whatever the framework makes of it
            return message

        async def answer(message: Message) -> None:
            if came <= self._limit:
                await send(message)
            elif message["type"] == "http.response.start":
                problem = Problem(TOO_LARGE, f"more than {self._limit} bytes were sent")
                await problem.response(connection)(scope, receive, send)  # type: ignore[arg-type]

        await self._app(scope, counted, answer)
