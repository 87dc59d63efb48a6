"""Tells the control server the figures of a part that keeps no connection of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from control import ClientError, ControlClient
from control.api import ReportedEvent
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

EVERY = 2.0
"""Seconds between two reports."""

logger = logging.getLogger(__name__)


def control_url(settings: Settings) -> str:
    """Where the control server of these settings answers."""
    host = settings.control.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.control.port or 7007}"


class Telling:
    """A daemon thread that reports what `figures` yields, while the block runs."""

    def __init__(self, settings: Settings, figures: Callable[[], Iterable[ReportedEvent]]) -> None:
        self._client = ControlClient(control_url(settings), local_token(settings, Holder.ROLES), timeout=5.0)
        self._figures = figures
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        self._reachable = True

    def __enter__(self) -> Telling:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2.0)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            events = tuple(self._figures())
            if not events:
                continue
            try:
                self._client.report(*events)
                self._reachable = True
            except ClientError as error:  # figures are worth a line, not a stop
                if self._reachable:
                    logger.warning("the control server does not take figures: %s", error)
                self._reachable = False
