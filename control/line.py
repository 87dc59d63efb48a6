"""The thread behind an `ActorConnection`: it connects, says what is in the outbox, hears, and connects again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from control.codes import CloseCode
from control.forks import keep_from_children
from control.outbox import Outbox, packets
from control.protocol import Ack, Alive, Deliver, Goodbye, Hello, StateChanged, ToActor, Welcome

FLUSH_SECONDS = 0.1
"""How long events may lie before they are sent: each waking takes a millisecond from whoever trains on this core."""

ALIVE_SECONDS = 1.0
"""How long the line may be silent: the server takes longer silence for a process that hangs."""

BATCH = 500
WINDOW = 2000
"""Items sent and not yet acknowledged, at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
ANSWER_SECONDS = 10.0
MAX_MESSAGE = 16 << 20

MESSAGE: TypeAdapter[ToActor] = TypeAdapter(ToActor)
ALIVE = Alive().model_dump_json()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ends:
    """What the line asks of, and hands to, the one who holds it. Called from the line's thread."""

    hello: Callable[[], Hello]
    welcomed: Callable[[Welcome], None]
    delivered: Callable[[Deliver], None]
    changes: Callable[[], dict[str, Any]]


class Line:
    """One daemon thread with a loop of its own. It ends with the process, at once, or after `close`."""

    def __init__(self, url: str, token: str, outbox: Outbox, ends: Ends, name: str) -> None:
        self._address = url.rstrip("/").replace("http", "ws", 1) + "/api/v1/actor"
        self._token, self._outbox, self._ends, self._name = token, outbox, ends, name
        self._sent = self._acknowledged = 0
        self._spoke = 0.0
        self._closing: str | None = None
        self._said_goodbye = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._descriptor = -1
        self.connected = False
        self.answered = threading.Event()
        keep_from_children(self)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def held_descriptors(self) -> Iterable[int]:
        """The connection's, which no child may keep."""
        return [self._descriptor] if self._descriptor >= 0 else []

    def nudge(self) -> None:
        """Send now what is in the outbox; from any thread."""
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(wake.set)

    def close(self, reason: str, timeout: float) -> bool:
        """Send what is left and say goodbye; True when the server has stored it all within `timeout` seconds."""
        self._closing = reason
        self.nudge()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return self._said_goodbye and len(self._outbox) == 0

    def abandon(self) -> None:
        """Cut the line, mid-word if need be, and never come back."""
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
            self._thread.join(5.0)

    def _live(self) -> None:
        try:
            asyncio.run(self._keep_connected())
        except asyncio.CancelledError:
            logger.info("%s: the line to the control server was cut", self._name)
        except Exception:
            logger.exception("%s: the line to the control server ended for good", self._name)
        finally:
            self.connected = False

    async def _keep_connected(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._task = asyncio.current_task()
        pause, complained = FIRST_PAUSE, ""
        while not self._said_goodbye:
            try:
                async with self._dial() as socket:
                    self._descriptor = socket.transport.get_extra_info("socket").fileno()
                    await self._greet(socket)
                    pause, complained = FIRST_PAUSE, ""
                    await self._converse(socket)
            # a time-out is an OSError; a message that this version cannot read is a ValueError
            except (OSError, InvalidHandshake, ConnectionClosed, EOFError, ValueError) as error:
                if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code == CloseCode.REPLACED:
                    logger.error("%s: another process took this one's place at the control server", self._name)
                    return
                if (why := _why(error)) != complained:
                    logger.warning("%s: no line to %s (%s); trying on", self._name, self._address, why)
                    complained = why
            finally:
                self.connected, self._descriptor = False, -1
            if not self._said_goodbye:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(LONGEST_PAUSE, pause * 2)

    def _dial(self) -> connect:
        return connect(
            self._address,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            compression=None,
            proxy=None,
            open_timeout=5,
            close_timeout=1,
            ping_interval=5,
            ping_timeout=10,
            max_size=MAX_MESSAGE,
        )

    async def _greet(self, socket: ClientConnection) -> None:
        await socket.send(self._ends.hello().model_dump_json())
        welcome = MESSAGE.validate_json(await asyncio.wait_for(socket.recv(), ANSWER_SECONDS))
        if not isinstance(welcome, Welcome):
            raise EOFError(f"the server answered a hello with {welcome.type!r}")
        self._outbox.acknowledge(welcome.stored)
        self._sent = self._acknowledged = welcome.stored
        self._ends.welcomed(welcome)
        self.connected = True
        self.answered.set()

    async def _converse(self, socket: ClientConnection) -> None:
        """Send and receive until the line is lost (raises) or everything is said."""
        receiving = asyncio.create_task(self._receive(socket))
        try:
            while not receiving.done() and not self._said_goodbye:
                await self._send(socket)
            if receiving.done():
                receiving.result()
                raise EOFError("the server closed the line")
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(self, socket: ClientConnection) -> None:
        assert self._wake is not None
        try:
            while True:
                message = MESSAGE.validate_json(await socket.recv())
                if isinstance(message, Ack):
                    waits = self._sent - self._acknowledged >= WINDOW
                    self._acknowledged = max(self._acknowledged, message.number)
                    self._outbox.acknowledge(message.number)
                    if waits or self._closing is not None:  # else nobody waits for it
                        self._wake.set()
                elif isinstance(message, Deliver):
                    self._ends.delivered(message)
        finally:
            self._wake.set()

    async def _send(self, socket: ClientConnection) -> None:
        """One turn: what there is to send, or a wait for it."""
        assert self._wake is not None
        if changed := self._ends.changes():
            await socket.send(StateChanged(state=changed).model_dump_json())
        room = WINDOW - (self._sent - self._acknowledged)
        items = self._outbox.after(self._sent, min(BATCH, room)) if room > 0 else []
        for packet in packets(items):
            await socket.send(packet)
        if items or changed:
            self._spoke = time.monotonic()
        if items:
            self._sent = items[-1][0]
        elif self._closing is not None and len(self._outbox) == 0:
            await socket.send(Goodbye(reason=self._closing).model_dump_json())
            self._said_goodbye = True
        else:
            if time.monotonic() - self._spoke >= ALIVE_SECONDS:
                await socket.send(ALIVE)
                self._spoke = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()


def _why(error: BaseException) -> str:
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}: {error.response.body.decode(errors='replace')[:300]}"
    return f"{type(error).__name__}: {error}"
