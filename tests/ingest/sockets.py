"""A WebSocket client for tests that speaks the gateway's protocol, and keeps to it only as far as it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ingest.gateway.frames import pack_frame
from tests.ingest.gateways import DEADLINE, INGEST, RunningGateway, step


class SocketClient:
    """One connection. `acked` and `credit` follow what the gateway says."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.acked, self.credit = -1, 0
        self.told: list[dict[str, Any]] = []

    def hello(self, **fields: Any) -> dict[str, Any]:
        """Introduce oneself; returns the welcome."""
        self.say(type="hello", **fields)
        return self.until("welcome")

    def say(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def send(self, seq: int, members: Mapping[str, bytes] | None = None, **fields: Any) -> int:
        """Send a step, whatever the credit; returns the bytes of its message."""
        return self.send_frame(pack_frame(seq, msgspec.json.encode(step(seq, **fields)), members))

    def send_frame(self, frame: bytes) -> int:
        self.credit -= len(frame)
        self.connection.send(frame)
        return len(frame)

    def next(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """The next message; raises `ConnectionClosed`."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout))
        self.told.append(message)
        match message["type"]:
            case "welcome":
                self.acked, self.credit = message["durable_through"], message["credit_bytes"]
            case "ack":
                self.acked = max(self.acked, message["durable_through"])
            case "credit":
                self.credit += message["bytes"]
        return message

    def until(self, kind: str) -> dict[str, Any]:
        """The next message of that kind."""
        while (message := self.next())["type"] != kind:
            pass
        return message

    def until_acked(self, seq: int) -> None:
        while self.acked < seq:
            self.next()

    def until_credit(self, size: int) -> None:
        while self.credit < size:
            self.next()

    def closed(self) -> tuple[int, str]:
        """Read to the end; returns the code and the reason with which the gateway closed."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise AssertionError("the connection broke off without a close") from closed
            return closed.rcvd.code, closed.rcvd.reason


def socket_url(url: str, session_id: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/v1/sessions/{session_id}/ws"


@contextmanager
def socket_to(
    gateway: RunningGateway, session_id: str, token: str | None = INGEST, **options: Any
) -> Iterator[SocketClient]:
    """A connection with its token in the headers (None: without)."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = socket_url(gateway.url, session_id)
    with connect(url, additional_headers=headers, max_size=None, compression=None, proxy=None, **options) as connection:
        yield SocketClient(connection)
