"""What a test changes in its process and leaves changed, which another test would stumble over."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

GRACE = 60.0
"""Seconds in which threads end that were told to."""

FOREIGN = ("PYTEST_", "KMP_", "TORCH")
"""Variables that others set for themselves."""
POOLED = ("ThreadPoolExecutor", "asyncio_", "uvloop_")
"""Threads of libraries' pools, which idle until these are collected."""


@dataclass(frozen=True)
class State:
    """Of this process: what is the same before and after a test that cleans up."""

    settings: Mapping[str, object]
    threads: frozenset[threading.Thread]

    @staticmethod
    def now() -> State:
        """As it is."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        settings: dict[str, object] = {
            **environment,
            "the folder": os.getcwd(),
            "logging.disable": logging.root.manager.disable,
            "the worker that torch takes it for": _in("torch.utils.data._utils.worker", lambda it: it._worker_info),
            "torch's process group": _in("torch.distributed", lambda it: it.is_available() and it.is_initialized())
            or None,
        }
        threads = frozenset(thread for thread in threading.enumerate() if not thread.daemon)
        return State(settings, threads)

    def with_(self, before: State, after: State) -> State:
        """This, and what changed between two others."""
        names = {name for name in after.settings if before.settings.get(name) != after.settings[name]}
        gone = before.settings.keys() - after.settings.keys()
        settings = {name: value for name, value in self.settings.items() if name not in gone}
        return replace(
            self,
            settings=settings | {name: after.settings[name] for name in names},
            threads=self.threads | (after.threads - before.threads),
        )

    def left(self) -> list[str]:
        """What is there since then, in words."""
        deadline = time.monotonic() + GRACE
        while (running := self._running()) and time.monotonic() < deadline:
            time.sleep(0.01)
        now = State.now().settings
        changed = [name for name in self.settings.keys() | now.keys() if self.settings.get(name) != now.get(name)]
        return [f"{name} is {now.get(name)!r}, was {self.settings.get(name)!r}" for name in sorted(changed)] + running

    def _running(self) -> list[str]:
        threads = [
            each
            for each in threading.enumerate()
            if not each.daemon and each not in self.threads and not each.name.startswith(POOLED)
        ]
        return [f"{thread.name} runs" for thread in threads]


def _in(name: str, what: Callable[..., object]) -> object:
    """Of a module, where a test has imported it."""
    module = sys.modules.get(name)
    return None if module is None else what(module)
