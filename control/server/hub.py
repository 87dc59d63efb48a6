"""Hands new events to watchers: one ring of the newest for all of them, and each keeps only its place.

A watcher that is behind the ring reads from the store until it has caught up, so memory does not depend on how many
watch or how slow they are, and nobody can miss an event or get one twice: a place is a sequence number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from control.protocol import Event
from control.store.rows import to_row, to_text


class Fresh(msgspec.Struct, frozen=True):
    """An event and its text, encoded once for all watchers."""

    event: Event
    text: str


class Hub:
    """The newest events. Used from the server's loop only."""

    def __init__(self, last: int, size: int) -> None:
        self._ring: deque[Fresh] = deque(maxlen=size)
        self._news = asyncio.Event()
        self.last = last
        self.listeners: list[Callable[[Event], None]] = []
        self.watchers = 0
        self.sent_away = 0

    def publish(self, events: Sequence[Event]) -> None:
        """Show events that were just stored, in order."""
        if not events:
            return
        self._ring.extend(Fresh(event, to_text(to_row(event))) for event in events)
        self.last = events[-1].seq
        for listener in self.listeners:
            for event in events:
                listener(event)
        self._news.set()
        self._news = asyncio.Event()

    def after(self, since: int) -> list[Fresh] | None:
        """Events above `since`; None where the ring no longer reaches back that far."""
        if since >= self.last:
            return []
        missing = self.last - since
        if missing > len(self._ring):
            return None
        return [self._ring[index] for index in range(len(self._ring) - missing, len(self._ring))]

    async def wait(self, since: int) -> None:
        """Return when there are events above `since`."""
        while since >= self.last:
            await self._news.wait()
