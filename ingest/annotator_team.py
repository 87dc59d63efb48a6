"""The annotators of one process: one for each share of the log that is this process's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from ingest.annotator_state import ANNOTATOR
from ingest.annotator_worker import AnnotatorHealth, AnnotatorWorker
from ingest.errors import LogLocked
from ingest.log import Log
from ingest.sharing import await_released

logger = logging.getLogger(__name__)

_LOOK = 0.2
"""Seconds between two looks at who has what."""


class AnnotatorTeam:
    """Runs a worker for each share that is dealt to this process, until told to stop.

    Where nobody else can annotate, the one worker runs in the calling thread. Else each has a thread, and one whose
    share went to another process ends, with everything committed or nothing.
    """

    def __init__(self, log: Log, make: Callable[[int], AnnotatorWorker]) -> None:
        self._log, self._make = log, make
        self._running: dict[int, _Run] = {}
        self._failure: BaseException | None = None

    @property
    def busy_seconds(self) -> float:
        """How long an annotator has been at work on one step; see `AnnotatorWorker.busy_seconds`."""
        return max((run.worker.busy_seconds for run in list(self._running.values())), default=0.0)

    @property
    def health(self) -> AnnotatorHealth:
        """Of all shares together: counters are summed, ages are the oldest."""
        each = [run.worker.health for run in list(self._running.values())]
        if len(each) == 1:
            return each[0]
        summed = ("steps", "samples", "empty", "dead", "commits", "open_sessions", "lag_offsets")
        figures = {name: sum(getattr(health, name) for health in each) for name in summed}
        oldest = {
            name: max((getattr(health, name) for health in each), default=0.0)
            for name in ("lag_seconds", "delay_seconds")
        }
        known = AnnotatorHealth(min((health.time for health in each), default=time.time()))
        return msgspec.structs.replace(known, **figures, **oldest)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Errors of the log pass, but for shares that went to others."""
        with closing(self._log.join(ANNOTATOR)) as sharing:
            if sharing.alone:
                self._running[0] = _Run(self._make(0))
                self._running[0].worker.run(stop)
                return
            sharing.release = lambda parts: await_released(lambda: frozenset(self._running), parts)
            try:
                while not stop.is_set() and self._failure is None:
                    self._follow(sharing.mine)
                    sharing.wait(_LOOK)
            finally:
                self._follow(frozenset())
        if self._failure is not None:
            raise self._failure

    def _follow(self, mine: frozenset[int]) -> None:
        """Have a worker for each share of `mine` and for no other."""
        gone = [run for share, run in self._running.items() if share not in mine or not run.alive]
        for run in gone:
            run.stop.set()
        for share, run in list(self._running.items()):
            if run in gone:
                run.join()
                del self._running[share]
                self._judge(share, run.error)
        for share in mine - self._running.keys():
            self._running[share] = run = _Run(self._make(share))
            run.start(f"annotator of share {share}")

    def _judge(self, share: int, error: BaseException | None) -> None:
        if isinstance(error, LogLocked):
            logger.warning("share %d is annotated by another process: %s", share, error)
        elif error is not None:
            self._failure = error


class _Run:
    """A worker, and the thread that it runs in."""

    def __init__(self, worker: AnnotatorWorker) -> None:
        self.worker, self.stop = worker, threading.Event()
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is None or self._thread.is_alive()

    def start(self, name: str) -> None:
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            self.worker.run(self.stop)
        except BaseException as error:
            self.error = error
