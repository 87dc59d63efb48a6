"""The gateway without its HTTP: the shares of the log that it has, with their sessions, and the budget."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from ingest.certificates import TrainedOn
from ingest.errors import LogError
from ingest.gateway.admission import Admission
from ingest.gateway.budget import Budget
from ingest.gateway.lanes import Lanes
from ingest.gateway.metrics import Metrics
from ingest.gateway.socket_registry import Sockets
from ingest.log import Log
from ingest.schemas import SessionSchemas
from ingest.settings import GatewaySettings
from ingest.subjects import Pseudonyms

logger = logging.getLogger(__name__)


class Gateway:
    """Commits to the log until `close`. Raises `LogLocked` while another gateway has a log that only one can write.

    `floor(partition)` is the offset of steps below which nobody needs the log's records any more, for retention;
    without it nothing is ever forgotten. It is called from a committing thread. `spool` is a folder for what comes in
    while no broker answers; `address` is where other gateways of the same log reach this one. `trained_on` names versions
    for the certificates of deletions; it may block, and is called from a thread.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        log: Log,
        floor: Callable[[int], int] | None = None,
        spool: Path | None = None,
        address: str = "",
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.settings, self.metrics, self.log = settings, Metrics(), log
        self.trained_on = trained_on
        self.schemas = SessionSchemas(settings.schemas)
        self.pseudonyms = None if settings.subject_key is None else Pseudonyms(settings.subject_key)
        self.admission = Admission(settings, self.metrics)
        self.socket_budget = Budget(
            settings.sockets.budget_bytes, changed=lambda used: self.metrics.socket_credit.set(used)
        )
        self.sockets = Sockets(self.metrics)
        self.draining = threading.Event()
        self.lanes = Lanes(log, settings, self.metrics, floor, spool, address)
        self.metrics.open_sessions.set_function(lambda: len(self.lanes))

    @property
    def index(self) -> Lanes:
        """The sessions."""
        return self.lanes

    @property
    def committer(self) -> Lanes:
        """What makes plans durable."""
        return self.lanes

    @property
    def broken(self) -> LogError | None:
        """Why this process has to be started again; None when it need not."""
        return self.lanes.broken

    def unready(self) -> str | None:
        """Why no new work should come here; None when it may."""
        if self.broken is not None:
            return "the log is broken"
        if self.draining.is_set():
            return "shutting down"
        held = self.lanes.held
        if not held or self.lanes.awaited:
            return "shares of the log are still to come"
        if any(lane.spool_nearly_full for lane in held.values()):
            return "no broker answers, and the spool is nearly full"
        return "the byte budget is used up" if self.admission.exhausted else None

    def close(self) -> None:
        """Commit what waits and close the log; takes at most about `drain_seconds`."""
        if not self.lanes.close(self.settings.drain_seconds):
            logger.error(
                "the disk did not answer within %d s; what was not acknowledged is lost", self.settings.drain_seconds
            )
