"""Back-pressure, not memory: a body is read only into bytes that the budget still has.

Where `Content-Length` tells, a request that does not fit is refused before its body is read. A body holds its bytes
of the budget from then until its request is answered, so what waits for the disk is bounded too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from auth.problems import INVALID_REQUEST, Problem
from ingest.gateway.metrics import Metrics
from ingest.problems import (
    BACKPRESSURE,
    BODY_STALLED,
    BODY_TOO_LARGE,
    RETRY_AFTER,
    UNSUPPORTED_ENCODING,
    too_large,
)
from ingest.settings import GatewaySettings


class Admission:
    """Lets bodies in while their bytes are within the budget. Used in the event loop only."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes of the budget that are taken now."""
        return self._used

    @property
    def exhausted(self) -> bool:
        """Whether a body of the largest size would be refused now."""
        return self._used + self._settings.max_body_bytes > self._settings.budget_bytes

    @asynccontextmanager
    async def body(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The request's body, of at most `limit` bytes; its share of the budget is given back when the context ends.

        Raises 413, 415, 503 (over the budget), 408 (it stalls or takes too long) and 400 (it breaks off).
        """
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise Problem(UNSUPPORTED_ENCODING, f"Content-Encoding {encoding!r}; send the body as it is")
        claim = _Claim(self, _content_length(request), limit)
        try:
            yield await self._read(request, claim)
        finally:
            self._add(-claim.taken)

    async def _read(self, request: Request, claim: _Claim) -> bytes:
        loop, chunks = asyncio.get_running_loop(), list[bytes]()
        latest = loop.time() + self._settings.body_seconds
        stream = request.stream()
        try:
            async with asyncio.timeout(None) as timeout:
                while True:
                    timeout.reschedule(min(loop.time() + self._settings.stall_seconds, latest))
                    chunk = await anext(stream, None)
                    if chunk is None:
                        return b"".join(chunks)
                    claim.received(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            stall, total = self._settings.stall_seconds, self._settings.body_seconds
            rule = f"a body may stall for {stall:g} s and take {total:g} s"
            # The rest of the body is still to come, so the connection is of no more use.
            raise Problem(BODY_STALLED, rule, headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(INVALID_REQUEST, "the connection broke off within the body") from None

    def _add(self, size: int) -> None:
        self._used += size
        self._metrics.inflight_bytes.set(self._used)

    def take(self, size: int) -> None:
        """Take `size` bytes of the budget, or refuse with 503."""
        if self._used + size > self._settings.budget_bytes:
            self._metrics.backpressure.labels("budget").inc()
            detail = f"{self._used} bytes wait for the disk, and {size} more exceed {self._settings.budget_bytes}"
            raise Problem(BACKPRESSURE, detail, retry_after=RETRY_AFTER)
        self._add(size)


class _Claim:
    """One body's share of the budget: all of it at once where its length is known, else as it comes."""

    def __init__(self, admission: Admission, stated: int | None, limit: int) -> None:
        self._admission, self._limit = admission, limit
        self.taken = self._read = 0
        if stated is not None:
            if stated > limit:
                raise too_large(BODY_TOO_LARGE, "the body's bytes", stated, limit)
            admission.take(stated)
            self.taken = stated

    def received(self, size: int) -> None:
        """`size` more bytes have come."""
        self._read += size
        if self._read > self._limit:
            raise too_large(BODY_TOO_LARGE, "the body's bytes", None, self._limit)
        if self._read > self.taken:
            self._admission.take(self._read - self.taken)
            self.taken = self._read


def _content_length(request: Request) -> int | None:
    stated = request.headers.get("content-length")
    if stated is None:
        return None
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 15):
        raise Problem(INVALID_REQUEST, f"Content-Length {stated[:40]!r} is not a number of bytes")
    return int(stated)
