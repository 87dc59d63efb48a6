"""A log in memory that two gateways of one process divide among themselves, as they do one on Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ingest.errors import LogLocked
from ingest.log import partition_of
from ingest.memory import MemoryLog, MemoryWriter
from ingest.sharing import Alone

PARTITIONS = 4
SHARES = 2


class Dealt:
    """Implements `ingest.sharing.Sharing`: the first to join has share 0, the second share 1."""

    alone = False

    def __init__(self, number: int, addresses: dict[int, str]) -> None:
        self.mine = frozenset({number})
        self.release: Callable[[frozenset[int]], None] = lambda parts: None
        self._addresses, self._closed = addresses, threading.Event()

    def wait(self, timeout: float) -> bool:
        self._closed.wait(min(timeout, 0.05))
        return False

    def address_of(self, part: int) -> str | None:
        return None if part in self.mine else self._addresses.get(part)

    def close(self) -> None:
        self._closed.set()


class DealtLog(MemoryLog):
    """Two shares, each with every second partition."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.addresses: dict[int, str] = {}

    @property
    def shares(self) -> int:
        return SHARES

    def partitions_of(self, share: int) -> tuple[int, ...]:
        return tuple(range(share, PARTITIONS, SHARES))

    def join(self, name: str, address: str = "") -> Alone | Dealt:  # type: ignore[override]
        if name != "gateway":
            return super().join(name, address)
        number = len(self.addresses)
        self.addresses[number] = address
        return Dealt(number, self.addresses)

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> MemoryWriter:
        with self.changed:
            if f"{name}/{share}" in self.writing:
                raise LogLocked(f"{name}/{share} is open")
            self.writing.add(f"{name}/{share}")
        return MemoryWriter(self, name)


def share_of(session_id: str) -> int:
    return partition_of(session_id, PARTITIONS) % SHARES


def session_of_share(share: int, prefix: str) -> str:
    """An id of a session of that share."""
    return next(name for number in range(100) if share_of(name := f"{prefix}-{number:04d}") == share)
