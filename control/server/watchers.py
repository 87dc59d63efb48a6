"""`WS /api/v1/events`: what happens, as it happens, and from any number on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from control.api import WatchWelcome
from control.codes import CloseCode
from control.protocol import EventType
from control.server.access import SUBPROTOCOL, Keeper, admit
from control.server.hub import Fresh, Hub
from control.settings import ControlSettings
from control.store import EventFilter, events
from control.store.readers import Readers
from control.store.rows import to_event, to_text

PAGE = 500
FRAME_BYTES = 256 << 10
"""Events sent at a time: at most PAGE, and about this many bytes, so that a watcher that takes nothing holds little."""


class Tail:
    """Events from a place on, in batches without end: from the store until it has caught up, then from the hub."""

    def __init__(self, hub: Hub, readers: Readers, since: int, wanted: EventFilter) -> None:
        self._hub, self._readers, self._wanted = hub, readers, wanted
        self.place = since

    async def batches(self) -> AsyncIterator[Sequence[Fresh]]:
        """Wanted events in order, at most PAGE at a time; `place` is past each batch when it is yielded."""
        while True:
            await self._hub.wait(self.place)
            fresh = self._hub.after(self.place)
            if fresh is None:
                batch = await to_thread.run_sync(self._read_back)
            else:
                batch = self._take(fresh)
            if batch:
                yield batch

    def _take(self, fresh: Sequence[Fresh]) -> Sequence[Fresh]:
        batch, size = list[Fresh](), 0
        for item in fresh[:PAGE]:
            if self._wanted.admits(item.event):
                if batch and size + len(item.text) > FRAME_BYTES:
                    break
                batch.append(item)
                size += len(item.text)
            self.place = item.event.seq
        return batch

    def _read_back(self) -> Sequence[Fresh]:
        found = events.after(self._readers.connection(), self.place, self._wanted, PAGE, FRAME_BYTES)
        self.place = found.last
        return [Fresh(to_event(row), to_text(row)) for row in found.rows]


class WatchLoop:
    """One watcher: a task that sends, and one that notices the close; whichever ends first ends the other."""

    def __init__(self, websocket: WebSocket, hub: Hub, stall: float) -> None:
        self._websocket, self._hub, self._stall = websocket, hub, stall

    async def run(self, texts: AsyncIterator[str]) -> None:
        """Send `texts` until they end, the watcher goes, or it takes nothing for the allowed time."""
        self._hub.watchers += 1
        tasks = [asyncio.ensure_future(self._send(texts)), asyncio.ensure_future(self._listen())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.watchers -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, texts: AsyncIterator[str]) -> None:
        async for text in texts:
            try:
                async with asyncio.timeout(self._stall):
                    await self._websocket.send_text(text)
            except TimeoutError:
                self._hub.sent_away += 1
                # The close frame waits behind what the watcher has not taken: give it as long again to get there.
                with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                    async with asyncio.timeout(self._stall):
                        await self._websocket.close(CloseCode.TRY_AGAIN, "too slow; connect again with `since`")
                return
            except (RuntimeError, WebSocketDisconnect):
                return

    async def _listen(self) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            while (await self._websocket.receive())["type"] != "websocket.disconnect":
                pass  # watchers have nothing to say


def watcher_routes(hub: Hub, readers: Readers, store_name: str, settings: ControlSettings, read: Keeper) -> APIRouter:
    """The watchers' door."""
    router = APIRouter()

    @router.websocket("/api/v1/events")
    async def watch(
        websocket: WebSocket,
        since: Annotated[int | None, Query(ge=0)] = None,
        run: str | None = None,
        type: Annotated[list[EventType] | None, Query()] = None,
    ) -> None:
        if await admit(websocket, read) is None:
            return
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", []) else None)
        last = hub.last
        place = last if since is None else min(since, last)
        first = await to_thread.run_sync(lambda: events.first_kept(readers.connection()))
        tail = Tail(hub, readers, place, EventFilter(run=run, types=tuple(type or ())))

        async def texts() -> AsyncIterator[str]:
            yield WatchWelcome(store=store_name, first=first, last=last).model_dump_json()
            async for batch in tail.batches():
                yield f'{{"type":"events","last":{tail.place},"events":[{",".join(item.text for item in batch)}]}}'

        await WatchLoop(websocket, hub, settings.client_stall).run(texts())

    return router
