"""`WS /api/v1/actor`: the line to a trainer, a publisher or another process that takes commands."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from fastapi import APIRouter, WebSocket
from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from control.codes import CloseCode
from control.protocol import PROTOCOL, FromActor, Goodbye, Hello, Reported, Said, StateChanged, ToActor
from control.server.access import Keeper, admit
from control.server.desk import Desk
from control.server.roster import Link
from control.server.switchboard import Switchboard

HELLO_SECONDS = 10.0

MESSAGE: TypeAdapter[FromActor] = TypeAdapter(FromActor)

logger = logging.getLogger(__name__)


def actor_routes(switchboard: Switchboard, desk: Desk, operate: Keeper) -> APIRouter:
    """The actors' door."""
    router = APIRouter()

    @router.websocket("/api/v1/actor")
    async def actor(websocket: WebSocket) -> None:
        if await admit(websocket, operate) is None:
            return
        await websocket.accept()
        await ActorLoop(websocket, switchboard, desk).run()

    return router


class ActorLoop:
    """One connection: a task that sends what is posted, and the reading of what the actor says."""

    def __init__(self, websocket: WebSocket, switchboard: Switchboard, desk: Desk) -> None:
        self._websocket, self._switchboard, self._desk = websocket, switchboard, desk
        self._outbox: asyncio.Queue[ToActor] = asyncio.Queue()
        self._dismissed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._link = Link(
            lambda message: desk.tell(self._outbox.put_nowait, message), lambda reason: desk.tell(self._dismiss, reason)
        )

    async def run(self) -> None:
        """Serve the actor until either side ends it."""
        try:
            hello = MESSAGE.validate_json(await asyncio.wait_for(self._websocket.receive_text(), HELLO_SECONDS))
        except (ValidationError, TimeoutError, WebSocketDisconnect, KeyError) as error:
            await self._close(CloseCode.POLICY, f"expected a hello: {_short(error)}")
            return
        if not isinstance(hello, Hello):
            await self._close(CloseCode.POLICY, f"expected a hello, got {hello.type!r}")
            return
        if hello.protocol != PROTOCOL:
            await self._close(CloseCode.POLICY, f"protocol {hello.protocol} is not spoken here, only {PROTOCOL}")
            return
        await self._desk.do(self._switchboard.hello, hello, self._link)
        reason = "its connection was lost"
        tasks = [asyncio.ensure_future(task) for task in (self._send(), self._read(), self._until_dismissed())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            reason = next(iter(done)).result() or reason
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._desk.later(self._switchboard.gone, self._link, reason)

    async def _read(self) -> str:
        while True:
            try:
                text = await self._websocket.receive_text()
            except (WebSocketDisconnect, KeyError, RuntimeError):
                return ""
            try:
                message = MESSAGE.validate_json(text)
            except ValidationError as error:
                await self._close(CloseCode.POLICY, _short(error))
                return f"it said what nobody understands: {_short(error)}"
            if isinstance(message, Goodbye):
                await self._desk.do(self._switchboard.goodbye, self._link, message)
                return message.reason
            await self._desk.do(self._take, message)

    def _take(self, message: FromActor) -> None:
        seat = self._switchboard.roster.holding(self._link)
        if seat is None:
            return  # replaced a moment ago
        seat.heard = self._switchboard.journal.clock()
        if isinstance(message, Said):
            self._switchboard.said(seat, message)
        elif isinstance(message, Reported):
            self._switchboard.reported(seat, message)
        elif isinstance(message, StateChanged):
            self._switchboard.state_changed(seat, message)

    async def _send(self) -> str:
        while True:
            message = await self._outbox.get()
            try:
                await self._websocket.send_text(message.model_dump_json())
            except (WebSocketDisconnect, RuntimeError):
                return ""

    async def _until_dismissed(self) -> str:
        reason = await self._dismissed
        await self._close(CloseCode.REPLACED, reason)
        return reason

    def _dismiss(self, reason: str) -> None:
        if not self._dismissed.done():
            self._dismissed.set_result(reason)

    async def _close(self, code: CloseCode, reason: str) -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code, reason)


def _short(error: Exception) -> str:
    """A reason that fits into a close frame (123 bytes)."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        error_text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        error_text = str(error) or type(error).__name__
    return error_text.encode()[:100].decode(errors="ignore")
