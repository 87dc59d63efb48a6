"""Back-pressure, not memory: a body is read only into bytes that the budget still has.

Where `Content-Length` tells, a request that does not fit is refused before its body is read. A body holds its bytes
of the budget from then until its request is answered, so what waits for the disk is bounded too. Encoded bodies are
decoded piece by piece, and it is the decoded bytes that count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from auth.problems import INVALID_REQUEST, Problem
from ingest.gateway.budget import NOBODY, Budget, Caller
from ingest.gateway.encodings import decoded, decoder_of
from ingest.gateway.metrics import Metrics
from ingest.gateway.protocol import WHOLE_BODY, Receiving
from ingest.gateway.rates import Rates
from ingest.problems import BODY_STALLED, BODY_TOO_LARGE, too_large
from ingest.settings import GatewaySettings

LARGE_BYTES = 64 << 10
"""Bodies of so many bytes are received at one go: smaller ones come in a piece or two anyway."""


class Admission:
    """Lets bodies in while their bytes are within the budget. Used in the event loop only."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.rates = Rates(settings.rates)
        self._budget = Budget(
            settings.budget_bytes,
            settings.key_budget_bytes,
            settings.session_budget_bytes,
            lambda used: metrics.inflight_bytes.set(used),
        )

    @property
    def used(self) -> int:
        """Bytes of the budget that are taken now."""
        return self._budget.used

    @property
    def exhausted(self) -> bool:
        """Whether a body of the largest size would be refused now."""
        return self._budget.left < self._settings.max_body_bytes

    @asynccontextmanager
    async def body(self, request: Request, limit: int, caller: Caller = NOBODY) -> AsyncIterator[bytes | bytearray]:
        """The request's body, of at most `limit` bytes; its share of the budget is given back when the context ends.

        Raises 413, 415, 429, 503 (over the budget), 408 (it stalls or takes too long) and 400 (it breaks off).
        """
        async with self.stream(request, limit, caller, self._settings.body_seconds, whole=True) as stream:
            yield await self._whole(request, stream)

    @asynccontextmanager
    async def stream(
        self, request: Request, limit: int, caller: Caller, seconds: float, *, whole: bool = False
    ) -> AsyncIterator[Stream]:
        """The request's body in pieces, as it comes; raises like `body`, at the piece that is too much.

        `whole`: all of it will be held, so its share of the budget is taken at once where its length is known.
        """
        try:
            self.rates.enter(caller)
            decoder = decoder_of(request.headers.get("content-encoding"))
            stated = _content_length(request)
            if stated is not None and stated > limit:
                raise too_large(BODY_TOO_LARGE, "the body's bytes", stated, limit)
            stream = Stream(self._budget, caller, limit, decoded(self._chunks(request, seconds), decoder))
            try:
                if whole and stated:
                    stream.reserve(stated)
                if decoder is None:
                    stream.expected = stated
                yield stream
            finally:
                stream.close()
                self.rates.pay(caller, stream.received)
                self._metrics.body_bytes.observe(stream.received)
        except Problem as problem:
            if problem.kind.status in (429, 503):
                self._metrics.backpressure.labels(problem.kind.slug).inc()
            raise

    async def _whole(self, request: Request, stream: Stream) -> bytes | bytearray:
        receive_whole = request.scope.get("extensions", {}).get(WHOLE_BODY)
        if receive_whole is None or stream.expected is None or stream.expected < LARGE_BYTES:
            pieces = [piece async for piece in stream if piece]
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        body = await self._received(receive_whole(stream.expected), self._settings.body_seconds)
        stream.received = len(body)
        return body

    async def _received(self, receiving: Receiving, seconds: float) -> bytearray:
        loop, stall = asyncio.get_running_loop(), self._settings.stall_seconds
        latest = loop.time() + seconds
        while not receiving.done.done():
            left = min(receiving.moved + stall, latest) - loop.time()
            if left <= 0:
                raise self._stalled(seconds)
            await asyncio.wait((receiving.done,), timeout=left)
        try:
            return receiving.done.result()
        except ClientDisconnect:
            raise _broken_off() from None

    def _stalled(self, seconds: float) -> Problem:
        rule = f"a body may stall for {self._settings.stall_seconds:g} s and take {seconds:g} s"
        # The rest of the body is still to come, so the connection is of no more use.
        return Problem(BODY_STALLED, rule, headers={"Connection": "close"})

    async def _chunks(self, request: Request, seconds: float) -> AsyncIterator[bytes]:
        loop, stall = asyncio.get_running_loop(), self._settings.stall_seconds
        latest = loop.time() + seconds
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout_at(min(loop.time() + stall, latest)):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise self._stalled(seconds) from None
            except ClientDisconnect:
                raise _broken_off() from None
            if chunk is None:
                return
            yield chunk


class Stream:
    """A body's pieces, each within the budget until `release` says that it is held no more."""

    def __init__(self, budget: Budget, caller: Caller, limit: int, pieces: AsyncIterator[bytes]) -> None:
        self._budget, self._caller, self._limit, self._pieces = budget, caller, limit, pieces
        self._taken = self._held = 0
        self.received = 0
        self.expected: int | None = None
        """How many bytes there will be, where that is known."""

    def reserve(self, size: int) -> None:
        """Take `size` bytes of the budget for what is still to come."""
        self._budget.take(size, self._caller)
        self._taken += size

    def release(self, size: int) -> None:
        """So many bytes are held no more."""
        self._held -= size
        self._budget.give(size, self._caller)
        self._taken -= size

    def close(self) -> None:
        """Give everything back."""
        self._budget.give(self._taken, self._caller)
        self._taken = 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self.received += len(piece)
        self._held += len(piece)
        if self.received > self._limit:
            raise too_large(BODY_TOO_LARGE, "the body's bytes", None, self._limit)
        if self._held > self._taken:
            self.reserve(self._held - self._taken)
        return piece


def _broken_off() -> Problem:
    return Problem(INVALID_REQUEST, "the connection broke off within the body")


def _content_length(request: Request) -> int | None:
    stated = request.headers.get("content-length")
    if stated is None:
        return None
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 15):
        raise Problem(INVALID_REQUEST, f"Content-Length {stated[:40]!r} is not a number of bytes")
    return int(stated)
