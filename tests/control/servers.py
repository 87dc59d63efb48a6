"""Servers to test against, in a thread or as a process to be killed, and ways to wait for what must become true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from auth.tokens import Scope, TokenStore
from control import ControlClient, ControlSettings
from control.server import ControlThread

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"

HTTP = httpx.Client(trust_env=False, timeout=30)
"""For plain requests; making one each time would read all certificates each time."""


class Tokens:
    """A token of each scope."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = TokenStore(path)
        self.operate = self.store.mint("ops", [Scope.OPERATE])
        self.read = self.store.mint("eyes", [Scope.READ])
        self.ingest = self.store.mint("app", [Scope.INGEST])


class Served:
    """A server in a thread of the test."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.tokens = Tokens(folder / "tokens.json")
        self.settings = ControlSettings(**({"port": 0, "data": folder / "control"} | settings))
        self.thread = ControlThread(self.settings, self.tokens.store).start()
        self.url = self.thread.url
        self.client = ControlClient(self.url, self.tokens.operate)

    def restart(self) -> None:
        """Stop it in good order and start it again at the same address."""
        self.thread.stop()
        port = int(self.url.rsplit(":", 1)[1])
        self.settings = self.settings.model_copy(update={"port": port})
        self.thread = ControlThread(self.settings, self.tokens.store).start()

    def close(self) -> None:
        self.client.close()
        self.thread.stop()


class ServedProcess:
    """A server as a process of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.tokens = Tokens(folder / "tokens.json")
        self.settings = ControlSettings(**({"port": 0, "data": folder / "control"} | settings))
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.start()
        self.client = ControlClient(self.url, self.tokens.operate)

    def start(self) -> None:
        self.process = python(PROGRAMS / "serve.py", self.settings.model_dump_json(), str(self.tokens.path))
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server ended before it answered"
        port = int(self.url.rsplit(":", 1)[1])
        self.settings = self.settings.model_copy(update={"port": port})

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        self.client.close()
        if self.process is not None:
            end(self.process)


def python(program: Path, *arguments: str) -> subprocess.Popen[str]:
    """A program of ours as a process, with its output to be read."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(program), *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def end(process: subprocess.Popen[str]) -> None:
    """Make sure that a process of the test is gone."""
    if process.poll() is None:
        process.kill()
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()
