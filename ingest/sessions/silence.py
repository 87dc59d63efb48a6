"""The clock by which silent sessions are ended: it stands still while the log takes nothing.

A visitor who comes again and again to a gateway that can take nothing is not silent. What was refused is not known to
the sessions, so it is the clock that waits: from the start of a commit that failed until clients had time to come
again, and while a slow one lasts.
"""

from __future__ import annotations

import time
from typing import NamedTuple

GRACE = 30.0
"""Seconds after the latest failure for which the clock still stands; clients are told to come again within that time."""


class _Stand(NamedTuple):
    """The latest time for which the clock stood, and the seconds that it had lost before."""

    since: float
    until: float
    lost: float


class SilenceClock:
    """Seconds in which clients could be heard, from an arbitrary start. One thread says `stand`; others may look."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._stand = _Stand(0.0, 0.0, 0.0)

    def now(self) -> float:
        """The time on this clock."""
        at, (since, until, lost) = time.monotonic(), self._stand
        return at - lost - (min(at, until) - since)

    def stand(self, since: float, grace: float | None = None) -> None:
        """Nothing was taken from `since` (of the monotonic clock) until now; `grace` is its own where none is given."""
        before, until = self._stand, time.monotonic() + (self._grace if grace is None else grace)
        if since <= before.until:
            self._stand = before._replace(until=max(until, before.until))
        else:
            self._stand = _Stand(since, until, before.lost + before.until - before.since)
