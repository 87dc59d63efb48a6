"""The two protocols on the gateway's sockets, where uvicorn's own would hurt a client.

HTTP/1.1 gets bounds where the parser has none: it keeps headers, chunk extensions and trailers of any size, and waits
for ever for their end, before anybody is asked for a token. WebSockets keep listening until the client has read why
they end.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

_TOO_MUCH = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_BODY = (
    b'{"type":"urn:stovetop:problem:headers-too-large","title":"The request\'s headers are too large","status":431,'
    b'"detail":"more than the limit of %d bytes; send less","limit":%d,"retryable":false}'
)


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose next headers (or trailers) grow over `max_headers_bytes` or take over
    `header_seconds`. What came in one read (256 KiB at most) is counted from the next on.
    """

    max_headers_bytes: ClassVar[int] = 32 << 10
    header_seconds: ClassVar[float] = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held = 0
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > self.max_headers_bytes + len(data):
            self._refuse()
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._held = 0
        if self._late is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._held = 0
        self._headers_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held = 0
        super().on_message_complete()

    def _await_headers(self) -> None:
        self._late = self.loop.call_later(self.header_seconds, self._give_up)

    def _headers_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = _BODY % (self.max_headers_bytes, self.max_headers_bytes)
            self.transport.write(_TOO_MUCH % (len(body), body))
        self.transport.close()


def bounded_http(max_headers_bytes: int, header_seconds: float) -> type[BoundedHttp]:
    """The protocol with these bounds, as uvicorn wants it: a class."""
    bounds = {"max_headers_bytes": max_headers_bytes, "header_seconds": header_seconds}
    return type("BoundedHttp", (BoundedHttp,), bounds)


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Waits at most `CLOSE_SECONDS` for the answer to a close frame, in a shutdown too: a connection that is closed on
    frames still unread is reset, and a reset takes the close frame from a client that had not read it yet.
    """

    CLOSE_SECONDS: ClassVar[float] = 2.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = self.CLOSE_SECONDS

    def shutdown(self) -> None:
        if self.close_timer is not None:
            return
        try:
            super().shutdown()
        except InvalidState:  # just being closed by its client
            self.transport.close()
