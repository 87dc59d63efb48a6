"""The one thread on which everything that is written happens, so that a slow disk never keeps the server waiting.

A sync to disk takes milliseconds, and seconds while a checkpoint of gigabytes is written beside it. Pings, probes,
pages and everything that is only read go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")

logger = logging.getLogger(__name__)


class Desk:
    """Does work in the order in which it is asked for. The thread starts with the first piece, and is a daemon."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin, from the loop that is to be told."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._do_all, name="control-desk", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs) -> Found:
        """The result of `work`, done at the desk; what it raises is raised here."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()

        def done() -> None:
            try:
                found = work(*args, **kwargs)
            except Exception as error:
                self.tell(_fail, future, error)
            else:
                self.tell(_fulfil, future, found)

        self._work.put(done)
        return await future

    def later(self, work: Callable[Given, object], *args: Given.args, **kwargs: Given.kwargs) -> None:
        """Have `work` done, without waiting; from a task that is being cancelled, too. An exception is logged."""

        def done() -> None:
            try:
                work(*args, **kwargs)
            except Exception:
                logger.exception("work at the desk failed")

        self._work.put(done)

    def tell(self, listener: Callable[Given, object], *args: Given.args, **kwargs: Given.kwargs) -> None:
        """Call `listener` on the loop, in the order of telling; at once before there is a loop."""
        loop = self._loop
        if loop is None:
            listener(*args, **kwargs)
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who would listen
            loop.call_soon_threadsafe(lambda: listener(*args, **kwargs))

    async def close(self) -> None:
        """Do what was asked for so far, then end."""
        self._work.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _do_all(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _fulfil(future: asyncio.Future[Found], found: Found) -> None:
    if not future.done():  # else whoever asked has gone
        future.set_result(found)


def _fail(future: asyncio.Future[Found], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
