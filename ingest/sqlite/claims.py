"""Claims in a SQLite file beside the log: the one table of this room that several processes write."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

_PATIENCE = 30_000
"""Milliseconds to wait for another process's claim, which takes a few."""


class SqliteClaims:
    """Implements `ingest.claims.Claims`. A file of its own, in rollback mode, as several processes write it.

    They take turns by a lock beside it, which lets nobody starve as SQLite's own waiting does, and falls with its holder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._turns = os.open(folder / "claims.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with self._turn():
            self._connection = apsw.Connection(str(folder / "claims.sqlite"))
            self._connection.set_busy_timeout(_PATIENCE)
            self._connection.transaction_mode = "IMMEDIATE"
            self._connection.pragma("synchronous", "EXTRA")  # the folder too, where the rollback journal vanishes
            self._connection.execute("CREATE TABLE IF NOT EXISTS claims (name TEXT PRIMARY KEY, value BLOB NOT NULL)")

    def claim(self, name: str, value: bytes) -> bytes:
        """See `Claims.claim`."""
        with self._lock, self._turn(), self._connection:
            self._connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (name, value))
            standing: bytes = self._connection.execute("SELECT value FROM claims WHERE name = ?", (name,)).get
        return standing

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        os.close(self._turns)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        fcntl.flock(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turns, fcntl.LOCK_UN)
