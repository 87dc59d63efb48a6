"""A proxy between a client and a hub that lets some requests fail, as lines and services do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LINE_ONLY = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Fault:
    """What happens to a request: it is answered with `status` (None: the connection ends) before it reaches the hub, or,
    `after`, instead of the hub's answer."""

    status: int | None = None
    after: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


Choose = Callable[[str, str], Fault | None]
Change = Callable[[str, str, bytes], bytes]


@dataclass
class Proxy:
    """`choose` is asked with method and path; `seen` are the requests so far. `change` makes of a request's body the one
    that the hub gets."""

    url: str
    choose: Choose = lambda method, path: None
    change: Change = lambda method, path, body: body
    seen: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0

    def once(self, method: str, part: str, fault: Fault, times: int = 1) -> None:
        """Let the next requests whose path holds `part` fail."""
        left = [times]

        def choose(asked: str, path: str) -> Fault | None:
            if left[0] and asked == method and part in path:
                left[0] -= 1
                return fault
            return None

        self.choose = choose


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """A proxy before `target` (`http://host:port`)."""
    parts = urlsplit(target)
    assert parts.hostname is not None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._body()
            proxy.seen.append((self.command, self.path))
            proxy.sent += len(body)
            fault = proxy.choose(self.command, self.path)
            if fault is not None and not fault.after:
                self._fail(fault)
                return
            body = proxy.change(self.command, self.path, body)
            line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
            line.request(
                self.command,
                self.path,
                body,
                {key: value for key, value in self.headers.items() if key.lower() not in LINE_ONLY},
            )
            answer = line.getresponse()
            data = answer.read()
            line.close()
            if fault is not None:
                self._fail(fault)
                return
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self._answer(answer.status, answer.getheaders(), data, length)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815

        def _fail(self, fault: Fault) -> None:
            if fault.status is None:
                self.close_connection = True
                self.connection.close()
                return
            self._answer(fault.status, list(fault.headers.items()), b"", "0")

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, length: str | None) -> None:
            self.send_response(status)
            for key, value in headers:
                if key.lower() not in {*LINE_ONLY, "date", "server"}:
                    self.send_header(key, value)
            if length is not None:
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                data = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def log_message(self, *arguments: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError):  # a client was killed, or a line was cut on purpose
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    running.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        running.join(5)
