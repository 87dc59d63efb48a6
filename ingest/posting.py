"""What both clients have in common: everything but how they wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from ingest.conversation import ClientSettings, Conversation, Fault, Request
from ingest.errors import ClientError, NotDurable
from ingest.sessions import new_session_id

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
NOTHING: Mapping[str, Any] = {}


def now() -> float:
    """Seconds of the clock that conversations go by."""
    return time.monotonic()


class Posting:
    """One session at one gateway, and how far it got."""

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
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: {url!r} must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        settings = settings or ClientSettings()
        self._talk = Conversation(session_id or new_session_id(), app, metadata or {}, resume, settings)

    @property
    def session_id(self) -> str:
        """The session's id: the one that was given, or one that was made."""
        return self._talk.session_id

    @property
    def next_seq(self) -> int:
        """The seq that the next posted step will have."""
        return self._talk.next_seq

    @property
    def durable_through(self) -> int:
        """The last seq that is on the gateway's disk; -1 when there is none."""
        return self._talk.acked - 1

    @property
    def rejected(self) -> tuple[tuple[int, Fault], ...]:
        """Steps that the gateway took with a fault, and what it was; the last `MAX_REJECTED`."""
        return tuple(self._talk.rejected)

    @property
    def failure(self) -> ClientError | None:
        """Why the gateway refused for good, if it did; any further call raises it."""
        return self._talk.failure

    def _checked(self, done: bool, what: str, timeout: float) -> None:
        if self._talk.failure is not None:
            raise self._talk.failure
        if not done:
            told = f"{self._talk.next_seq - self._talk.acked} steps wait"
            raise NotDurable(f"{what} took longer than {timeout:g} s ({told}); it is still being tried")

    def _arguments(self, request: Request) -> dict[str, Any]:
        headers = {**self._headers, **request.headers}
        return {"method": request.method, "url": self._url + request.path, "headers": headers, "content": request.body}

    def _heard(self, request: Request, reply: httpx.Response | Exception) -> None:
        if isinstance(reply, httpx.Response):
            self._talk.replied(request, reply.status_code, reply.headers, reply.content, now())
        elif isinstance(reply, httpx.RequestError):
            self._talk.failed(now())
        else:
            self._talk.fail(ClientError(f"session {self.session_id}: cannot send at all ({reply!r})"))

    def _verify(self) -> bool:
        return self._url.startswith("https")  # saves loading certificates where none is needed
