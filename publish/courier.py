"""Hands weights over in a thread of its own, so that training waits for a copy in memory and for no disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from publish.crew import be_nice
from publish.outbox import KEPT, Placed, Ticket, put

logger = logging.getLogger(__name__)

Write = Callable[[Path], object]


class Courier:
    """One per outbox. `told` hears of everything that was handed over, in the courier's thread; of what could not be,
    the log does.

    What waits gives way to what is newer in its channel, so there are never more than two copies of the weights. The
    thread ends with the block, after what was given last.
    """

    def __init__(
        self, outbox: Path, *, kept: int = KEPT, told: Callable[[Placed], object] = lambda placed: None
    ) -> None:
        self._outbox, self._kept, self._told = outbox, kept, told
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[Write, Ticket]] = {}
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

    def give(self, write: Write, ticket: Ticket) -> Ticket | None:
        """Take what `put` takes, and return at once with the ticket that gave way to it, if one did.

        `write` is called later, in another thread: it must hold a copy of the weights, which nobody changes.
        """
        with self._changed:
            before = self._waiting.pop(ticket.channel, None)
            self._waiting[ticket.channel] = write, ticket
            self._changed.notify()
        return None if before is None else before[1]

    def _carry(self) -> None:
        be_nice()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                write, ticket = self._waiting.pop(next(iter(self._waiting)))
            try:
                placed = put(self._outbox, write, ticket, kept=self._kept)
            except Exception:  # a full disk, or weights that no version may hold: training goes on, the next one may do
                logger.exception("the weights of step %s are not handed over", ticket.step)
                continue
            self._told(placed)
