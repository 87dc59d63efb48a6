"""Group commit: one thread takes all requests that wait, plans them on one draft, and makes them durable at once.

While a commit is on its way to the disk, the next group gathers; so a lone request waits for one fsync, and many
share one. Where bodies are just being read, a group waits for them, for no longer than the commit before took. Answers
are given after the commit only, those of refused requests too: what they were refused for may itself have been in the
group.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from ingest.errors import IngestError, LogBroken, LogError, LogLocked, LogUnavailable
from ingest.gateway.metrics import Metrics
from ingest.gateway.outage import OutageProof
from ingest.log import LogWriter
from ingest.sessions import Draft, SessionIndex
from ingest.settings import GatewaySettings
from ingest.trimming import Trimming

T = TypeVar("T")

logger = logging.getLogger(__name__)

SLOW = 1.0
"""Seconds of a commit beyond which its time counts as nobody's silence: what came meanwhile had to wait."""
LONGEST_LINGER = 0.1
"""Seconds that a commit waits at most for bodies that are coming in."""
SPOOLING_PAUSE = 0.02
"""Seconds that a quiet committer waits between two pieces of a spool that is drained."""


class _Request(Generic[T]):
    """Something to be applied to a draft, and who waits for it."""

    __slots__ = ("future", "loop", "outcome", "plan", "size")

    def __init__(self, plan: Callable[[Draft], T], size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.plan, self.size, self.loop = plan, size, loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.outcome: T | BaseException | None = None

    def answer(self) -> None:
        if self.future.done():  # whoever waited has gone
            return
        if isinstance(self.outcome, BaseException):
            self.future.set_exception(self.outcome)
        else:
            self.future.set_result(self.outcome)  # type: ignore[arg-type]


class Committer:
    """The only thread that writes. `broken` is called from it when the log takes nothing any more."""

    def __init__(
        self,
        writer: LogWriter,
        index: SessionIndex,
        settings: GatewaySettings,
        metrics: Metrics,
        trimming: Trimming | None = None,
        broken: Callable[[LogError], None] = lambda error: None,
        outage: OutageProof | None = None,
    ) -> None:
        self._writer, self._index, self._settings, self._metrics = writer, index, settings, metrics
        self._trimming, self._tell_broken, self._outage = trimming, broken, outage
        self._waiting: queue.SimpleQueue[_Request[Any] | None] = queue.SimpleQueue()
        self._carried: _Request[Any] | None = None
        self._coming = 0  # changed in the event loop only
        self._linger = 0.0
        self._next_sweep = time.monotonic() + settings.sweep_seconds
        self._next_trim = time.monotonic() + settings.retention_seconds
        self._stopping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    @contextmanager
    def coming(self) -> Iterator[Callable[[], None]]:
        """While a body is read that will be applied: a commit waits for it a little, for each costs the brokers a
        transaction. Gives what is to be called as soon as the body is there.
        """
        self._coming += 1
        here = False

        def arrived() -> None:
            nonlocal here
            if not here:
                here = True
                self._coming -= 1

        try:
            yield arrived
        finally:
            arrived()

    async def apply(self, plan: Callable[[Draft], T], size: int = 0) -> T:
        """What `plan` returns, once everything that it did is durable; raises what it raised, or `LogError`."""
        request = _Request(plan, size, asyncio.get_running_loop())
        self._waiting.put(request)
        if self._ended.is_set():  # whoever looks last refuses: this one, or the thread on its way out
            self._refuse_rest()
        return await request.future

    def stop(self, timeout: float) -> bool:
        """Commit what waits, then end the thread; False when it took longer than `timeout`."""
        self._waiting.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Tell those who came too late for the thread; nothing of theirs was written."""
        late: list[_Request[Any]] = []
        with suppress(queue.Empty):
            while True:
                if (request := self._waiting.get_nowait()) is not None:
                    request.outcome = LogUnavailable("this gateway lets go of the share; try again in a moment")
                    late.append(request)
        _answer(late)

    def _work(self) -> None:
        while not self._stopping:
            group = self._gather()
            self._try(lambda: self._commit(group))  # noqa: B023  (called at once)
            if self._outage is not None and self._outage.spooling:
                self._try(self._outage.drain)
                self._metrics.spool_bytes.set(self._outage.spooled_bytes)
                if self._outage.nearly_full:  # then this gateway is not ready, and clients are kept away
                    self._index.silence.stand(time.monotonic())
                continue
            self._try(self._writer.tidy)
            self._try(self._trim)

    def _try(self, task: Callable[[], None]) -> None:
        """Whatever fails, the thread goes on: those who wait were told, and it is for others to end the process."""
        try:
            task()
        except (LogBroken, LogLocked) as error:
            logger.critical("the log is not to be written any more: %s", error)
            self._tell_broken(error)
        except LogError as error:
            logger.error("the log refused: %s", error)
        except Exception:
            logger.exception("the committer met a bug; it goes on")

    def _gather(self) -> list[_Request[Any]]:
        """The requests that wait, up to a group's bytes; none when it is time for chores."""
        group: list[_Request[Any]] = []
        size = 0
        try:
            request = self._carried or self._waiting.get(timeout=self._patience())
            self._carried = None
            until = time.monotonic() + self._linger
            while request is not None:
                if group and size + request.size > self._settings.group_bytes:
                    self._carried = request
                    return group
                group.append(request)
                size += request.size
                request = self._next(until)
            self._stopping = True
        except queue.Empty:
            pass
        return group

    def _next(self, until: float) -> _Request[Any] | None:
        """What waits, or comes before `until` if something is coming in. Raises `queue.Empty`."""
        with suppress(queue.Empty):
            return self._waiting.get_nowait()
        left = until - time.monotonic()
        if self._coming <= 0 or left <= 0:
            raise queue.Empty
        return self._waiting.get(timeout=left)

    def _patience(self) -> float:
        if self._outage is not None and self._outage.spooling:
            return SPOOLING_PAUSE
        return max(0.0, self._next_chore() - time.monotonic())

    def _next_chore(self) -> float:
        return min(self._next_sweep, self._next_trim) if self._trimming is not None else self._next_sweep

    def _commit(self, group: Sequence[_Request[Any]]) -> None:
        began = time.monotonic()
        try:
            draft = self._index.draft()
            for request in group:
                try:
                    request.outcome = request.plan(draft)
                except Exception as error:  # told to the one who asked
                    request.outcome = error
            forgotten = self._sweep(draft)
            if draft.appends or draft.changed:
                (self._writer if self._outage is None else self._outage).commit(draft.appends, draft.state())
            took = time.monotonic() - began
            self._linger = min(took, LONGEST_LINGER)  # so waiting at most doubles the time to an answer
            if took > SLOW:
                self._index.silence.stand(began, grace=0.0)
            self._index.adopt(draft)
        except BaseException as error:
            self._index.silence.stand(began)
            for request in group:
                request.outcome = error if isinstance(error, IngestError) else LogError(repr(error))
            raise
        finally:
            _answer(group)
        self._count(len(group), draft, forgotten)

    def _sweep(self, draft: Draft) -> int:
        if time.monotonic() < self._next_sweep:
            return 0
        self._next_sweep = time.monotonic() + self._settings.sweep_seconds
        return draft.expire()

    def _trim(self) -> None:
        if self._trimming is None or time.monotonic() < self._next_trim:
            return
        self._next_trim = time.monotonic() + self._settings.retention_seconds
        self._metrics.trimmed.inc(self._trimming.run(time.time()))

    def _count(self, requests: int, draft: Draft, forgotten: int) -> None:
        if requests:
            self._metrics.group_requests.observe(requests)
        for reason in draft.ended:
            self._metrics.sessions.labels(reason.value).inc()
        if forgotten:
            self._metrics.sessions.labels("forgotten").inc(forgotten)


def _answer(group: Sequence[_Request[Any]]) -> None:
    """Answer all, with one call into each event loop that asked (there is one, but for tests)."""
    for loop in {request.loop for request in group}:
        mine = [request for request in group if request.loop is loop]
        try:
            loop.call_soon_threadsafe(_answer_here, mine)
        except RuntimeError:  # the loop was closed: nobody waits any more
            logger.debug("%d answers came too late", len(mine))


def _answer_here(group: Sequence[_Request[Any]]) -> None:
    for request in group:
        request.answer()
