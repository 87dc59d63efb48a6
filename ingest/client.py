"""Posts a session's steps to the gateway without making the app wait; `ingest.async_client` is its twin for asyncio.

    with SessionClient("http://127.0.0.1:7070", token, app="desktop") as session:
        session.post({"x": 31, "y": 7}, members={"png": frame}, model_version="000042")

Steps are buffered up to a bound, batched, and sent in the background as the same bytes until the gateway has them on
disk. When the gateway is away the client goes on trying; when it refuses for good, the next call raises why.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import httpx

from ingest.conversation import ClientSettings, Request, step_fields
from ingest.errors import BufferFull, ClientError
from ingest.posting import NOTHING, TIMEOUT, Posting, now

GRACE = 1.0
"""Seconds that `close` waits for a request in flight."""


class SessionClient(Posting):
    """One session, for threads: `post` only buffers, a background thread sends. Any thread may call any method.

    `session_id` may be chosen (never twice); with `resume` an open session of that id is gone on with, if there is
    one. `http` may be shared between many sessions. `post` may come before `open`, or without it.
    """

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
        http: httpx.Client | None = None,
    ) -> None:
        super().__init__(url, token, app, metadata=metadata, session_id=session_id, resume=resume, settings=settings)
        self._own_http = http is None
        self._http = http or httpx.Client(timeout=TIMEOUT, verify=self._verify())
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def open(self, timeout: float = 30.0) -> None:
        """Open the session at the gateway; raises `NotDurable` when that takes longer (and goes on trying)."""
        with self._changed:
            self._start()
            self._wait(lambda: self._talk.opened, "open", timeout)

    def post(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        members: Mapping[str, bytes] = NOTHING,
        is_reset: bool = False,
        is_eos: bool = False,
        model_version: str | None = None,
        time: float | None = None,
        extra: Mapping[str, Any] = NOTHING,
        timeout: float = 0.0,
    ) -> int:
        """Buffer a step and return its seq. Waits up to `timeout` seconds for room, then raises `BufferFull`."""
        fields = step_fields(inputs, time, is_reset, is_eos, model_version, members, extra)
        deadline = now() + timeout
        with self._changed:
            self._start()
            while True:
                try:
                    seq = self._talk.add(fields, members, now())
                except BufferFull:
                    if now() >= deadline:
                        raise
                    self._changed.wait(deadline - now())
                else:
                    self._changed.notify_all()
                    return seq

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until every step posted so far is on the gateway's disk; raises `NotDurable` when it takes longer."""
        with self._changed:
            self._start()
            wanted = self._talk.hurry()
            self._changed.notify_all()
            self._wait(lambda: self._talk.acked >= wanted, "flush", timeout)

    def end(self, timeout: float = 30.0) -> None:
        """Send what was posted and end the session; raises `NotDurable` when it takes longer."""
        with self._changed:
            self._start()
            self._talk.finish()
            self._changed.notify_all()
            self._wait(lambda: self._talk.ended, "end", timeout)

    def close(self) -> None:
        """Stop sending, at once: what is not acknowledged is given up, and an open session is left to its time-out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(GRACE)
        if self._own_http:
            self._http.close()

    def __enter__(self) -> SessionClient:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session. An exception of the block is not hidden by one of the gateway's."""
        try:
            if kind is None:
                self.end()
            else:
                with suppress(ClientError):
                    self.end(timeout=2.0)
        finally:
            self.close()

    def _start(self) -> None:
        if self._closing:
            raise ClientError(f"session {self.session_id}: this client is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name=f"session-{self.session_id}", daemon=True)
            self._thread.start()

    def _wait(self, done: Callable[[], bool], what: str, timeout: float) -> None:
        self._changed.wait_for(lambda: done() or self._talk.failure is not None or self._closing, timeout)
        self._checked(done(), what, timeout)

    def _send(self) -> None:
        while (request := self._next_request()) is not None:
            reply: httpx.Response | Exception
            try:
                reply = self._http.request(**self._arguments(request))
            except Exception as error:  # whatever it is, those who wait must hear of it
                reply = error
            with self._changed:
                self._heard(request, reply)
                self._changed.notify_all()

    def _next_request(self) -> Request | None:
        with self._changed:
            while not self._closing:
                action = self._talk.next_action(now())
                if action is None or isinstance(action, Request):
                    return action
                self._changed.wait(None if math.isinf(action) else action)
            return None
