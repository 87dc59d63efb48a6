"""Token buckets: how much one key and one session may post over time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from auth.problems import Problem
from ingest.gateway.budget import Caller
from ingest.problems import RATE_LIMITED
from ingest.settings import RateSettings

MANY = 10_000
"""Buckets after which those that have filled up again are forgotten."""


class Buckets:
    """One bucket for each name, full at first. A request is let in while there is anything in it, and pays afterwards,
    for its size is not known before; so a bucket may be overdrawn by one request."""

    def __init__(self, per_second: float, burst_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._size = max(1.0, per_second * burst_seconds)
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}  # level, when

    def wait(self, name: str) -> float:
        """Seconds until there is something in the bucket; 0: now."""
        level = self._level(name)
        return 0.0 if level > 0 else max(0.001, -level / self.per_second)

    def pay(self, name: str, amount: float) -> None:
        """Take `amount` out."""
        if len(self._levels) >= MANY and name not in self._levels:
            self._levels = {each: self._levels[each] for each in self._levels if self._level(each) < self._size}
        self._levels[name] = (self._level(name) - amount, self._clock())

    def _level(self, name: str) -> float:
        level, when = self._levels.get(name, (self._size, 0.0))
        return min(self._size, level + (self._clock() - when) * self.per_second)


class Rates:
    """The buckets of requests and bytes, of keys and sessions."""

    def __init__(self, settings: RateSettings, clock: Callable[[], float] = time.monotonic) -> None:
        def buckets(per_second: float | None) -> Buckets | None:
            return None if per_second is None else Buckets(per_second, settings.burst_seconds, clock)

        self._requests = {"key": buckets(settings.key_requests), "session": buckets(settings.session_requests)}
        self._bytes = {"key": buckets(settings.key_bytes), "session": buckets(settings.session_bytes)}

    def enter(self, caller: Caller) -> None:
        """Let one request in, or refuse with 429 and the seconds to wait."""
        for what, kinds in (("requests", self._requests), ("bytes", self._bytes)):
            for kind, name, buckets in _applicable(kinds, caller):
                wait = buckets.wait(name)
                if wait > 0:
                    raise Problem(
                        RATE_LIMITED,
                        f"this {kind} posts more than {buckets.per_second:g} {what} a second",
                        retry_after=math.ceil(wait),
                        members={"limit": buckets.per_second},
                    )
        for _, name, buckets in _applicable(self._requests, caller):
            buckets.pay(name, 1)

    def delay(self, caller: Caller) -> float:
        """Seconds to wait before more is taken, for a door that slows down instead of refusing."""
        waits = [
            buckets.wait(name)
            for kinds in (self._requests, self._bytes)
            for _, name, buckets in _applicable(kinds, caller)
        ]
        for _, name, buckets in _applicable(self._requests, caller):
            buckets.pay(name, 1)
        return max(waits, default=0.0)

    def pay(self, caller: Caller, size: int) -> None:
        """Account for `size` bytes."""
        for _, name, buckets in _applicable(self._bytes, caller):
            buckets.pay(name, size)


def _applicable(kinds: dict[str, Buckets | None], caller: Caller) -> list[tuple[str, str, Buckets]]:
    names = {"key": caller.key, "session": caller.session_id}
    found: list[tuple[str, str, Buckets]] = []
    for kind, buckets in kinds.items():
        name = names[kind]
        if buckets is not None and name is not None:
            found.append((kind, name, buckets))
    return found
