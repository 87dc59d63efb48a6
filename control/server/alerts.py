"""Tells other places, by webhook, what should not wait until somebody looks at the dashboard.

Nothing waits for a hook: what is to be told lies in a queue of bounded length, is tried again a few times with growing
pauses, and is given up with a line in the record. One finding of one run is told once in a while, however often it comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx

from control.protocol import Event
from control.settings import AlertSettings

QUEUE = 256
"""Alerts that wait for one hook; over it the oldest go."""
REMEMBERED = 1024
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
ORDER = {"info": 0, "warning": 1, "error": 2}

Line: TypeAlias = Callable[[str, str], object]
"""Writes a line about a run into the record: run, message."""

logger = logging.getLogger(__name__)


class Alerts:
    """All hooks of one server. `notice` is called on the server's loop with every event, and returns at once."""

    def __init__(self, settings: tuple[AlertSettings, ...], line: Line, transport: Any = None) -> None:
        self._hooks = [Hook(each, line, transport) for each in settings]

    def notice(self, event: Event) -> None:
        """An event happened."""
        for hook in self._hooks:
            hook.notice(event)

    async def run(self) -> None:
        """Deliver, until cancelled."""
        await asyncio.gather(*(hook.run() for hook in self._hooks))


class Hook:
    """One address, and what waits for it."""

    def __init__(self, settings: AlertSettings, line: Line, transport: Any) -> None:
        self._settings, self._line, self._transport = settings, line, transport
        self._waiting: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._news = asyncio.Event()
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._place = urlsplit(settings.url.get_secret_value()).netloc.rpartition("@")[2]  # the rest may be a secret

    def notice(self, event: Event) -> None:
        """Queue the event, if it is one that this hook is for and that was not told lately."""
        if event.type not in self._settings.types or ORDER[event.level] < ORDER[self._settings.level]:
            return
        key = event.run, event.type.value, str(event.body.get("check") or event.body.get("status") or "")
        last = self._told.get(key)
        if last is not None and event.time - last < self._settings.quiet_seconds:
            return
        self._told[key] = event.time
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(_content(event))
        self._news.set()

    async def run(self) -> None:
        """Deliver what waits, one after the other."""
        async with httpx.AsyncClient(
            timeout=self._settings.timeout, trust_env=False, follow_redirects=False, transport=self._transport
        ) as client:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    await self._deliver(client, self._waiting.popleft())

    async def _deliver(self, client: httpx.AsyncClient, content: dict[str, Any]) -> None:
        pause, problem = FIRST_PAUSE, ""
        if self._dropped:
            content["dropped"], self._dropped = self._dropped, 0
        for attempt in range(self._settings.attempts):
            if attempt:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0) * self._settings.patience)
                pause = min(LONGEST_PAUSE, pause * 2)
            try:
                answer = await client.post(self._settings.url.get_secret_value(), json=content)
            except httpx.HTTPError as error:
                problem = type(error).__name__
                continue
            if answer.is_success:
                return
            problem = f"it answered {answer.status_code}"
            if answer.status_code < 500 and answer.status_code not in (408, 429):
                break  # it will not like it better the next time
        told = f"an alert ({content['check'] or content['type']}) could not be delivered to {self._place}: {problem}"
        logger.warning("%s", told)
        self._line(content["run"], told)


def _content(event: Event) -> dict[str, Any]:
    """What is posted: the event's facts, and the one line under the names by which chat services know it."""
    said = event.body.get("message") or event.body.get("reason") or event.body.get("status") or ""
    check = str(event.body.get("check") or event.body.get("status") or "")
    where = event.run + (f", step {event.step}" if event.step is not None else "")
    text = f"[{event.level}] {where}: {check + ': ' if check and check != said else ''}{said}"
    return {
        "run": event.run,
        "branch": event.branch,
        "step": event.step,
        "time": event.time,
        "level": event.level,
        "type": event.type.value,
        "check": check,
        "message": str(said),
        "seq": event.seq,
        "text": text,
        "content": text[:1900],
        "suggest": event.body.get("suggest") or [],
    }
