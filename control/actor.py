"""A process's line to the control server: commands come in, reports and events go out, and nothing ever waits for it.

The connection lives in a daemon thread. While the server is away it tries again for ever, with pauses of at most a few
seconds; what was said meanwhile is kept (figures within a bound, reports always) and told once, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal

from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from control.bodies import LogBody, Open, body
from control.codes import CloseCode
from control.knobs import supersedes
from control.outbox import Outbox, messages
from control.protocol import (
    Ack,
    Command,
    CommandKind,
    CommandName,
    CommandSpec,
    Deliver,
    DesiredState,
    Event,
    EventType,
    Goodbye,
    Hello,
    Outcome,
    Report,
    StateChanged,
    Status,
    ToActor,
    Welcome,
    finite,
    new_uuid,
)

FLUSH_SECONDS = 0.05
BATCH = 500
WINDOW = 2000
"""Items sent and not yet acknowledged, at most."""

SEEN = 10_000
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

STATE_COMMANDS = {
    DesiredState.RUNNING: CommandName.RESUME_TRAINING,
    DesiredState.PAUSED: CommandName.PAUSE_TRAINING,
    DesiredState.STOPPED: CommandName.STOP_TRAINING,
}
STATES = {command: state for state, command in STATE_COMMANDS.items()}

MESSAGE: TypeAdapter[ToActor] = TypeAdapter(ToActor)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """A command for this process, with its number in the run.

    `again`: a setting, or a pause or stop, that holds for the run and that this process does not know of yet. It is to be
    applied like any other; a report of it goes nowhere, as its outcome stands already.
    """

    command: Command
    number: int
    again: bool = False


class ActorConnection:
    """An actor of a run. Make it, `start` it, ask `commands` at every step, and `close` it at the end.

    `revision` is what this process's state holds (0: nothing, None: ask for no settings again); the attribute of that name
    goes up as commands succeed and belongs into every checkpoint. `starts`: a person started this process, so an earlier
    stop is over. Of one instance, `commands` and `wait` are called from one thread; everything else from any.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        run: str,
        actor: str,
        kind: str,
        commands: Sequence[CommandSpec] = (),
        state: Mapping[str, Any] | None = None,
        revision: int | None = None,
        starts: bool = False,
        keep: int = 20_000,
    ) -> None:
        self.run, self.actor, self.kind = run, actor, kind
        self.revision = revision or 0
        self._asked, self._starts = revision is not None, starts
        self._address = url.rstrip("/").replace("http", "ws", 1) + "/api/v1/actor"
        self._token = token
        self._commands = tuple(commands)
        self._kinds = {spec.name: spec.kind for spec in commands}
        self._instance = new_uuid()
        self._outbox = Outbox(keep)
        self._inbox: SimpleQueue[Delivery] = SimpleQueue()
        self._under_way: dict[str, Delivery] = {}
        self._seen: dict[str, None] = {}
        self._lock = threading.Lock()
        self._state: dict[str, Any] = dict(state or {})
        self._changed: dict[str, Any] = {}
        self._desired = DesiredState.RUNNING
        self._sent = 0
        self._acknowledged = 0
        self._welcomed = threading.Event()
        self._online = False
        self._closing: str | None = None
        self._done = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._live, name=f"control-{actor}", daemon=True)

    # What the process does with it

    def start(self, wait: float = 0.0) -> bool:
        """Begin to connect; with `wait`, return once the server has answered or that many seconds have passed.

        True when it has answered: settings that are to be applied again are in `commands` by then.
        """
        self._thread.start()
        return self._welcomed.wait(wait) if wait > 0 else self._welcomed.is_set()

    @property
    def connected(self) -> bool:
        """Whether the line stands now."""
        return self._online

    def commands(self) -> Sequence[Delivery]:
        """What has come since this was asked last, oldest first; at once, and nearly free when there is nothing.

        Commands that expired on their way, and settings that a later one here makes pointless, are reported as that and
        left out.
        """
        if self._inbox.empty():
            return ()
        return self._sift(self._drain())

    def wait(self, timeout: float) -> Sequence[Delivery]:
        """Like `commands`, but wait up to `timeout` seconds for the first one (while paused)."""
        try:
            first = self._inbox.get(timeout=timeout)
        except Empty:
            return ()
        return self._sift([first, *self._drain()])

    def report(self, report: Report) -> None:
        """Say what became of a command. Kept until the server has it, whatever happens to the server."""
        delivery = self._under_way.get(report.uuid)
        if report.outcome is not None:
            self._under_way.pop(report.uuid, None)
        if delivery is not None and report.outcome is Outcome.SUCCESS and not delivery.command.dry_run:
            self.revision = max(self.revision, delivery.number)
            self._desired = (
                STATES.get(CommandName(delivery.command.command), self._desired)
                if _names_state(delivery.command)
                else self._desired
            )
        if delivery is None or not delivery.again:
            self._outbox.add(report)
            self._nudge()

    def say(self, *events: Event) -> None:
        """Tell what happened. Sent in batches, a few hundredths of a second later."""
        for event in events:
            self._outbox.add(event)

    def tell(
        self,
        kind: EventType,
        content: Open | Mapping[str, Any],
        *,
        step: int | None = None,
        branch: str = "main",
        level: Literal["info", "warning", "error"] = "info",
    ) -> None:
        """`say` for one event of this run, from its type and body."""
        filled = body(content) if isinstance(content, Open) else dict(content)
        self.say(Event(run=self.run, type=kind, body=filled, step=step, branch=branch, level=level))

    def set_state(self, **state: Any) -> None:
        """New values, by the keys of `control.bodies.StateKey`, for what is shown of this process."""
        plain = finite(state)
        with self._lock:
            self._state.update(plain)
            self._changed.update(plain)

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """Say goodbye and end; True when the server has stored everything. Gives up after `timeout` seconds."""
        self._closing = reason or "it ended"
        if not self._thread.is_alive():
            return len(self._outbox) == 0
        self._nudge()
        self._done.wait(timeout)
        self._thread.join(0.5)
        return len(self._outbox) == 0

    def __enter__(self) -> ActorConnection:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(reason="" if error is None else f"it failed: {error!r}")

    def _drain(self) -> list[Delivery]:
        found = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._inbox.get_nowait())
        return found

    def _sift(self, deliveries: list[Delivery]) -> Sequence[Delivery]:
        now = time.time()
        kept: list[Delivery] = []
        for index, delivery in enumerate(deliveries):
            command = delivery.command
            if delivery.again:
                self.revision = max(self.revision, delivery.number)
            elif command.expires_at is not None and command.expires_at <= now:
                self._end(
                    command, Outcome.EXPIRED, f"{self.actor} took it up {now - command.expires_at:.1f} s too late"
                )
                continue
            elif (newer := self._superseding(deliveries[index + 1 :], command)) is not None:
                self._end(
                    command, Outcome.SUPERSEDED, f"command {newer.number} sets the same, and came before the next step"
                )
                continue
            kept.append(delivery)
        return kept

    def _superseding(self, later: list[Delivery], command: Command) -> Delivery | None:
        for delivery in later:
            kind = self._kinds.get(delivery.command.command, CommandKind.ACTION)
            if kind is not CommandKind.SETTING:
                return None
            if supersedes(delivery.command, command, kind):
                return delivery
        return None

    def _end(self, command: Command, outcome: Outcome, reason: str) -> None:
        self.report(Report(uuid=command.uuid, status=outcome.status, outcome=outcome, reason=reason))

    # The thread

    def _live(self) -> None:
        try:
            asyncio.run(self._keep_connected())
        except Exception:
            logger.exception("control: the connection of %s ended for good", self.actor)
        finally:
            self._online = False
            self._done.set()

    async def _keep_connected(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        pause, complained = FIRST_PAUSE, ""
        while True:
            try:
                async with connect(
                    self._address,
                    additional_headers={"Authorization": f"Bearer {self._token}"},
                    compression=None,
                    proxy=None,
                    open_timeout=5,
                    close_timeout=1,
                    ping_interval=5,
                    ping_timeout=10,
                    max_size=16 << 20,
                ) as socket:
                    await self._greet(socket)
                    pause, complained = FIRST_PAUSE, ""
                    if await self._converse(socket):
                        return
            except (OSError, InvalidHandshake, TimeoutError, ConnectionClosed, EOFError) as error:
                if _replaced(error):
                    logger.error("control: another process took the place of %s in %s", self.actor, self.run)
                    return
                if (said := _why(error)) != complained:
                    logger.warning("control: no connection to %s (%s); trying on", self._address, said)
                    complained = said
            finally:
                self._online = False
            if self._closing is not None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until_closing(), pause * random.uniform(0.5, 1.0))
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _until_closing(self) -> None:
        assert self._wake is not None
        while self._closing is None:
            await self._wake.wait()
            self._wake.clear()

    async def _greet(self, socket: ClientConnection) -> None:
        with self._lock:
            state, self._changed = dict(self._state), {}
        hello = Hello(
            actor=self.actor,
            kind=self.kind,
            run=self.run,
            commands=self._commands,
            state=state,
            instance=self._instance,
            revision=self.revision if self._asked or self.revision else None,
            starts=self._starts,
        )
        await socket.send(hello.model_dump_json())
        welcome = MESSAGE.validate_json(await asyncio.wait_for(socket.recv(), 10))
        if not isinstance(welcome, Welcome):
            raise EOFError(f"the server answered a hello with {welcome.type!r}")
        self._outbox.acknowledge(welcome.stored)
        self._sent = self._acknowledged = welcome.stored
        for delivery in welcome.settings:
            self._deliver(delivery)
        self._obey(welcome.desired)
        dropped = self._outbox.take_dropped()
        if dropped.count:
            told = f"{dropped.count} events were dropped while the server was away (steps {dropped.first_step} to {dropped.last_step})"
            self.tell(EventType.LOG, LogBody(message=told), level="warning")
        self._online = True
        self._welcomed.set()

    async def _converse(self, socket: ClientConnection) -> bool:
        """Send and receive until the line is lost (raises) or everything is said (True)."""
        receiving = asyncio.create_task(self._receive(socket))
        try:
            return await self._send(socket, receiving)
        finally:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await receiving

    async def _receive(self, socket: ClientConnection) -> None:
        assert self._wake is not None
        async for text in socket:
            message = MESSAGE.validate_json(text)
            if isinstance(message, Ack):
                self._acknowledged = max(self._acknowledged, message.number)
                self._outbox.acknowledge(message.number)
                self._wake.set()
            elif isinstance(message, Deliver):
                self._deliver(message)

    async def _send(self, socket: ClientConnection, receiving: asyncio.Task[None]) -> bool:
        assert self._wake is not None
        while not receiving.done():
            with self._lock:
                changed, self._changed = self._changed, {}
            if changed:
                await socket.send(StateChanged(state=changed).model_dump_json())
            room = WINDOW - (self._sent - self._acknowledged)
            items = self._outbox.after(self._sent, min(BATCH, room)) if room > 0 else []
            for message in messages(items):
                await socket.send(message.model_dump_json())
            if items:
                self._sent = items[-1][0]
                continue
            if self._closing is not None and len(self._outbox) == 0:
                await socket.send(Goodbye(reason=self._closing).model_dump_json())
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_SECONDS)
            self._wake.clear()
        receiving.result()  # raises why the line was lost
        await socket.wait_closed()
        if socket.close_code == CloseCode.REPLACED:
            raise _Replaced
        return False

    def _deliver(self, message: Deliver) -> None:
        if message.command.uuid in self._seen:
            return  # the server could not know that it had arrived
        self._seen[message.command.uuid] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        delivery = Delivery(message.command, message.number, message.again)
        self._under_way[message.command.uuid] = delivery
        self._inbox.put(delivery)

    def _obey(self, desired: DesiredState) -> None:
        """Turn what people wanted while this process did not listen into a command for it."""
        if desired is self._desired:
            return
        self._desired = desired
        command = Command(command=STATE_COMMANDS[desired].value, run=self.run, author="control")
        self._under_way[command.uuid] = delivery = Delivery(command, 0, again=True)
        self._inbox.put(delivery)

    def _nudge(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(wake.set)


class _Replaced(ConnectionError):
    """The server gave this actor's place to another process."""


def _replaced(error: BaseException) -> bool:
    return isinstance(error, _Replaced) or (
        isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == CloseCode.REPLACED
    )


def _why(error: BaseException) -> str:
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}: {error.response.body.decode(errors='replace')[:300]}"
    return f"{type(error).__name__}: {error}"


def _names_state(command: Command) -> bool:
    return command.command in {name.value for name in STATES}


__all__ = ["ActorConnection", "Delivery", "Status"]
