"""What an actor has said and the server has not yet stored: numbered, bounded, and kept until acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

import msgspec

from control.bodies import LogBody, body
from control.protocol import Event, EventType, Report, Reported, Said

LARGEST = 8 << 20
"""Bytes of one message, half of what the server takes."""

BULK = frozenset(
    {
        EventType.METRICS,
        EventType.PIPELINE,
        EventType.FOLLOWER,
        EventType.MIXTURE,
        EventType.HEALTH,
        EventType.LOG,
    }
)
"""Types whose oldest are given up first when the server stays away. Everything else is kept whatever happens."""

Item: TypeAlias = tuple[int, Event | Report]


class Dropped(msgspec.Struct, frozen=True):
    """How many events were given up, and between which steps."""

    count: int = 0
    first_step: int | None = None
    last_step: int | None = None


class Outbox:
    """Events and reports in the order of their numbers, safe to use from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._number = 0
        self._bulk: deque[Item] = deque()
        self._vital: deque[Item] = deque()
        self._dropped = Dropped()

    def add(self, item: Event | Report, *, keep: bool = False) -> int:
        """Number an item and keep it; over the limit, the oldest of the bulk goes, unless it is to be kept."""
        with self._lock:
            self._number += 1
            bulk = isinstance(item, Event) and item.type in BULK and not keep
            (self._bulk if bulk else self._vital).append((self._number, item))
            if len(self._bulk) > self._limit:
                self._drop()
            return self._number

    def after(self, number: int, limit: int) -> list[Item]:
        """The first `limit` items of a number above `number`, in order."""
        with self._lock:
            heads = [islice((item for item in queue if item[0] > number), limit) for queue in (self._bulk, self._vital)]
            return sorted((item for head in heads for item in head), key=lambda item: item[0])[:limit]

    def acknowledge(self, number: int) -> None:
        """Forget everything up to `number`: it is stored."""
        with self._lock:
            for queue in (self._bulk, self._vital):
                while queue and queue[0][0] <= number:
                    queue.popleft()

    def take_dropped(self) -> Dropped:
        """What was given up since this was asked last."""
        with self._lock:
            dropped, self._dropped = self._dropped, Dropped()
            return dropped

    def __len__(self) -> int:
        with self._lock:
            return len(self._bulk) + len(self._vital)

    def _drop(self) -> None:
        _, gone = self._bulk.popleft()
        step = gone.step
        was = self._dropped
        self._dropped = Dropped(
            was.count + 1,
            was.first_step if was.first_step is not None else step,
            step if step is not None else was.last_step,
        )


def packets(items: Sequence[Item]) -> list[str]:
    """The items as messages to send: neighbouring events together, each report alone, everything in order."""
    found: list[str] = []
    together: list[tuple[int, Event]] = []
    for number, item in items:
        if together and (isinstance(item, Report) or number != together[-1][0] + 1):
            found += _said(together)
            together = []
        if isinstance(item, Report):
            found.append(_reported(number, item))
        else:
            together.append((number, item))
    return found + _said(together) if together else found


def _said(events: Sequence[tuple[int, Event]]) -> list[str]:
    """One message, or several where one would be larger than the server takes."""
    text = Said(first=events[0][0], events=tuple(event for _, event in events)).model_dump_json()
    if len(text) <= LARGEST:
        return [text]
    if len(events) > 1:
        half = len(events) // 2
        return _said(events[:half]) + _said(events[half:])
    number, event = events[0]
    told = LogBody(message=f"an event of type {event.type.value} was left out: its {len(text)} bytes are too many")
    return _said([(number, event.model_copy(update={"type": EventType.LOG, "level": "error", "body": body(told)}))])


def _reported(number: int, report: Report) -> str:
    text = Reported(number=number, report=report).model_dump_json()
    if len(text) <= LARGEST:
        return text
    told = f"{report.reason[:1000]} (the values before and after were too large to send)"
    plain = report.model_copy(update={"before": None, "after": None, "reason": told})
    return Reported(number=number, report=plain).model_dump_json()
