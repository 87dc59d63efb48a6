"""The document that the dashboard's types are made of."""

from __future__ import annotations

import json
import subprocess
import sys

from control.openapi import document
from tests.control.servers import ROOT


def test_it_is_printed_without_a_server() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control.openapi"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(document()))


def test_every_answer_has_a_model_and_sockets_are_described_too() -> None:
    found = document()
    paths, components = found["paths"], found["components"]
    assert isinstance(paths, dict)
    assert isinstance(components, dict)
    for path, methods in paths.items():
        for method, operation in methods.items():
            if path == "/metrics":
                continue
            for status, answer in operation["responses"].items():
                if status.startswith("2"):
                    kind = "image/png" if path.startswith("/api/v1/samples/") else "application/json"
                    assert answer["content"][kind]["schema"], f"{method} {path}"
    assert {"WatchWelcome", "WatchEvents", "Event", "RunDetail", "CommandRecord"} <= set(components["schemas"])
