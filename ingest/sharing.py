"""Who does which part of the work, where several processes divide it among themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

RELEASE_SECONDS = 10.0
"""For so long parts that go to others are waited for; after that their locks decide."""


class Sharing(Protocol):
    """A membership among those who do the same work. What is dealt out is advice; locks decide.

    `release(parts)` may be set: it is called, from another thread, before parts go to others, and should return when
    they were let go.
    """

    release: Callable[[frozenset[int]], None]

    @property
    def alone(self) -> bool:
        """Whether nobody else can do this work: whoever meets a lock then has met a mistake."""
        ...

    @property
    def mine(self) -> frozenset[int]:
        """The parts that are this member's now."""
        ...

    def wait(self, timeout: float) -> bool:
        """Until the parts change, at most `timeout` seconds; whether they did."""
        ...

    def address_of(self, part: int) -> str | None:
        """The address that the member told to whom a part belongs, if there is one."""
        ...

    def close(self) -> None:
        """Leave; the parts go to others."""
        ...


class Alone:
    """Implements `Sharing` for a log with one writer of each name: all parts, always."""

    alone = True

    def __init__(self, parts: int) -> None:
        self.mine = frozenset(range(parts))
        self.release: Callable[[frozenset[int]], None] = _nothing
        self._closed = threading.Event()

    def wait(self, timeout: float) -> bool:
        """See `Sharing.wait`: they never do."""
        self._closed.wait(timeout)
        return False

    def address_of(self, part: int) -> str | None:
        """See `Sharing.address_of`."""
        return None

    def close(self) -> None:
        """See `Sharing.close`."""
        self._closed.set()


def await_released(held: Callable[[], frozenset[int]], parts: frozenset[int], seconds: float = RELEASE_SECONDS) -> None:
    """Return when none of `parts` is held any more, at most after `seconds`."""
    deadline = time.monotonic() + seconds
    while held() & parts and time.monotonic() < deadline:
        time.sleep(0.01)


def _nothing(parts: frozenset[int]) -> None:
    return None
