"""Hands weights over so that training waits for a copy, and for no disk.

Weights are written in the thread that gives them, which costs what a copy in memory does: the system keeps what was
written until it is synced. Syncing takes as long as the disk does, and happens in a thread that needs no processor.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from publish.outbox import KEPT, Placed, Ticket, Written, written

logger = logging.getLogger(__name__)

Write = Callable[[Path], object]


@dataclass(frozen=True)
class _Load:
    """What was written, until `ends` is closed; and whom to tell of it."""

    entry: Written
    ends: ExitStack
    placed: Future[Placed]


class Courier:
    """One per outbox. What waits gives way to what is newer in its channel, so training is never held up by a slow disk,
    which then holds two copies of the weights at most.

    The thread ends with the block, after what was given last.
    """

    def __init__(self, outbox: Path, *, kept: int = KEPT) -> None:
        self._outbox, self._kept = outbox, kept
        self._changed = threading.Condition()
        self._waiting: dict[str, _Load] = {}
        self._overtaken: list[_Load] = []
        self._closing = False
        self._thread = threading.Thread(target=self._carry, name="courier", daemon=True)

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def give(self, write: Write, ticket: Ticket) -> Future[Placed]:
        """Write the weights now, and have them handed over soon; raises what `written` raises.

        The future is cancelled where they give way to newer ones. What cannot be placed is logged, whoever waits or not.
        """
        ends = ExitStack()
        load = _Load(ends.enter_context(written(self._outbox, write, ticket)), ends, Future())
        with self._changed:
            before = self._waiting.pop(ticket.channel, None)
            if before is not None:
                before.placed.cancel()
                self._overtaken.append(before)
            self._waiting[ticket.channel] = load
            self._changed.notify()
        return load.placed

    def _carry(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                overtaken, self._overtaken = self._overtaken, []
                load = self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
            for older in overtaken:
                older.ends.close()
            if load is None:
                return
            self._place(load)

    def _place(self, load: _Load) -> None:
        load.placed.set_running_or_notify_cancel()
        try:
            with load.ends:
                placed = load.entry.place(self._kept)
        except Exception as error:  # a full disk: training goes on, the next one may do
            logger.exception("the weights of step %s are not handed over", load.entry.ticket.step)
            load.placed.set_exception(error)
        else:
            load.placed.set_result(placed)
