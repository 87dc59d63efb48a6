"""Posts a session's steps to the gateway from asyncio: `ingest.client`'s twin, with a task instead of a thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import httpx

from ingest.conversation import ClientSettings, Request, step_fields
from ingest.errors import BufferFull, ClientError
from ingest.posting import NOTHING, TIMEOUT, Posting, now


class AsyncSessionClient(Posting):
    """One session, for asyncio: like `SessionClient`, with a task that sends. Use it within one event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        app: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        resume: bool = False,
        settings: ClientSettings | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(url, token, app, metadata=metadata, session_id=session_id, resume=resume, settings=settings)
        self._own_http = http is None
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT, verify=self._verify())
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109  (as in the twin)
        """See `SessionClient.open`."""
        self._start()
        await self._wait(lambda: self._talk.opened, "open", timeout)

    async def post(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        members: Mapping[str, bytes] = NOTHING,
        is_reset: bool = False,
        is_eos: bool = False,
        model_version: str | None = None,
        time: float | None = None,
        extra: Mapping[str, Any] = NOTHING,
        timeout: float = 0.0,  # noqa: ASYNC109
    ) -> int:
        """See `SessionClient.post`."""
        fields = step_fields(inputs, time, is_reset, is_eos, model_version, members, extra)
        deadline = now() + timeout
        self._start()
        async with self._changed:
            while True:
                try:
                    seq = self._talk.add(fields, members, now())
                except BufferFull:
                    if now() >= deadline:
                        raise
                    await self._pause(deadline - now())
                else:
                    self._changed.notify_all()
                    return seq

    async def flush(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """See `SessionClient.flush`."""
        self._start()
        wanted = self._talk.hurry()
        await self._wait(lambda: self._talk.acked >= wanted, "flush", timeout)

    async def end(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """See `SessionClient.end`."""
        self._start()
        self._talk.finish()
        await self._wait(lambda: self._talk.ended, "end", timeout)

    async def close(self) -> None:
        """See `SessionClient.close`."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._own_http:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncSessionClient:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `SessionClient.__exit__`."""
        try:
            if kind is None:
                await self.end()
            else:
                with suppress(ClientError):
                    await self.end(timeout=2.0)
        finally:
            await self.close()

    def _start(self) -> None:
        if self._closed:
            raise ClientError(f"session {self.session_id}: this client is closed")
        if self._task is None:
            self._task = asyncio.create_task(self._send(), name=f"session-{self.session_id}")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._changed.wait()

    async def _wait(self, done: Callable[[], bool], what: str, timeout: float) -> None:  # noqa: ASYNC109
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                self._changed.notify_all()
                await self._changed.wait_for(lambda: done() or self._talk.failure is not None)
        self._checked(done(), what, timeout)

    async def _send(self) -> None:
        while (request := await self._next_request()) is not None:
            reply: httpx.Response | Exception
            try:
                reply = await self._http.request(**self._arguments(request))
            except Exception as error:  # whatever it is, those who wait must hear of it
                reply = error
            async with self._changed:
                self._heard(request, reply)
                self._changed.notify_all()

    async def _next_request(self) -> Request | None:
        async with self._changed:  # held until the wait begins, so that no call to wake up is missed
            while True:
                action = self._talk.next_action(now())
                if action is None or isinstance(action, Request):
                    return action
                await self._pause(action)
