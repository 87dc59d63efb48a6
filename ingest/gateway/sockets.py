"""One session over a WebSocket: steps in, acknowledgements out, and credit, so that a client that is faster than the
disk waits instead of filling memory.

The client says `hello`, is welcomed with the seq to go on from and its credit in bytes, and sends one binary message a
step (`frames`). Each message uses up its size of the credit; `credit` gives it back when the step was dealt with. Every
step is answered: by an `ack` that reaches it, or by a `nack` with the problem. Nothing is dropped silently: what had
been received when the connection ends is still committed, and the client resends from the next welcome's `next_seq`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from auth.problems import Problem
from auth.tokens import Grant
from ingest.errors import IngestError, InvalidBody, SessionClosed, SessionUnknown
from ingest.gateway.budget import Budget
from ingest.gateway.desk import Desk, caller_of
from ingest.gateway.frames import seq_of, unpack_frame
from ingest.gateway.observed import traceparent_of
from ingest.gateway.replies import OpenSession, read_model, results_of
from ingest.gateway.wire import FRAME_OVERHEAD, batch_of
from ingest.problems import problem_of
from ingest.sessions import Batch, Session

MAX_GROUP = 256
"""Steps in one commit of one socket."""
MAX_TEXT = 64 << 10

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Close(IntEnum):
    """Why a socket was closed (RFC 6455, 7.4; from 4000 on our own, after HTTP's)."""

    ENDED = 1000
    DRAINING = 1001
    POLICY = 1008
    FAILED = 1011
    LATER = 1013
    TOKEN = 4401
    FORBIDDEN = 4403
    UNKNOWN = 4404
    GONE = 4410


class Hello(msgspec.Struct):
    """The first message: who it is (unless the handshake said so), and how to open a session that is not yet."""

    type: str
    token: str | None = None
    open: dict[str, Any] | None = None


class Told(msgspec.Struct):
    """Any later text message: `want` more credit (`bytes` in all), or `end` the session of `next_seq` steps."""

    type: str
    bytes: int = 0
    next_seq: int | None = None


_hellos, _told = msgspec.json.Decoder(Hello), msgspec.json.Decoder(Told)


class Closing(Exception):
    """The socket is to be closed, and why."""

    def __init__(self, code: Close, reason: str, problem: Problem | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.problem = code, reason, problem


class Credit:
    """What a client may send. All of it, and what it sent and is not dealt with, is taken from the sockets' budget."""

    def __init__(self, budget: Budget, grant: Grant, window: int) -> None:
        self._budget, self._caller, self._window = budget, caller_of(grant), window
        budget.take(window, self._caller)
        self.left = self._taken = window

    def spend(self, size: int) -> bool:
        """Whether a message of `size` was within the credit."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def dealt_with(self, size: int) -> int:
        """So many bytes are held no more; returns how many may be sent anew."""
        again = min(size, max(0, self._window - self.left))
        self._budget.give(size - again, self._caller)
        self._taken -= size - again
        self.left += again
        return again

    async def grow(self, wanted: int) -> int:
        """Wait until `wanted` bytes may be sent at once; returns how many that is more."""
        more = wanted - self.left
        if more <= 0:
            return 0
        await self._budget.wait_and_take(more, self._caller)
        self._taken += more
        self.left += more
        return more

    def close(self) -> None:
        """Give everything back."""
        self._budget.give(self._taken, self._caller)
        self._taken = self.left = 0


class Socket:
    """One connection, accepted already."""

    def __init__(self, desk: Desk, websocket: WebSocket, session_id: str, secret: str | None) -> None:
        self._desk, self._websocket, self._session_id, self._secret = desk, websocket, session_id, secret
        self._frames: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._over: Closing | None = None
        self._gone = False
        self._end: Told | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._trace = traceparent_of(websocket.headers)

    def drain(self) -> None:
        """Take nothing more; commit what has come, then close."""
        self._stop(Closing(Close.DRAINING, "the gateway is shutting down; go on from a new connection"))

    async def run(self) -> None:
        """Serve until one side has enough."""
        try:
            await self._serve()
        except WebSocketDisconnect:
            return
        except Closing as closing:
            await self._close(closing)
        except Exception as error:
            if isinstance(error, IngestError | Problem):
                await self._close(_closing(error))
                return
            logger.exception("a socket met a bug")
            await self._close(Closing(Close.FAILED, "the server failed"))

    async def _serve(self) -> None:
        hello = await self._hello()
        self._secret = hello.token or self._secret
        grant = self._grant()
        session = await self._session(grant, hello)
        settings = self._desk.settings
        self._credit = Credit(self._desk.gateway.socket_budget, grant, settings.sockets.window_bytes)
        try:
            await self._tell(
                type="welcome",
                session_id=session.session_id,
                state="open" if session.ended is None else "ended",
                next_seq=session.next_seq,
                durable_through=session.next_seq - 1,
                credit_bytes=self._credit.left,
                max_message_bytes=settings.max_step_bytes + FRAME_OVERHEAD,
            )
            self._spawn(self._receive())
            while not self._gone or self._frames:
                await self._turn()
        finally:
            for task in self._tasks:
                task.cancel()
            self._credit.close()

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(self._desk.settings.sockets.hello_seconds):
                text = await self._websocket.receive_text()
        except (TimeoutError, KeyError):
            raise Closing(Close.POLICY, "the first message is a hello, as JSON text") from None
        hello = _read(_hellos, text)
        if hello.type != "hello":
            raise Closing(Close.POLICY, f"the first message is a hello, not {hello.type[:40]!r}")
        return hello

    def _grant(self) -> Grant:
        """Looked at again before every commit, so that a token that ended or was revoked opens nothing more."""
        keeper = self._desk.any_token
        grant = keeper.grant(self._secret)
        keeper.admit(grant, self._session_id)
        return grant

    async def _session(self, grant: Grant, hello: Hello) -> Session:
        try:
            return self._desk.session(grant, self._session_id)
        except SessionUnknown:
            if hello.open is None:
                raise
        self._desk.app_token.admit(grant, None)
        fields = {**hello.open, "session_id": self._session_id}
        session, _ = await self._desk.open(grant, read_model(OpenSession, msgspec.json.encode(fields)))
        return session

    async def _receive(self) -> None:
        """Take messages in; whatever is wrong with one, those before it are still dealt with."""
        try:
            while self._over is None:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self._gone = True
                    self._arrived.set()
                    return
                data = message.get("bytes")
                if data is not None:
                    self._take(data)
                else:
                    self._obey(_read(_told, message.get("text") or ""))
        except Closing as closing:
            self._stop(closing)

    def _take(self, data: bytes) -> None:
        if self._end is not None:
            raise Closing(Close.POLICY, "a step came after the end")
        if not self._credit.spend(len(data)):
            raise Closing(Close.POLICY, f"a message of {len(data)} bytes, but the credit was {self._credit.left}")
        self._frames.append(data)
        self._arrived.set()

    def _obey(self, told: Told) -> None:
        if told.type == "end":
            self._end = told
            self._arrived.set()
        elif told.type == "want":
            if len(self._tasks) < 2:  # the receiver, and one that waits for credit
                self._spawn(self._grow(min(told.bytes, self._desk.settings.max_step_bytes + FRAME_OVERHEAD)))
        else:
            raise Closing(Close.POLICY, f"a message of type {told.type[:40]!r}; there are want and end")

    async def _grow(self, wanted: int) -> None:
        more = await self._credit.grow(wanted)
        if more:
            await self._tell(type="credit", bytes=more)

    async def _turn(self) -> None:
        """Deal with what has come, or wait for it."""
        if not self._frames:
            if self._end is not None and self._over is None:
                await self._end_session(self._end)
            if self._over is not None:
                raise self._over
            self._arrived.clear()
            await self._arrived.wait()
            return
        frames = [self._frames.popleft() for _ in range(min(len(self._frames), MAX_GROUP))]
        grant = self._grant()
        wait = self._desk.gateway.admission.rates.delay(caller_of(grant, self._session_id))
        if wait > 0:  # it is slowed by its credit, not refused
            await asyncio.sleep(wait)
        for batch, size in self._batches(self._desk.session(grant, self._session_id), frames):
            await self._commit(grant, batch, size)

    def _batches(self, session: Session, frames: Sequence[bytes]) -> Iterator[tuple[Batch | Refused, int]]:
        """Runs of consecutive steps; a message that is no step stands alone, with what is wrong with it."""
        rules = self._desk.rules(session, self._websocket.headers)
        run: list[Batch] = []
        size = 0
        for frame in frames:
            try:
                batch = batch_of([unpack_frame(frame)], session.session_id, seq_of(frame), rules, self._trace)
            except (IngestError, Problem) as error:
                if run:
                    yield _merged(run), size
                    run, size = [], 0
                yield Refused(_seq_said(frame), error), len(frame)
                continue
            if run and (batch.first_seq != run[-1].first_seq + 1 or run[-1].steps[-1].is_eos):
                yield _merged(run), size
                run, size = [], 0
            run.append(batch)
            size += len(frame)
        if run:
            yield _merged(run), size

    async def _commit(self, grant: Grant, batch: Batch | Refused, size: int) -> None:
        fatal: Closing | None = None
        try:
            if isinstance(batch, Refused):
                self._desk.gateway.metrics.refused(1)
                await self._nack(batch.seq, batch.seq, batch.error)
            else:
                try:
                    appended = await self._desk.append(batch, size)
                except IngestError as error:
                    await self._nack(batch.first_seq, batch.first_seq + len(batch.steps) - 1, error)
                    if isinstance(error, SessionClosed | SessionUnknown):
                        fatal = _closing(error)
                else:
                    results = msgspec.to_builtins(
                        {
                            seq: result if isinstance(result, str) else result.model_dump(by_alias=True)
                            for seq, result in results_of(appended, batch).items()
                        }
                    )
                    more = {} if results == {"all": "ok"} else {"results": results}
                    await self._tell(type="ack", durable_through=appended.session.next_seq - 1, **more)
        finally:
            self._desk.gateway.admission.rates.pay(caller_of(grant, self._session_id), size)
            again = self._credit.dealt_with(size)
        if fatal is not None:
            raise fatal
        if again:
            await self._tell(type="credit", bytes=again)

    async def _end_session(self, told: Told) -> None:
        self._end = None
        self._desk.session(self._grant(), self._session_id)
        try:
            session = await self._desk.end(self._session_id, told.next_seq)
        except IngestError as error:
            self._desk.count(error)
            seq = told.next_seq or 0
            await self._nack(seq, seq, error)
            return
        await self._tell(type="ended", next_seq=session.next_seq, reason=session.ended)
        raise Closing(Close.ENDED, "the session has ended")

    async def _nack(self, seq: int | None, through: int | None, error: IngestError | Problem) -> None:
        problem = error if isinstance(error, Problem) else problem_of(error)
        await self._tell(type="nack", seq=seq, through=through, problem=problem.body(self._websocket.scope))

    async def _tell(self, **message: Any) -> None:
        if self._gone:
            return  # it will ask, on its next connection
        try:
            await self._websocket.send_text(msgspec.json.encode(message).decode())
        except (WebSocketDisconnect, RuntimeError):
            self._gone = True

    async def _close(self, closing: Closing) -> None:
        if closing.problem is not None:
            await self._tell(type="error", problem=closing.problem.body(self._websocket.scope))
        if self._gone:
            return
        try:
            await self._websocket.close(int(closing.code), closing.reason[:100])
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("a socket was gone before it was closed")

    def _stop(self, closing: Closing) -> None:
        self._over = self._over or closing
        self._arrived.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Refused(msgspec.Struct, frozen=True):
    """A message that is no step."""

    seq: int | None
    error: Any


def _merged(run: Sequence[Batch]) -> Batch:
    first = run[0]
    return Batch(
        first.session_id,
        first.first_seq,
        tuple(step for batch in run for step in batch.steps),
        tuple(digest for batch in run for digest in batch.digests),
        tuple(size for batch in run for size in batch.sizes),
        first.traceparent,
    )


def _seq_said(frame: bytes) -> int | None:
    try:
        return seq_of(frame)
    except InvalidBody:
        return None


def _read(kind: msgspec.json.Decoder[T], text: str) -> T:
    try:
        if len(text) > MAX_TEXT:
            raise msgspec.DecodeError(f"more than {MAX_TEXT} characters")
        return kind.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Closing(Close.POLICY, f"a text message that is not as it should be: {error}"[:100]) from None


def _closing(error: IngestError | Problem) -> Closing:
    problem = error if isinstance(error, Problem) else problem_of(error)
    codes = {401: Close.TOKEN, 403: Close.FORBIDDEN, 404: Close.UNKNOWN, 410: Close.GONE}
    retried = Close.LATER if problem.kind.retryable else Close.POLICY
    return Closing(codes.get(problem.kind.status, retried), problem.kind.slug, problem)


def request_of(websocket: WebSocket) -> Request:
    """A request with the same headers, for what wants one."""
    return Request({**websocket.scope, "type": "http", "method": "GET"})
