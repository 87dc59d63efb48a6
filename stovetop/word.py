"""What a serving process tells the control server: heartbeats, and alarms. It never waits for it."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections import deque

import msgspec

from control import ClientError, ControlClient, EventType, Outcome
from control.api import ReportedEvent
from control.bodies import FollowerBody
from publish import Alarm, Status
from stovetop.doors import Doors
from stovetop.moves import RAISE_ALARM
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

PATIENCE = 60.0
"""Seconds that one alarm's outcome is waited for."""
RETRY = 2.0
"""Seconds between two tries while the control server is away."""
VALID = 600.0
"""Seconds that an alarm is repeated while the publisher is away."""
KEPT = 8
"""Alarms that wait, at most; what is older concerns a version that nobody serves any more."""

logger = logging.getLogger(__name__)


class Word:
    """Give `Follower` its `status` as `tell` and its `alarm` as `raise_alarm`. A daemon thread sends them until `close`.

    Of heartbeats the latest counts; alarms are kept until the control server has taken them, which needs a token with the
    scope `operate`.
    """

    def __init__(self, url: str, token: str, *, run: str, follower: str = "") -> None:
        self.follower = follower or socket.gethostname()[:64]
        self._run = run
        self._client = ControlClient(url, token, timeout=5.0)
        self._statuses: queue.SimpleQueue[Status] = queue.SimpleQueue()
        self._alarms: deque[Alarm] = deque(maxlen=KEPT)
        self._woken, self._closing = threading.Event(), threading.Event()
        self._reachable = True
        self._thread = threading.Thread(target=self._send_all, name="word", daemon=True)
        self._thread.start()

    def status(self, status: Status) -> None:
        """Tell how things stand; returns at once."""
        self._statuses.put(status)
        self._woken.set()

    def alarm(self, alarm: Alarm) -> None:
        """Tell of a version that was sent back; returns at once."""
        self._alarms.append(alarm)
        self._woken.set()

    def close(self) -> None:
        """Stop telling."""
        self._closing.set()
        self._woken.set()
        self._thread.join(2.0)
        self._client.close()

    def _send_all(self) -> None:
        while not self._closing.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                self._send()
                self._reachable = True
            except ClientError as error:  # serving goes on; the next heartbeat, and every alarm, tries again
                if self._reachable:
                    logger.warning("the control server does not hear of this follower: %s", error)
                self._reachable = False
                if self._alarms and not self._closing.wait(RETRY):
                    self._woken.set()

    def _send(self) -> None:
        latest: Status | None = None
        while not self._statuses.empty():
            latest = self._statuses.get()
        if latest is not None:
            self._client.report(_heartbeat(self.follower, self._run, latest))
        while self._alarms:
            alarm = self._alarms[0]
            told = {**msgspec.to_builtins(alarm), "follower": self.follower}
            record = self._client.send(RAISE_ALARM, told, run=self._run, timeout=PATIENCE, note=alarm.reason[:500])
            logger.warning("alarm about version %06d: %s (%s)", alarm.version, record.outcome, record.reason)
            if record.outcome is not Outcome.SUCCESS and time.time() - alarm.raised_at < VALID:
                raise NotTaken(record.reason)  # the publisher is away
            self._alarms.popleft()


class NotTaken(ClientError):
    """Nobody has taken the alarm yet."""


def word_of(settings: Settings) -> Word | None:
    """To the control server that the settings name, else to this service's own; None where there is none."""
    chosen = settings.follow
    if chosen.control is not None:
        return Word(chosen.control, chosen.control_token, run=settings.run, follower=chosen.follower)
    if not settings.doors.exists():
        return None
    token = local_token(settings, Holder.ROLES)
    return Word(Doors.read(settings).control, token, run=settings.run, follower=chosen.follower)


def _heartbeat(follower: str, run: str, status: Status) -> ReportedEvent:
    body = FollowerBody(
        follower=follower,
        version=status.version,
        channel=status.channel,
        error=status.error,
        lag_seconds=status.lag_seconds,
        staleness_seconds=status.staleness_seconds,
        origin=status.origin.value,
        errors=status.errors,
        swaps=status.swaps,
        alarms=status.alarms,
        received_bytes=status.received_bytes,
    )
    return ReportedEvent(type=EventType.FOLLOWER, run=run, time=time.time(), body=body.model_dump(mode="json"))
