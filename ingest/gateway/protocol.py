"""The two protocols on the gateway's sockets, where uvicorn's own would hurt a client.

HTTP/1.1 gets bounds where the parser has none: it keeps headers, chunk extensions and trailers of any size, and waits
for ever for their end, before anybody is asked for a token. WebSockets keep listening until the client has read why
they end. A large body is received as a whole where it is wanted so (`WHOLE_BODY`): straight into its own memory, instead
of in pieces that pass through the parser and are put together later.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
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

WHOLE_BODY = "stovetop.whole_body"
"""The ASGI extension `(size) -> Receiving`, once a request: its body, which has `size` bytes, is received as a whole.

It may be asked for before `receive` only, and where Content-Length says the size.
"""


class Receiving(asyncio.BufferedProtocol):
    """Stands in for the HTTP protocol while a body of known size comes. `done` gives the body, or raises
    `ClientDisconnect` where the connection ends before.
    """

    def __init__(self, http: BoundedHttp, size: int, begun: bytearray) -> None:
        self._http, self._loop = http, http.loop
        self._body, self._filled = bytearray(size), len(begun)
        self._body[: len(begun)] = begun
        self.done: asyncio.Future[bytearray] = self._loop.create_future()
        self.moved = self._loop.time()
        """When the last bytes came, by the loop's clock."""

    @property
    def whole(self) -> bool:
        """Whether the last byte is there."""
        return self._filled == len(self._body)

    def finish(self) -> None:
        """Give the body to whoever waits for it."""
        if not self.done.done():
            self.done.set_result(self._body)

    def break_off(self) -> None:
        """No more will come."""
        if not self.done.done():
            self.done.set_exception(ClientDisconnect())
            self.done.exception()  # marks it as seen: it may be that nobody waits any more

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self.moved = self._loop.time()
        if self.whole:
            self._http.take_back()
            self.finish()

    def eof_received(self) -> None:
        self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)
        self.break_off()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()


def _hand_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """uvloop looks at the kind of its protocol when it begins to read."""
    transport.pause_reading()
    transport.set_protocol(protocol)
    transport.resume_reading()


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
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            extensions: Any = {WHOLE_BODY: partial(self._receive_whole, self.cycle)}
            self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held = 0
        super().on_message_complete()

    def take_back(self) -> None:
        """The body has come past the parser, so a new one looks out for the next request."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        _hand_over(self.transport, self)
        self.on_message_complete()

    def _receive_whole(self, cycle: RequestResponseCycle, size: int) -> Receiving:
        receiving = Receiving(self, size, cycle.body)
        cycle.body = bytearray()
        if cycle.disconnected:
            receiving.break_off()
        elif not cycle.more_body:
            receiving.finish()
        else:
            if cycle.waiting_for_100_continue:
                cycle.waiting_for_100_continue = False
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.flow.read_paused = False  # what it paused is resumed here
            _hand_over(self.transport, receiving)
        return receiving

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
