"""Which sockets are open, so that they can be drained."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ingest.gateway.metrics import Metrics


class Drained(Protocol):
    """An open socket."""

    def drain(self) -> None: ...


class Sockets:
    """All open sockets of a gateway. Used in the event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._open: set[Drained] = set()
        self._metrics = metrics
        self._closed = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: Drained) -> None:
        """It is open."""
        self._open.add(socket)
        self._metrics.sockets.set(len(self._open))

    def remove(self, socket: Drained) -> None:
        """It is closed."""
        self._open.discard(socket)
        self._closed.set()
        self._metrics.sockets.set(len(self._open))

    async def drain(self, seconds: float) -> bool:
        """Ask all to end, and wait for it; False when some did not within `seconds`."""
        self.draining = True
        for socket in list(self._open):
            socket.drain()
        try:
            async with asyncio.timeout(seconds):
                while self._open:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            return False
        return True
