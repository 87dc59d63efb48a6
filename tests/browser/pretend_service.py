"""The parts around a trainer that trains nothing: they report as a gateway, a pipeline and a supervisor do."""

from __future__ import annotations

import threading
import time
from typing import Any

from control import ControlClient, EventType
from control.api import ReportedEvent
from control.bodies import FollowerBody, body

EVERY = 0.5


class PretendService:
    """Reports twice a second until it is closed. `roles` changes what its supervisor says of a role."""

    def __init__(self, client: ControlClient, run: str, version: int | None = None) -> None:
        self.roles: dict[str, dict[str, Any]] = {}
        self.version = version
        self._client, self._run, self._steps = client, run, 0
        self._over = threading.Event()
        self._tell()
        self._thread = threading.Thread(target=self._live, name="pretend service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Fall silent."""
        self._over.set()
        self._thread.join(5)

    def _live(self) -> None:
        while not self._over.wait(EVERY):
            self._tell()

    def _tell(self) -> None:
        now = time.time()
        self._steps += 6
        usual = {"state": "running", "pid": 4242, "status": None, "since": now - 600, "again_at": None}
        roles = {
            name: {**usual, "log": f"data/logs/{name}.log", **self.roles.get(name, {})}
            for name in ("gateway", "pipeline", "control", "publish")
        }
        told: list[dict[str, Any]] = [
            {"component": "supervisor", "roles": roles},
            {"component": "log", "kind": "SQLite", "end": self._steps + 2},
            {"component": "annotator", "samples": self._steps - 1, "lag_seconds": 0.34, "dead": 1},
            {"component": "archiver", "entries": self._steps // 2, "lag_seconds": 8.2, "shards": 14, "heard_at": now},
        ]
        if roles["gateway"]["state"] == "running":
            told.append({"component": "gateway", "steps": self._steps, "open_sessions": 23, "unready": None})
        events = [ReportedEvent(run=self._run, type=EventType.PIPELINE, body=each) for each in told]
        content = FollowerBody(follower="demo-app", version=self.version, loaded_at=now)
        events.append(ReportedEvent(run=self._run, type=EventType.FOLLOWER, body=body(content)))
        self._client.report(*events)
