"""Posts whole sessions over HTTP, several at a time: opens each, appends its steps with a frame each, and ends it.

    python -m benchmarks.visitors GATEWAY TOKEN SESSIONS STEPS FRAME_BYTES

For `benchmarks.fortnight`. Prints one JSON object: the steps that were acknowledged, and how long that took.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ingest.ustar import Member, archive

SEATS = 16
TOGETHER = 32
"""Steps in a request."""
PATIENCE = 60.0
"""Seconds for which a gateway that answers 429 or 503 is asked again."""


def main() -> None:
    """Run it once."""
    gateway, token, sessions, steps, frame_bytes = sys.argv[1:]
    crowd = Crowd(gateway, token, lengths(int(sessions), int(steps)), int(frame_bytes))
    began = time.perf_counter()
    crowd.run()
    print(json.dumps({"steps": crowd.acked, "seconds": time.perf_counter() - began}))


def lengths(sessions: int, steps: int) -> list[int]:
    """How many steps each session has: as even as can be."""
    return [steps // sessions + (number < steps % sessions) for number in range(sessions)]


class Crowd:
    """So many visitors at a time as there are seats, each with one session after the other."""

    def __init__(self, gateway: str, token: str, sessions: Sequence[int], frame_bytes: int) -> None:
        self.acked = 0
        self._address = urlsplit(gateway).netloc
        self._headers = {"Authorization": f"Bearer {token}"}
        self._left, self._lock = list(enumerate(sessions)), threading.Lock()
        self._frame = random.Random(0).randbytes(frame_bytes)  # as frames are: nothing is gained by compressing it
        self._failed: list[BaseException] = []

    def run(self) -> None:
        """Post everything. Raises what a seat met first."""
        seats = [threading.Thread(target=self._sit) for _ in range(SEATS)]
        for seat in seats:
            seat.start()
        for seat in seats:
            seat.join()
        if self._failed:
            raise self._failed[0]

    def _sit(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        try:
            while not self._failed and (visit := self._next()) is not None:
                self._visit(connection, *visit)
        except BaseException as error:
            self._failed.append(error)
        finally:
            connection.close()

    def _next(self) -> tuple[int, int] | None:
        with self._lock:
            return self._left.pop() if self._left else None

    def _visit(self, connection: http.client.HTTPConnection, number: int, steps: int) -> None:
        name = f"visit-{number:04d}"
        self._ask(connection, "POST", "/v1/sessions", json.dumps({"app": "fortnight", "session_id": name}).encode())
        for first in range(0, steps, TOGETHER):
            end = min(first + TOGETHER, steps)
            headers = {"Content-Type": "application/x-tar", "Ingest-First-Seq": str(first)}
            self._ask(connection, "POST", f"/v1/sessions/{name}/steps", self._body(first, end), **headers)
            with self._lock:
                self.acked += end - first
        self._ask(connection, "POST", f"/v1/sessions/{name}/end", json.dumps({"next_seq": steps}).encode())

    def _body(self, first: int, end: int) -> bytes:
        members: list[Member] = []
        for seq in range(first, end):
            inputs = {"x": seq % 512, "y": seq % 384, "is_left_click": seq % 9 == 0, "keys_down": [], "keys_up": []}
            step = {"seq": seq, "time": 1_763_800_000.0 + seq / 15, "inputs": inputs, "is_reset": False}
            members += [Member(f"{seq:06d}.json", json.dumps(step).encode()), Member(f"{seq:06d}.png", self._frame)]
        return archive(members)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, **headers: str
    ) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            connection.request(method, path, body, {"Content-Type": "application/json", **self._headers, **headers})
            reply = connection.getresponse()
            content = reply.read()
            if reply.status < 300:
                found: dict[str, Any] = json.loads(content)
                return found
            if reply.status not in (429, 503) or time.monotonic() > deadline:
                raise SystemExit(f"{method} {path}: {reply.status} {content[:300]!r}")
            time.sleep(float(reply.headers.get("Retry-After", "1")))


if __name__ == "__main__":
    main()
