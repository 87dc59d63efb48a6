"""A log in memory that two gateways of one process divide among themselves, as they do one on Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from ingest.errors import LogLocked
from ingest.log import Append, partition_of
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
        return DealtWriter(self, name, share)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for share in range(SHARES):
            found |= stripped(super().writer_state(name, f"{share}:{prefix}"))
        return found


class DealtWriter(MemoryWriter):
    """Has a state for each share, as on Kafka."""

    def __init__(self, log: MemoryLog, name: str, share: int) -> None:
        super().__init__(log, name)
        self._share = share

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        return super().commit(appends, {f"{self._share}:{key}": value for key, value in (state or {}).items()})

    def state(self, prefix: str = "") -> dict[str, bytes]:
        return stripped(MemoryLog.writer_state(self.log, self._name, f"{self._share}:{prefix}"))


def stripped(state: Mapping[str, bytes]) -> dict[str, bytes]:
    """The state without its share's number."""
    return {key.partition(":")[2]: value for key, value in state.items()}


def share_of(session_id: str) -> int:
    return partition_of(session_id, PARTITIONS) % SHARES


def session_of_share(share: int, prefix: str) -> str:
    """An id of a session of that share."""
    return next(name for number in range(100) if share_of(name := f"{prefix}-{number:04d}") == share)
