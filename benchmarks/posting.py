"""Posts scripted visitors' steps at a steady rate, one request a step, and notes when each was acknowledged."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from examples.desktop.scripted import visitor_session
from examples.desktop.world import World


@dataclass(frozen=True)
class Posted:
    """One step: when it was sent and when the gateway said that it is durable, in Unix seconds."""

    key: str
    sent: float
    acked: float


@dataclass
class Posters:
    """So many visitors that together post `rate` steps a second until told to stop. Use it as a context manager."""

    url: str
    token: str
    rate: float
    seats: int = 8
    seed: int = 0
    posted: list[Posted] = field(default_factory=list)

    def __enter__(self) -> Posters:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._sit, args=(seat,), daemon=True) for seat in range(self.seats)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)

    def _sit(self, seat: int) -> None:
        rng = random.Random(f"posting/{self.seed}/{seat}")
        headers = {"Authorization": f"Bearer {self.token}"}
        pause = self.seats / self.rate
        due = time.monotonic() + rng.random() * pause
        with httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False) as http:
            while not self._stop.is_set():
                session = http.post("/v1/sessions", json={"app": "desktop"}).raise_for_status().json()["session_id"]
                for seq, inputs in enumerate(_visit(rng)):
                    due = max(due + pause, time.monotonic() - 1.0)
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        return
                    self._post(http, session, seq, inputs)
                http.post(f"/v1/sessions/{session}/end", json={}).raise_for_status()

    def _post(self, http: httpx.Client, session: str, seq: int, inputs: dict[str, object]) -> None:
        sent = time.time()
        line = json.dumps({"seq": seq, "time": sent, "inputs": inputs}) + "\n"
        headers = {"Ingest-First-Seq": str(seq), "Content-Type": "application/x-ndjson"}
        http.post(f"/v1/sessions/{session}/steps", content=line, headers=headers).raise_for_status()
        self.posted.append(Posted(f"{session}/{seq:06d}-00", sent, time.time()))


def _visit(rng: random.Random) -> Iterator[dict[str, object]]:
    world = World()
    for inputs in visitor_session(world, rng):
        world.step(inputs)
        yield inputs.wire()
