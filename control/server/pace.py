"""How many commands one token may send in a minute."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from auth.problems import Problem, ProblemType

TOO_FAST = ProblemType("too-many-commands", 429, "Too many commands in a minute", retryable=True)
MINUTE = 60.0


class Pace:
    """A sliding minute for each token's name."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._sent: dict[str, deque[float]] = {}

    def step(self, name: str) -> None:
        """Count one command; raises Problem (429) with the seconds to wait when it is one too many."""
        now = self._clock()
        sent = self._sent.setdefault(name, deque())
        while sent and sent[0] <= now - MINUTE:
            sent.popleft()
        if len(sent) >= self._per_minute:
            wait = math.ceil(sent[0] + MINUTE - now)
            raise Problem(
                TOO_FAST,
                f"token {name!r} sent {len(sent)} commands within a minute, and {self._per_minute} are allowed",
                retry_after=max(1, wait),
            )
        sent.append(now)
