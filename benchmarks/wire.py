"""A line on which every byte is counted, between a client and a server of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Wire:
    """`url` is where the client goes; `sent` and `received` are bytes as the client sees them, headers included."""

    url: str
    sent: int = 0
    received: int = 0

    @property
    def total(self) -> int:
        """Both ways."""
        return self.sent + self.received


@contextmanager
def counted(target: str) -> Iterator[Wire]:
    """A line to `target` (`http://host:port`)."""
    parts = urlsplit(target)
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def carry(source: socket.socket, goal: socket.socket, outward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 18):
                if outward:
                    wire.sent += len(data)
                else:
                    wire.received += len(data)
                goal.sendall(data)
        for end in (source, goal):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((parts.hostname or "", parts.port or 80))
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield wire
    finally:
        listener.close()
