"""Shows what new versions paint: the app's plug-in is run beside the publisher, on what lies in the hub."""

from __future__ import annotations

import logging
import threading

from control import ClientError, ControlClient, EventType
from control.api import ReportedEvent
from control.bodies import LogBody, body
from control.errors import ServerUnreachable
from publish import PublishError, SigningKey, TrustedKeys, durable, older_keys
from publish.catalogue import Catalogue, fetch
from publish.places import publishers_hub
from stovetop.errors import ConfigurationError
from stovetop.painter import Painter, PaintingFailed
from stovetop.play import stop_on_signals
from stovetop.reporting import control_url
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

PAUSE = 1.0
"""Seconds until what went wrong with the server is tried again, and between two looks at whether to stop."""

logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Paint until told to stop. Nobody waits for it: a version is out before it is painted."""
    stop = stop_on_signals()
    if settings.app.samples is None:
        raise ConfigurationError("app.samples is not set; name what paints samples of a version as module:name")
    client = ControlClient(control_url(settings), local_token(settings, Holder.ROLES))
    painter = Painter(settings.app.samples, settings.samples.seconds)
    try:
        Sampling(settings, client, painter).run(stop)
    finally:
        painter.close()
        client.close()


class Sampling:
    """Each time the newest version without samples, every so many seconds; those that came between go without."""

    def __init__(self, settings: Settings, client: ControlClient, painter: Painter) -> None:
        self._run, self._every, self._place = settings.run, settings.samples.every, settings.painted
        self._client, self._painter = client, painter
        self._hub = publishers_hub(settings.publish)
        keys = (SigningKey.load_or_create(settings.publish.key).public, *older_keys(settings.publish.key))
        self._catalogue = Catalogue(self._hub, TrustedKeys(keys))
        self._tried = 0
        self._told = threading.Event()  # of a version, since the last look

    def run(self, stop: threading.Event) -> None:
        """Paint until `stop` is set."""
        threading.Thread(target=self._listen, args=(stop,), name=f"versions-{self._run}", daemon=True).start()
        while not stop.is_set():
            if self._told.wait(PAUSE):
                self._told.clear()
                stop.wait(self._look())

    def _listen(self, stop: threading.Event) -> None:
        """Hear of every version that is published, from the first on, so that none comes before this hears."""
        since = 0
        while not stop.is_set():
            try:
                for event in self._client.events(since, run=self._run, types=[EventType.VERSION], reconnect=False):
                    since = event.seq
                    if event.body.get("action") == "published":
                        self._told.set()
            except ClientError as error:  # as when it is asked
                logger.info("%s", error)
            stop.wait(PAUSE)

    def _look(self) -> float:
        """Paint the newest version, where it has no samples yet; the seconds to wait before the next look."""
        try:
            if (version := self._next()) == 0:
                return 0.0
        except ClientError as error:
            return self._later(error)
        try:
            self._show(version)
        except ServerUnreachable as error:
            return self._later(error)
        except (PaintingFailed, PublishError, ClientError, OSError) as error:
            self._say(f"version {version:06d} has no samples: {error}")
        self._tried = version
        return self._every

    def _later(self, error: ClientError) -> float:
        """The server is on its way, or does not know the token yet; the version waits."""
        logger.info("%s", error)
        self._told.set()
        return PAUSE

    def _next(self) -> int:
        """The newest version, where it has no samples and was not tried; else 0."""
        versions = self._client.versions(self._run).versions
        newest = next((known for known in versions if known.action == "published"), None)
        fresh = newest is not None and newest.version > self._tried and not newest.samples
        return newest.version if newest is not None and fresh else 0

    def _show(self, version: int) -> None:
        known = self._catalogue.read(version)
        with durable.staging(self._place) as folder:
            fetch(self._hub, known, folder)
            pictures = self._painter.paint(folder)
        self._client.show_samples(self._run, version, pictures)

    def _say(self, message: str) -> None:
        logger.warning("%s", message)
        event = ReportedEvent(
            run=self._run, type=EventType.LOG, level="warning", body=body(LogBody(message=message[:1000]))
        )
        try:
            self._client.report(event)
        except ClientError as error:
            logger.info("%s", error)
