"""Lets those who sent a command wait for what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib

from anyio import to_thread

from control.api import CommandRecord
from control.protocol import Event, EventType
from control.server.hub import Hub
from control.store import commands as stored
from control.store.readers import Readers


class Outcomes:
    """Watches the events for outcomes. Used from the server's loop only."""

    def __init__(self, hub: Hub, readers: Readers) -> None:
        self._readers = readers
        self._waiting: dict[str, set[asyncio.Future[CommandRecord]]] = {}
        hub.listeners.append(self._notice)

    async def of(self, uuid: str, seconds: float) -> CommandRecord | None:
        """The command of that uuid, once it has an outcome or `seconds` have passed; None where there is none."""
        future: asyncio.Future[CommandRecord] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(uuid, set())
        waiting.add(future)  # before the look into the store, so that nothing falls between the two
        try:
            record = await self._look(uuid)
            if record is None or record.outcome is not None or seconds <= 0:
                return record
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await future
            return await self._look(uuid)
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(uuid) is waiting:
                del self._waiting[uuid]

    async def _look(self, uuid: str) -> CommandRecord | None:
        return await to_thread.run_sync(lambda: stored.by_uuid(self._readers.connection(), uuid))

    def _notice(self, event: Event) -> None:
        if event.type is not EventType.COMMAND or event.body.get("outcome") is None:
            return
        for future in self._waiting.get(str(event.body["uuid"]), set()):
            if not future.done():
                future.set_result(CommandRecord.model_validate(event.body))
