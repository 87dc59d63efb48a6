"""Runs the embedded hub: as a process of its own, or as a thread of a test or a script."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

import uvicorn

from auth import TokenStore
from publish.directory import DirectoryHub
from publish.errors import HubAddressTaken
from publish.server.app import create_app
from publish.settings import HubSettings

GRACE_SECONDS = 3

logger = logging.getLogger(__name__)


class HubServer:
    """Its port is bound when this is made (0 takes any free one), and it serves while `run` runs.

    Raises HubAddressTaken where nobody could listen.
    """

    def __init__(self, settings: HubSettings, hub: DirectoryHub, own: str, tokens: TokenStore) -> None:
        self._listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((settings.host, settings.port))
            self._listener.listen(128)
        except OSError as error:
            self._listener.close()
            raise HubAddressTaken(
                f"the hub cannot listen on {settings.host}:{settings.port} ({error.strerror}); set hub.port to another"
            ) from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._listener.getsockname()[1]}"
        self._app = create_app(settings, hub, own, tokens)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    @property
    def started(self) -> bool:
        """Whether requests are answered."""
        return self._server.started

    def run(self) -> None:
        """Serve, blocking, until SIGTERM, SIGINT or `stop`."""
        logger.info("hub: serving at %s", self.url)
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Ask `run` to return soon; from any thread."""
        self._server.should_exit = True


class HubThread:
    """The same server in a thread, for the length of a block."""

    def __init__(self, settings: HubSettings, hub: DirectoryHub, own: str, tokens: TokenStore) -> None:
        self._server = HubServer(settings, hub, own, tokens)
        self._thread = threading.Thread(target=self._server.run, name="hub", daemon=True)
        self.url = self._server.url

    def __enter__(self) -> HubThread:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join(2 * GRACE_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn's, which ends the followers' streams before it waits for open requests."""

    async def on_tick(self, counter: int) -> bool:
        if self.should_exit:
            self.config.app.state.stopping.set()  # type: ignore[union-attr]
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
