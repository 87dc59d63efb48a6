"""The hub's own door: manifests, deltas and pointers as a follower takes them, and a stream that tells of every move.

The stream is made of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `pointer` with
a signed pointer as JSON, at once with where the channel stands; and a comment every few seconds, so that a lost
connection shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from publish.directory import DirectoryHub
from publish.errors import VersionMissing
from publish.pointer import Pointer
from publish.server.doors import Doors
from publish.server.refusals import no_entry

logger = logging.getLogger(__name__)

LIVE = "/api/stovetop/v1"
PING_SECONDS = 5.0
LOOK_SECONDS = 0.5
"""Of one blocking look at a channel; the end of the server waits no longer."""


Pointers = AsyncGenerator[Pointer | None, None]


class Bell:
    """Rings whoever listens to a channel when it moves; it looks only while somebody listens."""

    def __init__(self, hub: DirectoryHub) -> None:
        self._hub = hub
        self._listeners: dict[str, set[asyncio.Queue[Pointer]]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def listen(self, channel: str) -> Pointers:
        """Where the channel stands, then every move; None every few seconds without one. A listener that is slow misses
        what was overtaken, never the latest."""
        queue: asyncio.Queue[Pointer] = asyncio.Queue(1)
        self._listeners.setdefault(channel, set()).add(queue)
        try:
            if channel not in self._looking:
                self._looking[channel] = asyncio.create_task(self._look(channel))
            elif (standing := await to_thread.run_sync(self._hub.channel, channel)) is not None:
                _offer(queue, standing)
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), PING_SECONDS)
                except TimeoutError:
                    yield None
        finally:
            self._listeners[channel].discard(queue)

    async def _look(self, channel: str) -> None:
        seen = -1
        try:
            while self._listeners[channel]:
                try:
                    found = await to_thread.run_sync(self._hub.watch, channel, seen, LOOK_SECONDS)
                except Exception as error:  # a hub may fail in any way; whoever listens must hear of it when it is back
                    logger.warning("channel %s cannot be watched now: %s", channel, error)
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                if found is not None:
                    seen = found.generation
                    for queue in self._listeners[channel]:
                        _offer(queue, found)
        finally:
            del self._looking[channel]


def _offer(queue: asyncio.Queue[Pointer], pointer: Pointer) -> None:
    with suppress(asyncio.QueueEmpty):
        queue.get_nowait()
    queue.put_nowait(pointer)


def live_routes(doors: Doors, stopping: asyncio.Event) -> APIRouter:
    """`/api/stovetop/v1/…`. `stopping` ends the streams, which would otherwise outlive the server."""
    router = APIRouter(prefix=LIVE, dependencies=[Depends(doors.read)])
    hub, bell = doors.hub, Bell(doors.hub)

    @router.get("/versions")
    def versions() -> Response:
        return _json({"numbers": hub.numbers(), "versions": hub.versions()})

    @router.get("/versions/{version}/manifest")
    def manifest(version: int) -> Response:
        try:
            return Response(hub.manifest(version), media_type="application/json")
        except VersionMissing as error:
            raise no_entry(doors.own, f"version {version:06d}") from error

    @router.get("/versions/{version}/files/{path:path}")
    def file(version: int, path: str) -> Response:
        try:
            return FileResponse(hub.path(version, path), media_type="application/octet-stream")
        except FileNotFoundError as error:
            raise no_entry(doors.own, path) from error

    @router.get("/versions/{version}/delta")
    def delta(version: int) -> Response:
        try:
            return FileResponse(hub.delta_path(version), media_type="application/octet-stream")
        except FileNotFoundError as error:
            raise no_entry(doors.own, f"the delta of version {version:06d}") from error

    @router.get("/channels/{channel}")
    def channel(channel: str) -> Response:
        found = hub.channel(channel)
        if found is None:
            raise no_entry(doors.own, f"channel {channel}")
        return _json(found)

    @router.get("/channels/{channel}/events")
    async def events(request: Request, channel: str) -> Response:
        await to_thread.run_sync(hub.channel, channel)  # refuses a name that is none, and a hub that is away

        async def told() -> AsyncIterator[bytes]:
            yield b": following\n\n"
            async for pointer in _until(bell.listen(channel), stopping):
                if pointer is None:
                    yield b": still here\n\n"
                else:
                    stored = msgspec.json.encode(pointer, order="sorted")
                    yield b"event: pointer\nid: %d\ndata: %s\n\n" % (pointer.generation, stored)

        return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return router


async def _until(pointers: Pointers, stopping: asyncio.Event) -> Pointers:
    """The same, to the end of the server; whoever listens stops listening, however this ends."""
    ends = asyncio.create_task(stopping.wait())
    following: asyncio.Task[Pointer | None] | None = None
    try:
        while not ends.done():
            following = asyncio.ensure_future(anext(pointers))
            await asyncio.wait({ends, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                yield following.result()
    finally:
        ends.cancel()
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await following
        await pointers.aclose()


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value, order="sorted"), media_type="application/json")
