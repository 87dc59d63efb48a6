"""Work on blocks by several threads, in order and within bounds, and behind whatever else the machine has to do.

numpy, zstandard and hashlib let go of the interpreter while they work, so threads are enough. Training and serving go
on beside them, and come first.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

WORKERS = min(4, os.cpu_count() or 1)
NICER = 10
"""How much nicer than the process its threads are; where threads have no priority of their own, they have its."""

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `work` makes of each item, in their order. Few items are taken ahead of those that were asked for.

    An exception is raised where its result would come.
    """
    if WORKERS == 1:
        yield from map(work, items)
        return
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(WORKERS, "crew", initializer=be_nice) as crew:
        try:
            for item in items:
                ahead.append(crew.submit(work, item))
                if len(ahead) > 2 * WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for left in ahead:
                left.cancel()


def be_nice() -> None:
    """Let this thread come after all others, where threads have a priority of their own."""
    if sys.platform == "linux":
        with suppress(OSError):
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + NICER))
