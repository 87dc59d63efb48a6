"""Runs the server: as a process of its own, or as a thread beside a training script."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import uvicorn

from auth.tokens import TokenStore
from control.errors import ControlError, PortTaken, SettingsError
from control.forks import keep_from_children
from control.server.app import create_app
from control.server.compat import CalmWebSocket, quiet_false_alarms
from control.settings import DEFAULT_PORT, ControlSettings
from control.store import Store

TRIED = 20
"""Ports tried from the default one on, where none was set."""

PING_SECONDS = 10.0
PONG_SECONDS = 20.0
"""A lost machine is noticed within these two; a lost process at once, by its kernel."""
MAX_MESSAGE = 16 << 20

logger = logging.getLogger(__name__)


def bind(settings: ControlSettings) -> socket.socket:
    """A listening socket for the settings. Raises PortTaken, or SettingsError where nobody could listen."""
    ports = range(DEFAULT_PORT, DEFAULT_PORT + TRIED) if settings.port is None else (settings.port,)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(f"control: cannot listen on {settings.host}:{port} ({error.strerror})") from error
            continue
        return listener
    if settings.port is None:
        raise PortTaken(f"control: ports {ports[0]} to {ports[-1]} are all in use; set `port` to one that is free")
    raise PortTaken(f"control: port {settings.port} is in use by another process; stop it, or set another `port`")


def serve_control(
    settings: ControlSettings,
    tokens: TokenStore,
    *,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the address once requests are answered.

    Raises SettingsError, StoreLocked or UnknownFormat before anything is served. Open sockets delay the exit by
    `settings.shutdown_seconds` at most.
    """
    ControlServer(settings, tokens, announce).run()


class ControlServer:
    """One server: its port is bound and its store open when this is made, and it serves while `run` runs."""

    def __init__(
        self, settings: ControlSettings, tokens: TokenStore, announce: Callable[[str], None] | None = None
    ) -> None:
        self._listener = bind(settings)
        keep_from_children(self)
        try:
            self._store = Store(settings.data)
        except BaseException:
            self._listener.close()
            raise
        self.port: int = self._listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self.port}"
        self.app = create_app(settings, tokens, self._store, self.port)
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            ws=CalmWebSocket,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PONG_SECONDS,
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,  # each watcher would be compressed for anew
            # uvicorn would otherwise wait for open tabs for ever
            timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
            server_header=False,
        )
        quiet_false_alarms()
        self._server = _Server(config, lambda: announce(self.url) if announce else None)

    @property
    def started(self) -> bool:
        """Whether requests are answered."""
        return self._server.started

    def run(self) -> None:
        """Serve, blocking, until told to stop."""
        logger.info("control: serving at %s", self.url)
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._store.close()
            self._listener.close()

    def held_descriptors(self) -> Iterable[int]:
        """The listening socket's, which no child may keep."""
        return [self._listener.fileno()] if self._listener.fileno() >= 0 else []

    def stop(self) -> None:
        """Ask `run` to return soon; from any thread."""
        self._server.should_exit = True


class ControlThread:
    """The same server in a thread of a training script, which it never outlives.

    Leaving it, or the end of the process, ends it at once, whoever is still connected.
    """

    def __init__(self, settings: ControlSettings, tokens: TokenStore) -> None:
        self._settings, self._tokens = settings, tokens
        self._server: ControlServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        if self._server is None:
            raise ControlError("the control server was not started; call start() first")
        return self._server.url

    def start(self, timeout: float = 20.0) -> ControlThread:
        """Return once requests are answered. Raises PortTaken, StoreLocked, or ControlError after `timeout` seconds."""
        ready = threading.Event()
        self._server = ControlServer(self._settings, self._tokens, lambda url: ready.set())
        self._thread = threading.Thread(target=self._run, args=(self._server, ready), name="control", daemon=True)
        self._thread.start()
        ready.wait(timeout)
        if not self._server.started:
            self.stop()
            raise ControlError(
                f"the control server at {self._server.url} did not start within {timeout:g} s; see the log"
            )
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """Stop serving and wait for it. Harmless when done twice."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join(timeout)
            self._thread = None

    def __enter__(self) -> ControlThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @staticmethod
    def _run(server: ControlServer, ready: threading.Event) -> None:
        try:
            server.run()
        except BaseException:
            logger.exception("the control server failed")
        finally:
            ready.set()


class _Server(uvicorn.Server):
    """uvicorn's, which says when it answers and lets its caller finish after a signal."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to end. uvicorn would raise them again before the store is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()
