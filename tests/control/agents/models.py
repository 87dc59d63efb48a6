"""A chat server on loopback that says what a test wants: answers, nonsense, errors, or nothing at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Chat:
    """`says` is the text of each answer from now on; `status` its HTTP status; `hang` lets it wait until `release`."""

    def __init__(self) -> None:
        self.says, self.status, self.hang = '{"action": "Same", "explanation": "fine"}', 200, False
        self.release = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.url = ""


@contextmanager
def chat() -> Iterator[Chat]:
    """Runs one."""
    said = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **json.loads(body)})
            if said.hang:
                said.release.wait(30)
            answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": said.says}}]}).encode()
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    said.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield said
    finally:
        said.release.set()
        server.shutdown()
        server.server_close()
