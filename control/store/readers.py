"""Read-only connections to the store, one for each thread that asks."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from control.store.schema import open_reader


class Readers:
    """Hands each thread a connection of its own, opened when it first asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def connection(self) -> apsw.Connection:
        """This thread's connection. Keep no transaction open between calls."""
        found: apsw.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = open_reader(self._path)
        return found
