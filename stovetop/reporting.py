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

EVERY = 1.0
"""Seconds between two reports: the control server takes a part that is silent for four for one that hangs."""

logger = logging.getLogger(__name__)


def control_url(settings: Settings) -> str:
    """Where the control server of these settings answers."""
    host = settings.control.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.control.port or 7007}"


class Telling:
    """A daemon thread that reports what `figures` yields, while the block runs."""

    def __init__(
        self, settings: Settings, figures: Callable[[], Iterable[ReportedEvent]], url: str | None = None
    ) -> None:
        address = control_url(settings) if url is None else url
        self._client = ControlClient(address, local_token(settings, Holder.ROLES), timeout=5.0)
        self._figures = figures
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        self._reachable = True

    def __enter__(self) -> Telling:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Telling:
        """Begin to report."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Report no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)
        self._client.close()

    def _run(self) -> None:
        while True:
            try:
                if events := tuple(self._figures()):
                    self._client.report(*events)
                    self._reachable = True
            except ClientError as error:  # figures are worth a line, not a stop
                if self._reachable:
                    logger.warning("the control server does not take figures: %s", error)
                self._reachable = False
            if self._stop.wait(EVERY):
                return
