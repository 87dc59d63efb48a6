"""A socket about a session that another gateway has is joined to one of that gateway, so that any may be asked.

Messages are handed on one at a time, so what the next one does not take yet waits at the client; credit and
acknowledgements are between the client and the gateway that has the session.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from auth.problems import Problem
from ingest.gateway.forwarding import HOP
from ingest.problems import RETRY_AFTER, UNAVAILABLE

HANDED_ON = ("authorization", "origin", "traceparent", "x-request-id", "prefer")
SECONDS = 10.0
DRAINING = (1001, "the gateway is shutting down; go on from a new connection")

logger = logging.getLogger(__name__)


class Relay:
    """Two sockets, of which each is told what the other says."""

    def __init__(self, websocket: WebSocket, max_size: int) -> None:
        self._websocket, self._max_size = websocket, max_size
        self._task: asyncio.Task[None] | None = None
        self._ending = (1011, "the other gateway went away")

    def drain(self) -> None:
        """End both; the client goes on elsewhere."""
        self._ending = DRAINING
        if self._task is not None:
            self._task.cancel()

    async def run(self, address: str) -> None:
        """Join the client to the gateway at `address`, until one of them has enough. Raises `Problem` at first."""
        headers = {name: value for name, value in self._websocket.headers.items() if name in HANDED_ON}
        offered = [Subprotocol(each) for each in self._websocket.scope.get("subprotocols", [])]
        url = f"{address.replace('http', 'ws', 1)}{self._websocket.url.path}"
        try:
            other = await connect(
                url,
                additional_headers={**headers, HOP: "1"},
                subprotocols=offered or None,
                compression=None,
                proxy=None,
                max_size=self._max_size,
                open_timeout=SECONDS,
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            said = f"answers {error.response.status_code}" if isinstance(error, InvalidStatus) else "does not answer"
            logger.warning("the gateway at %s %s: %r", address, said, error)
            raise Problem(UNAVAILABLE, f"the gateway that has the session {said}", retry_after=RETRY_AFTER) from None
        await self._websocket.accept(other.subprotocol)
        await self._join(other)

    async def _join(self, other: ClientConnection) -> None:
        down = self._task = asyncio.create_task(self._down(other))
        up = asyncio.create_task(self._up(other, down))
        await asyncio.wait({up, down}, return_when=asyncio.ALL_COMPLETED)
        code, reason = self._ending
        await other.close(1001 if self._ending is DRAINING else 1000)
        try:
            await self._websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("the client was gone before")

    async def _up(self, other: ClientConnection, down: asyncio.Task[None]) -> None:
        """From the client."""
        receiving = asyncio.ensure_future(self._websocket.receive())
        try:
            while True:
                await asyncio.wait({receiving, down}, return_when=asyncio.FIRST_COMPLETED)
                if down.done() or receiving.result()["type"] == "websocket.disconnect":
                    return
                message = receiving.result()
                data = message.get("bytes")
                await other.send(message.get("text") or "" if data is None else data)
                receiving = asyncio.ensure_future(self._websocket.receive())
        except ConnectionClosed:
            return
        finally:
            receiving.cancel()
            if not down.done():
                await other.close()  # what was acknowledged meanwhile, the client asks for on its next connection

    async def _down(self, other: ClientConnection) -> None:
        """To the client."""
        try:
            while True:
                message = await other.recv()
                if isinstance(message, str):
                    await self._websocket.send_text(message)
                else:
                    await self._websocket.send_bytes(message)
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                self._ending = (closed.rcvd.code, closed.rcvd.reason)
        except (WebSocketDisconnect, RuntimeError):
            return
