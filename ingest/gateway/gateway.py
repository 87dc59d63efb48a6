"""The gateway without its HTTP: the writer, the sessions, the committing thread, the budget."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from ingest.errors import LogError
from ingest.gateway.admission import Admission
from ingest.gateway.budget import Budget
from ingest.gateway.committer import Committer
from ingest.gateway.metrics import Metrics
from ingest.gateway.socket_registry import Sockets
from ingest.log import Log
from ingest.schemas import SessionSchemas
from ingest.sessions import STATE_PREFIX, SessionIndex, SessionRules
from ingest.settings import GatewaySettings
from ingest.subjects import Pseudonyms
from ingest.tombstones import Tombstones
from ingest.trimming import Trimming
from ingest.types import STEPS

WRITER = "gateway"

logger = logging.getLogger(__name__)


class Gateway:
    """Opens the log's writer (raises `LogLocked` while another gateway has it) and commits until `close`.

    `floor(partition)` is the offset of steps below which nobody needs the log's records any more, for retention;
    without it nothing is ever forgotten. It is called from the committing thread.
    """

    def __init__(self, settings: GatewaySettings, log: Log, floor: Callable[[int], int] | None = None) -> None:
        self.settings, self.metrics, self.log = settings, Metrics(), log
        self.schemas = SessionSchemas(settings.schemas)
        self.admission = Admission(settings, self.metrics)
        self.socket_budget = Budget(
            settings.sockets.budget_bytes, changed=lambda used: self.metrics.socket_credit.set(used)
        )
        self.sockets = Sockets(self.metrics)
        self.draining = threading.Event()
        self.broken: LogError | None = None
        self._writer = log.writer(WRITER)
        try:
            self.pseudonyms = None if settings.subject_key is None else Pseudonyms(settings.subject_key)
            tombstones = Tombstones(self._writer.state)
            self.index = SessionIndex(self._rules(log), self._writer.state(STATE_PREFIX), tombstones)
        except BaseException:
            self._writer.close()
            raise
        self.metrics.open_sessions.set(len(self.index))
        self._trimming = None if floor is None else Trimming(log, self._writer, STEPS, settings.retention, floor)
        self.committer = Committer(self._writer, self.index, settings, self.metrics, self._trimming, self._break)
        self.committer.start()

    def unready(self) -> str | None:
        """Why no new work should come here; None when it may."""
        if self.broken is not None:
            return "the log is broken"
        if self.draining.is_set():
            return "shutting down"
        return "the byte budget is used up" if self.admission.exhausted else None

    def close(self) -> None:
        """Commit what waits and close the log; takes at most `drain_seconds`."""
        if not self.committer.stop(self.settings.drain_seconds):
            logger.error(
                "the disk did not answer within %d s; what was not acknowledged is lost", self.settings.drain_seconds
            )
            return
        if self._trimming is not None:
            self._trimming.close()
        self._writer.close()

    def _rules(self, log: Log) -> SessionRules:
        with closing(log.reader()) as reader:
            partitions = reader.partitions(STEPS)
        return SessionRules(
            partitions=partitions,
            max_open=self.settings.max_open_sessions,
            idle_seconds=self.settings.idle_seconds,
            ended_seconds=self.settings.ended_seconds,
            record_bytes=self.settings.record_bytes,
            keyboard=self.settings.keyboard,
        )

    def _break(self, error: LogError) -> None:
        self.broken = error
