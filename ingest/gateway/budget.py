"""A byte budget with shares: of everybody, of one key, of one session. What is over it is refused, never queued."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from auth.problems import Problem, ProblemType
from ingest.problems import BACKPRESSURE, QUOTA_EXCEEDED, RETRY_AFTER


class Caller(NamedTuple):
    """For whom bytes are taken: the name of the key, and the session if it is known."""

    key: str
    session_id: str | None = None


NOBODY = Caller("")
"""Where it is nobody's in particular."""


class Budget:
    """Bytes in flight. Used in the event loop only; `changed(used)` is told of every change."""

    def __init__(
        self,
        total: int,
        key: int | None = None,
        session: int | None = None,
        changed: Callable[[int], None] = lambda used: None,
    ) -> None:
        self._total, self._changed = total, changed
        self._limits = {"key": key, "session": session}
        self._shares: dict[tuple[str, str], int] = {}
        self._used = 0
        self._freed = asyncio.Event()

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        return self._used

    @property
    def left(self) -> int:
        """Bytes that are not."""
        return self._total - self._used

    def take(self, size: int, caller: Caller) -> None:
        """Take `size` bytes; raises 503 `backpressure`, or 429 `quota-exceeded` where it is the caller's own share."""
        if self._used + size > self._total:
            raise _refused(BACKPRESSURE, "bytes", self._used, size, self._total)
        owners = self._owners(caller)
        for kind, name in owners:
            limit, used = self._limits[kind], self._shares.get((kind, name), 0)
            if limit is not None and used + size > limit:
                raise _refused(QUOTA_EXCEEDED, f"bytes of this {kind}", used, size, limit)
        for owner in owners:
            self._shares[owner] = self._shares.get(owner, 0) + size
        self._used += size
        self._changed(self._used)

    def give(self, size: int, caller: Caller) -> None:
        """Give bytes back."""
        for owner in self._owners(caller):
            left = self._shares.get(owner, 0) - size
            if left > 0:
                self._shares[owner] = left
            else:
                self._shares.pop(owner, None)
        self._used -= size
        self._changed(self._used)
        self._freed.set()

    async def wait_and_take(self, size: int, caller: Caller) -> None:
        """Take `size` bytes as soon as there is room for them."""
        while True:
            try:
                self.take(size, caller)
                return
            except Problem:
                self._freed.clear()
                await self._freed.wait()

    def _owners(self, caller: Caller) -> list[tuple[str, str]]:
        owners = [("key", caller.key)] if self._limits["key"] is not None else []
        if self._limits["session"] is not None and caller.session_id is not None:
            owners.append(("session", caller.session_id))
        return owners


def _refused(kind: ProblemType, what: str, used: int, size: int, limit: int) -> Problem:
    detail = f"{used} {what} wait for the disk, and {size} more exceed {limit}"
    return Problem(kind, detail, retry_after=RETRY_AFTER, members={"limit": limit, "actual": used + size})
