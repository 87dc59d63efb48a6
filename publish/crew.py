"""Work on blocks by several threads, in order and within bounds, and behind whatever else the machine has to do.

numpy, zstandard and hashlib let go of the interpreter while they work, so threads are enough. Training and serving go
on beside them, and come first.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

WORKERS = min(4, os.cpu_count() or 1)
NICER = 10
"""How much nicer nice threads are than the process was when it began; where threads have no priority of their own, they
have its."""
_BEGAN = os.getpriority(os.PRIO_PROCESS, 0) if sys.platform == "linux" else 0
SLICE = 100_000
"""Nanoseconds that whoever wakes up waits for a nice thread, at most. Linux's own slice is some milliseconds, which a
request would feel."""

PIECE = 1 << 19
"""Bytes that are worked on beside requests before `breathe`: less than half a millisecond."""
PIECES = 4
"""Small ones, as many as are worked on before `breathe`."""
BREATH = 0.0002
"""Seconds in which a request that waits for the interpreter gets it; without a pause it would wait five milliseconds,
however often the interpreter is let go of (https://docs.python.org/3/library/sys.html#sys.setswitchinterval)."""

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


def breathe() -> None:
    """Let requests go first; between two pieces of work in a process that serves."""
    time.sleep(BREATH)


class Pace:
    """Breathes after each so many bytes, or pieces of a few bytes: each costs more than its bytes."""

    def __init__(self) -> None:
        self._bytes = self._pieces = 0

    def did(self, size: int) -> None:
        """One more piece of `size` bytes was worked on."""
        self._bytes += size
        self._pieces += 1
        if self._bytes >= PIECE or self._pieces >= PIECES:
            self._bytes = self._pieces = 0
            breathe()


@contextmanager
def beside(work: Callable[[], R]) -> Iterator[Callable[[], R]]:
    """Begin `work` in a thread, and go on; what comes waits for it and returns what it made, or raises what it raised."""
    with ThreadPoolExecutor(1, "beside", initializer=be_nice) as crew:
        yield crew.submit(work).result


def be_nice(by: int = NICER) -> None:
    """Let this thread come after all others, where threads have a priority of their own, and in short slices."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        nice = max(os.getpriority(os.PRIO_PROCESS, 0), min(19, _BEGAN + by))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        _take_short_slices(nice)


class LastInLine:
    """Work of this process that has only what others leave; for `at_most` seconds, after which it goes on as a nice
    process does, since where all cores are busy it would hardly run.

    Linux takes a core that runs nothing but threads of the policy SCHED_IDLE for a free one when a request wakes up;
    behind the nicest ordinary process it does not, and lets the request wait for another request on another core
    (https://man7.org/linux/man-pages/man7/sched.7.html). The policy is taken only where it can be left again, which asks
    for the right to set priorities: a limit RLIMIT_NICE of 1 or more, or CAP_SYS_NICE.
    """

    def __init__(self, at_most: float) -> None:
        self._at_most = at_most
        with ThreadPoolExecutor(1) as another:
            self._may = sys.platform == "linux" and another.submit(_may_come_back).result()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Call it from the thread that starts all others which work."""
        if not self._may:
            yield
            return
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over, threading.get_native_id()), daemon=True)
        watch.start()  # before it is the turn of all others: it has to run when they do not
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _watch(self, over: threading.Event, first: int) -> None:
        over.wait(self._at_most)
        _take_turns(first)  # what it starts from now on is as it is
        for thread in map(int, os.listdir("/proc/self/task")):
            _take_turns(thread)


def _take_turns(thread: int) -> None:
    """Make an ordinary thread of one that was last in line."""
    with suppress(OSError):  # it has ended
        if os.sched_getscheduler(thread) == os.SCHED_IDLE:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            _take_short_slices(os.getpriority(os.PRIO_PROCESS, thread), thread)


def _may_come_back() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:
        return False
    return True


_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""https://man7.org/linux/man-pages/man2/sched_setattr.2.html; glibc has no function for it."""


def _take_short_slices(nice: int, thread: int = 0) -> None:
    """Linux 6.12 and later take the runtime of an ordinary thread as its slice; older ones leave it as it is."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None and os.sched_getscheduler(thread) == os.SCHED_OTHER:
        # size, policy, flags, nice, priority, runtime, deadline, period
        asked = struct.pack("<IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, SLICE, 0, 0)
        ctypes.CDLL(None).syscall(number, thread, asked, 0)
