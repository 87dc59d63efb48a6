"""Annotator and archiver together: two processes, so that neither waits for the other's interpreter.

The annotator runs in the calling process, the archiver in a child. An app's annotator that crashes in native code,
eats the memory or holds the interpreter lock does not touch archiving, and two cores are used where there are two. When
one part fails the other is stopped and the failure is raised: whoever supervises this process starts both again, and
each goes on where it stood. The child ends by itself when this process does, however that ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from ingest.annotator import load_annotator
from ingest.annotator_team import AnnotatorTeam
from ingest.annotator_worker import AnnotatorHealth, AnnotatorSettings, AnnotatorWorker
from ingest.archive_lane import ArchiverSettings
from ingest.archiver import Archiver, ArchiverHealth
from ingest.errors import IngestError
from ingest.keeper import Keeper, KeeperHealth, KeepingSettings
from ingest.log import Log
from ingest.metrics import serve_metrics
from ingest.shard_reader import archived_before
from ingest.shards import ShardStore
from ingest.sharing import Sharing, await_released
from ingest.types import ARCHIVER, SAMPLES

logger = logging.getLogger(__name__)

HUNG = 75
"""Exit status after an annotator took longer than `step_seconds` over one step."""
_BEAT = 0.5
"""Seconds between two reports of the child."""
_GRACE = 15.0
"""Seconds that the archiver has to publish what it gathered, once it is told to stop."""


class PipelineSettings(BaseModel):
    """Settings of the annotator, the archiver and the keeper, and where their metrics are served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    annotator: AnnotatorSettings = AnnotatorSettings()
    archiver: ArchiverSettings = ArchiverSettings()
    keeping: KeepingSettings = KeepingSettings()
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65535, description="none: not served; 0: any free port")


class PipelineHealth(msgspec.Struct, frozen=True):
    """How the parts fare; None for a part that has not reported yet, or whose work another pipeline does."""

    annotator: AnnotatorHealth | None = None
    archiver: ArchiverHealth | None = None
    keeper: KeeperHealth | None = None


class _Told(msgspec.Struct, frozen=True):
    """What the child reports."""

    archiver: ArchiverHealth
    keeper: KeeperHealth | None = None


_reports = msgspec.msgpack.Decoder(_Told)


class PipelineError(IngestError):
    """A part of the pipeline ended that should not have; its own log says why."""


class Pipeline:
    """Runs annotator and archiver until told to stop. `health` may be read from any thread."""

    def __init__(self, settings: PipelineSettings, log: Log, store: ShardStore) -> None:
        self._settings = settings
        self._log = log
        self._store = store
        self._annotator = annotator_team(settings.annotator, log, store)
        self._told: _Told | None = None
        self.archiver_heard = time.time()
        """When the archiver's process last said anything, in Unix seconds: twice a second while it lives."""
        self._failure: str | None = None
        self.metrics_port: int | None = None

    @property
    def health(self) -> PipelineHealth:
        """The latest measurements of each part, with its time."""
        told = self._told
        if told is None:
            return PipelineHealth(self._annotator.health)
        return PipelineHealth(self._annotator.health, told.archiver, told.keeper)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, and leave all that was read committed and published.

        Sets `stop` itself when a part fails, and raises that failure: `PipelineError` where it was the archiver's.
        """
        with contextlib.ExitStack() as stack:
            if self._settings.metrics_port is not None:
                address = (self._settings.metrics_host, self._settings.metrics_port)
                self.metrics_port = stack.enter_context(serve_metrics(*address, lambda: self.health))
            watchdog = _Watchdog(self._annotator, self._settings.annotator.step_seconds)
            stack.callback(watchdog.end)
            self._run(stop, watchdog)
        if self._failure is not None:
            raise PipelineError(self._failure)

    def _run(self, stop: threading.Event, watchdog: _Watchdog) -> None:
        ours, theirs = multiprocessing.Pipe()
        spawning = multiprocessing.get_context("spawn")
        arguments = (self._log, self._store, self._settings.archiver, self._settings.keeping, theirs)
        child = spawning.Process(target=_archive, args=arguments, name="archiver", daemon=True)
        child.start()
        theirs.close()
        listener = threading.Thread(target=self._listen, args=(ours, child, stop), name="archiver-health", daemon=True)
        listener.start()
        watchdog.start()
        try:
            self._annotator.run(stop)
        finally:
            stop.set()
            with contextlib.suppress(OSError):  # it may be gone already
                ours.send_bytes(b"stop")
            listener.join(_GRACE)
            child.join(1.0)
            if child.is_alive():
                logger.warning("the archiver did not stop within %.0f s: ending it by force", _GRACE)
                child.kill()
                child.join()
            ours.close()

    def _listen(self, pipe: Connection, child: Any, stop: threading.Event) -> None:
        """Take the archiver's reports until it ends; if nobody asked for that, stop the annotator too."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._told = _reports.decode(pipe.recv_bytes())
                self.archiver_heard = time.time()
        child.join(_GRACE)
        if child.exitcode != 0 or not stop.is_set():
            self._failure = f"the archiver ended with exit status {child.exitcode}; its error stands in the log above"
            stop.set()


def run_pipeline(settings: PipelineSettings, log: Log, store: ShardStore, stop: threading.Event) -> None:
    """Annotate and archive until `stop` is set."""
    Pipeline(settings, log, store).run(stop)


def annotator_team(settings: AnnotatorSettings, log: Log, store: ShardStore) -> AnnotatorTeam:
    """The annotators alone, with the app's plug-in loaded and retention held back by the archive."""
    factory = load_annotator(settings.plugin)

    def worker(share: int) -> AnnotatorWorker:
        archived = lambda partition: archived_before(store, SAMPLES, partition)  # noqa: E731
        return AnnotatorWorker(log, factory, settings, archived, store, share)

    return AnnotatorTeam(log, worker)


class _Watchdog(threading.Thread):
    """Ends this process when an annotator hangs: no thread can be taken out of code that does not return."""

    def __init__(self, worker: AnnotatorTeam, limit: float) -> None:
        super().__init__(name="annotator-watchdog", daemon=True)
        self._worker = worker
        self._limit = limit
        self._over = threading.Event()

    def end(self) -> None:
        """Watch no more."""
        self._over.set()

    def run(self) -> None:
        while not self._over.wait(min(1.0, self._limit / 4)):
            if self._worker.busy_seconds > self._limit:
                logger.critical("an annotator is busy with one step for more than %g s: ending", self._limit)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(HUNG)


def _archive(
    log: Log, store: ShardStore, settings: ArchiverSettings, keeping: KeepingSettings, pipe: Connection
) -> None:
    """The archiver's process, with the keeper in a thread. It stops when told to, and when `pipe`'s other end is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this in order
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    archiver, keeper = Archiver(log, store, settings), Keeper(log, store, keeping)

    def tell() -> None:
        pipe.send_bytes(msgspec.msgpack.encode(_Told(archiver.health, keeper.health)))

    threading.Thread(target=_follow_parent, args=(tell, pipe, stop), name="parent", daemon=True).start()
    keeping_thread = threading.Thread(target=keeper.run, args=(stop,), name="keeper", daemon=True)
    keeping_thread.start()
    archive_mine(archiver, log, stop)
    keeping_thread.join(_GRACE / 2)
    with contextlib.suppress(OSError):
        tell()


def archive_mine(archiver: Archiver, log: Log, stop: threading.Event) -> None:
    """Archive the partitions that are dealt to this process, until `stop` is set."""
    with contextlib.closing(log.join(ARCHIVER)) as sharing:
        if sharing.alone:
            archiver.run(stop)
            return
        held: list[frozenset[int]] = [frozenset()]
        sharing.release = lambda parts: await_released(lambda: held[0], parts)
        while not stop.is_set():
            held[0] = mine = sharing.mine
            turn = threading.Event()
            ending = threading.Thread(target=_end_turn, args=(sharing, mine, turn, stop), daemon=True)
            ending.start()
            archiver.run(turn, mine)
            turn.set()
            ending.join()
        held[0] = frozenset()


def _end_turn(sharing: Sharing, mine: frozenset[int], turn: threading.Event, stop: threading.Event) -> None:
    """Set `turn` when other partitions are dealt, or everything is to stop."""
    while not stop.is_set() and not turn.is_set() and sharing.mine == mine:
        turn.wait(0.1)
    turn.set()


def _follow_parent(tell: Callable[[], None], pipe: Connection, stop: threading.Event) -> None:
    with contextlib.suppress(EOFError, OSError):
        while not pipe.poll(_BEAT):
            tell()
    stop.set()
    time.sleep(_GRACE)
    os._exit(1)  # a store that hangs must not keep an orphan
