"""One share of the log as a gateway has it: its writer, its sessions, the thread that commits, and its spool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ingest.errors import LogError, LogLocked
from ingest.gateway.committer import Committer
from ingest.gateway.metrics import Metrics
from ingest.gateway.outage import OutageProof
from ingest.gateway.spool import Spool
from ingest.log import Log, LogWriter
from ingest.sessions import STATE_PREFIX, SessionIndex, SessionRules
from ingest.settings import GatewaySettings
from ingest.tombstones import Tombstones
from ingest.trimming import Trimming
from ingest.types import STEPS

WRITER = "gateway"

logger = logging.getLogger(__name__)


class Lane:
    """Opens the share's writer and commits until `close`. Raises `LogLocked` while another gateway has it.

    With a `spool` it outlives outages: what was left there from before is brought to the log first.
    """

    def __init__(
        self,
        log: Log,
        share: int,
        settings: GatewaySettings,
        metrics: Metrics,
        floor: Callable[[int], int] | None,
        spool: Path | None,
    ) -> None:
        self.share, self._settings = share, settings
        self.lost: LogLocked | None = None
        self.broken: LogError | None = None
        self._writer = log.writer(WRITER, share)
        self._spool: Spool | None = None
        self._outage: OutageProof | None = None
        try:
            if spool is not None:
                self._spool = Spool(spool, max(1, settings.spool_bytes // log.shares))
                self._outage = OutageProof(self._writer, self._spool)
                drain_all(self._outage, self._spool)
            tombstones = Tombstones(self._writer.state)
            self.index = SessionIndex(rules(log, share, settings), self._writer.state(STATE_PREFIX), tombstones)
        except BaseException:
            self._close_files()
            raise
        self._trimming = None if floor is None else Trimming(log, self._writer, STEPS, settings.retention, floor, share)
        self.committer = Committer(
            self._writer, self.index, settings, metrics, self._trimming, self._break, self._outage
        )
        self.committer.start()

    @property
    def spool_nearly_full(self) -> bool:
        """Whether new work had better go elsewhere."""
        return self._spool is not None and self._spool.nearly_full

    @property
    def spooling(self) -> bool:
        """Whether what is acknowledged here is still to be brought to the log: then nobody else can go on."""
        return self._outage is not None and self._outage.spooling

    def close(self, timeout: float) -> bool:
        """Commit what waits and close; False when that took too long, and what was not acknowledged is lost."""
        if not self.committer.stop(timeout):
            return False
        if self._trimming is not None:
            self._trimming.close()
        self._close_files()
        return True

    def _close_files(self) -> None:
        if self._outage is not None:
            self._outage.close()
        if self._spool is not None:
            self._spool.close()
        self._writer.close()

    def _break(self, error: LogError) -> None:
        if isinstance(error, LogLocked):
            self.lost = error
        else:
            self.broken = error


def rules(log: Log, share: int, settings: GatewaySettings) -> SessionRules:
    """The limits of one share's sessions."""
    partitions = sum(len(log.partitions_of(each)) for each in range(log.shares))
    return SessionRules(
        partitions=partitions,
        max_open=-(-settings.max_open_sessions // log.shares),
        idle_seconds=settings.idle_seconds,
        ended_seconds=settings.ended_seconds,
        record_bytes=settings.record_bytes,
        keyboard=settings.keyboard,
        owned=None if log.shares == 1 else frozenset(log.partitions_of(share)),
    )


def drain_all(outage: OutageProof, spool: Spool) -> None:
    """Bring all of a spool to the log, before anything else is written there."""
    if len(spool):
        logger.warning("%d commits were spooled before: bringing them to the log", len(spool))
    while len(spool):
        outage.drain_some()


def rescue(log: Log, share: int, settings: GatewaySettings, spool: Path) -> bool:
    """Bring to the log what lies in the spool of a share that another gateway took over; False when there is nothing.

    The share is taken from that one for as long as it takes: what was acknowledged here comes first.
    """
    if not any(spool.glob("*.spool")):
        return False
    kept = Spool(spool, settings.spool_bytes)
    try:
        if not len(kept):
            return False
        writer: LogWriter = log.writer(WRITER, share, force=True)
        try:
            drain_all(OutageProof(writer, kept), kept)
        finally:
            writer.close()
    finally:
        kept.close()
    return True
