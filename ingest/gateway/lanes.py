"""The shares of the log that this gateway has, and the way of a request to the right one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from ingest.errors import LogError, LogLocked, LogUnavailable, ShareElsewhere
from ingest.gateway.lane import WRITER, Lane, rescue
from ingest.gateway.losses import RETRY, Losses
from ingest.gateway.metrics import Metrics
from ingest.log import Log, partition_of
from ingest.sessions import Draft, Opening, Session
from ingest.settings import GatewaySettings
from ingest.sharing import await_released
from ingest.tombstones import Tombstone

T = TypeVar("T")

LOOK = 0.2
"""Seconds between two looks at what is dealt to this gateway."""

logger = logging.getLogger(__name__)


class Lanes:
    """Has a lane for each share that is dealt to this gateway.

    Where nobody else can write the log there is one lane, opened at once (raises `LogLocked`). Else a thread follows
    what is dealt; a session of a share that is not here is refused with `ShareElsewhere`.
    """

    def __init__(
        self,
        log: Log,
        settings: GatewaySettings,
        metrics: Metrics,
        floor: Callable[[int], int] | None,
        spool: Path | None,
        address: str,
    ) -> None:
        self._log, self._settings, self._metrics = log, settings, metrics
        self._floor, self._spool, self._address = floor, spool, address
        self._partitions = sum(len(log.partitions_of(each)) for each in range(log.shares))
        self._share_of = {part: share for share in range(log.shares) for part in log.partitions_of(share)}
        self._held: dict[int, Lane] = {}
        self._not_before: dict[int, float] = {}
        self._losses = Losses()
        self._failure: LogError | None = None
        self._closing = threading.Event()
        self._sharing = log.join(WRITER, address)
        self._thread: threading.Thread | None = None
        if self._sharing.alone:
            self._held[0] = self._open(0)
        else:
            self._sharing.release = lambda parts: await_released(lambda: frozenset(self._held), parts)
            self._thread = threading.Thread(target=self._follow, name="shares", daemon=True)
            self._thread.start()

    def __len__(self) -> int:
        return sum(len(lane.index) for lane in list(self._held.values()))

    @property
    def held(self) -> dict[int, Lane]:
        """The lanes by share, as they are now."""
        return dict(self._held)

    @property
    def shared(self) -> bool:
        """Whether other gateways can have shares of the same log."""
        return not self._sharing.alone

    @property
    def awaited(self) -> bool:
        """Whether shares that were dealt to this gateway are still to be opened."""
        return bool(self._sharing.mine - self._held.keys())

    @property
    def broken(self) -> LogError | None:
        """Why this process has to be started again."""
        if self._failure is not None:
            return self._failure
        for lane in list(self._held.values()):
            if lane.broken is not None:
                return lane.broken
            if self._sharing.alone and lane.lost is not None:
                return lane.lost
        return None

    def share_of(self, session_id: str) -> int:
        """The share of a session."""
        return self._share_of[partition_of(session_id, self._partitions)]

    def share_of_opening(self, opening: Opening) -> int:
        """The share in which a session is opened: that of its id or key, else one that is here."""
        if opening.session_id is not None:
            return self.share_of(opening.session_id)
        if opening.key is not None:
            return partition_of(opening.key.rpartition("/")[2], self._log.shares)
        here = sorted(self._held)
        return here[int(time.monotonic() * 1000) % len(here)] if here else 0

    def address_of(self, share: int) -> str | None:
        """Where another gateway that has the share is reached; None when it is here, or nobody told."""
        if share in self._held:
            return None
        address = self._sharing.address_of(share)
        return None if address == self._address else address  # it is dealt to this one, and still to be opened

    def lane(self, share: int, what: str) -> Lane:
        """The lane of a share. Raises `ShareElsewhere` when it is not here."""
        lane = self._held.get(share)
        if lane is None or lane.lost is not None:
            raise ShareElsewhere(what, self.address_of(share))
        return lane

    def get(self, session_id: str) -> Session | None:
        """The session as it was last committed."""
        return self.lane(self.share_of(session_id), f"session {session_id!r}").index.get(session_id)

    def require(self, session_id: str) -> Session:
        """The same; raises `SessionGone` where it was deleted and `SessionUnknown` where there is none."""
        return self.lane(self.share_of(session_id), f"session {session_id!r}").index.require(session_id)

    def tombstone(self, session_id: str) -> Tombstone | None:
        """The tombstone of a session, if it was deleted."""
        return self.lane(self.share_of(session_id), f"session {session_id!r}").index.tombstones.session(session_id)

    def expires_in(self, session_id: str) -> float | None:
        """Seconds until an open session is ended for its silence."""
        lane = self._held.get(self.share_of(session_id))
        return None if lane is None else lane.index.expires_in(session_id)

    async def apply(self, plan: Callable[[Draft], T], size: int = 0, of: str | Opening | None = None) -> T:
        """Apply a plan to a draft of the right share; see `Committer.apply`.

        `of` is the session, or the opening, that it is about; it may be left out where there is one share.
        """
        if of is None:
            if self._log.shares > 1:
                raise LogError("a plan has to say which session it is about, as the log is divided in shares")
            share = 0
        else:
            share = self.share_of(of) if isinstance(of, str) else self.share_of_opening(of)
        what = f"session {of!r}" if isinstance(of, str) else "the new session"
        return await self.lane(share, what).committer.apply(plan, size)

    def coming(self, session_id: str) -> AbstractContextManager[Callable[[], None]]:
        """While a body for a session is read; see `Committer.coming`."""
        return self.lane(self.share_of(session_id), f"session {session_id!r}").committer.coming()

    def close(self, timeout: float) -> bool:
        """Commit what waits, close all lanes and leave; False when it took too long."""
        self._failure = self.broken
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout)
        deadline = time.monotonic() + timeout
        done = True
        for share, lane in list(self._held.items()):
            done &= lane.close(max(0.1, deadline - time.monotonic()))
            del self._held[share]
        self._sharing.close()
        return done

    def _follow(self) -> None:
        while not self._closing.is_set():
            mine = self._sharing.mine
            for share, lane in list(self._held.items()):
                if lane.lost is not None or (share not in mine and not lane.spooling):
                    self._give_up(share, lane)
            for share in sorted(mine - self._held.keys()):
                if time.monotonic() >= self._not_before.get(share, 0.0):
                    self._take(share)
            self._rescue(mine)
            self._sharing.wait(LOOK)

    def _take(self, share: int) -> None:
        try:
            self._held[share] = self._open(share)
            logger.info("share %d is here now", share)
        except (LogLocked, LogUnavailable) as error:
            logger.warning("share %d cannot be had yet: %s", share, error)
            self._not_before[share] = time.monotonic() + RETRY
        except Exception:
            logger.exception("share %d cannot be opened", share)
            self._not_before[share] = time.monotonic() + 5 * RETRY

    def _give_up(self, share: int, lane: Lane) -> None:
        if not lane.close(self._settings.drain_seconds):
            logger.error("share %d did not close in time", share)
        self._held.pop(share, None)
        if lane.lost is not None:
            now = time.monotonic()  # what is spooled comes first, so the other one has to wait for it
            self._not_before[share] = now + (RETRY if lane.spooling else self._losses.pause(share, now))
        logger.info("share %d is not here any more", share)

    def _rescue(self, mine: frozenset[int]) -> None:
        """What was acknowledged here and is not in the log yet goes there, also when another has the share now."""
        if self._spool is None:
            return
        for share in set(range(self._log.shares)) - mine - self._held.keys():
            if time.monotonic() < self._not_before.get(share, 0.0):
                continue
            try:
                if rescue(self._log, share, self._settings, self._place(share)):
                    logger.warning("share %d: the spool was brought to the log", share)
            except LogError as error:
                logger.warning("share %d: the spool has to wait: %s", share, error)
                self._not_before[share] = time.monotonic() + RETRY
            except Exception:
                logger.exception("share %d: the spool cannot be brought to the log", share)
                self._not_before[share] = time.monotonic() + 5 * RETRY

    def _open(self, share: int) -> Lane:
        spool = None if self._spool is None or self._sharing.alone else self._place(share)
        return Lane(self._log, share, self._settings, self._metrics, self._floor, spool)

    def _place(self, share: int) -> Path:
        assert self._spool is not None
        return self._spool / str(share)
