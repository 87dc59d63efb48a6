"""Processes forked from one that has imported what they need, as importing takes longer than what is tested.

Python keeps one fork server a process, and what that has imported is settled when it starts: beside other tests it would
be theirs, and every process would import everything anew. So there is one for each list of modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import forkserver, popen_forkserver
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

_servers: dict[tuple[str, ...], forkserver.ForkServer] = {}


class _Popen(popen_forkserver.Popen):
    def _launch(self, process: Forked) -> None:
        server = _servers.get(process.preload)
        if server is None:
            server = _servers[process.preload] = forkserver.ForkServer()
            server.set_forkserver_preload(list(process.preload))
        with mock.patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process):
            super()._launch(process)


class Forked(BaseProcess):
    """A process, not started yet, that begins where the modules are imported; it has no connection of this one."""

    _start_method = "forkserver"

    def __init__(self, preload: tuple[str, ...], target: Callable[..., object], *args: Any) -> None:
        super().__init__(target=target, args=args)
        self.preload = preload
        self._environment = dict(os.environ)

    def run(self) -> None:
        """Do what it is there for, with the environment of this test, not of the one that started the fork server."""
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()

    @staticmethod
    def _Popen(process: Forked) -> _Popen:  # noqa: N802
        return _Popen(process)
