"""Runs the gateway until it is told to stop: uvicorn, with an end that loses nothing and takes a bounded time."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import uvicorn

from auth.tokens import TokenStore
from ingest.certificates import TrainedOn
from ingest.errors import GatewayError
from ingest.gateway.app import create_app
from ingest.gateway.gateway import Gateway
from ingest.gateway.protocol import PatientWebSocket, bounded_http
from ingest.gateway.wire import FRAME_OVERHEAD
from ingest.kept_memory import keep_freed_memory, look_for_cycles_seldom
from ingest.log import Log
from ingest.settings import GatewaySettings

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2_048
KEEP_ALIVE_SECONDS = 75
SWITCH_SECONDS = 0.0005
"""A commit passes through several threads, and each would wait 5 ms for the one that reads bodies."""

logger = logging.getLogger(__name__)


def serve_gateway(
    settings: GatewaySettings,
    tokens: TokenStore,
    log: Log,
    *,
    floor: Callable[[int], int] | None = None,
    spool: Path | None = None,
    announce: Callable[[str, int], None] | None = None,
    stop: threading.Event | None = None,
    observe: Callable[[Gateway], AbstractContextManager[object]] = lambda gateway: nullcontext(),
    trained_on: TrainedOn | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`; returns when everything that was acknowledged or waits is on disk.

    `announce(host, port)` is called once requests are taken, with the port that was bound. `floor` and `trained_on`
    are told of at `Gateway`, `spool` is the folder for outages, and `observe` is entered while it serves. Raises
    `LogLocked` where another gateway runs on this log and only one can, `GatewayError` where the port is taken, and
    `LogBroken` when the disk failed: start again then.
    """
    listener = _bind(settings)
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_freed_memory()
    look_for_cycles_seldom()
    try:
        gateway = Gateway(settings, log, floor, spool, settings.advertise or _address(listener), trained_on)
        try:
            with observe(gateway):
                _Server(gateway, tokens, announce, stop).run([listener])
        finally:
            gateway.close()
    finally:
        listener.close()
    if gateway.broken is not None:
        raise gateway.broken


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        place = f"{settings.host}:{settings.port}"
        raise GatewayError(f"the gateway cannot listen on {place} ({error.strerror}); set another port") from error
    return listener


class _Server(uvicorn.Server):
    """Announces its port, and ends in two steps: not ready any more, then no more connections."""

    def __init__(
        self,
        gateway: Gateway,
        tokens: TokenStore,
        announce: Callable[[str, int], None] | None,
        stop: threading.Event | None,
    ) -> None:
        settings = gateway.settings
        super().__init__(
            uvicorn.Config(
                create_app(gateway, tokens),
                http=bounded_http(settings.max_headers_bytes, settings.header_seconds),
                ws=PatientWebSocket,
                ws_max_size=settings.max_step_bytes + FRAME_OVERHEAD,
                ws_ping_interval=settings.sockets.ping_seconds,
                ws_ping_timeout=settings.sockets.ping_seconds,
                ws_per_message_deflate=False,  # a bomb would be unfolded before anybody could look at it
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.drain_seconds,
            )
        )
        self._gateway, self._announce, self._stop = gateway, announce, stop
        self._exit_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._announce is not None and sockets:
            host, port, *_ = sockets[0].getsockname()
            self._announce(host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self.servers:
            listening.close()
        if not await self._gateway.sockets.drain(self._gateway.settings.drain_seconds):
            logger.warning("%d sockets did not end in time", len(self._gateway.sockets))
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self._drain()
        if self._gateway.broken is not None or (self._exit_at is not None and time.monotonic() >= self._exit_at):
            self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, which kills the process before the log is closed.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway.draining.is_set():  # the second signal: somebody is in a hurry
            self._exit_at = 0.0
        self._drain()

    def _drain(self) -> None:
        if not self._gateway.draining.is_set():
            logger.info("the gateway is shutting down")
            self._gateway.draining.set()
            self._exit_at = time.monotonic() + self._gateway.settings.pre_stop_seconds
