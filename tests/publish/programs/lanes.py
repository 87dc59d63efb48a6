"""Trials of kills, shared out to processes that run them beside each other."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, FrameType

LANES = min(2, os.cpu_count() or 1)
"""A trial waits for its disk or its server half of the time."""
ENOUGH = 4
"""Failures after which a lane gives up."""


class Killer:
    """Counts the calls of all threads that `counts` says, and kills this process right before the k-th; with 0, none."""

    def __init__(self, at: int, counts: Callable[[str, str], bool]) -> None:
        self._at, self._counts = at, counts
        self._numbers = itertools.count(1)
        self.seen = 0

    def install(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        if event != "c_call" or not isinstance(called, BuiltinFunctionType):
            return
        owner = getattr(called, "__self__", None)
        if self._counts(called.__module__ or type(owner).__module__, called.__name__):
            self.seen = number = next(self._numbers)
            if number == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def spare() -> None:
    """Let the killer count no more."""
    threading.setprofile(None)
    sys.setprofile(None)


def begin(work: Callable[[], None]) -> int:
    """Run `work` in a forked child, which ends with 0, or with 1 for an exception; its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            spare()
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait for a child: minus the signal that killed it, or what it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; minus the signal that killed it, 0, or 1 for an exception."""
    return ended(begin(work))


@dataclass
class Found:
    """`trials` are kills that happened, `missed` trials whose work ended before its kill, `calls` the last call that was
    tried."""

    trials: int = 0
    missed: int = 0
    calls: int = 0
    failures: list[str] = field(default_factory=list)


def sweep(folder: Path, first: int, stride: int, least: int, trial: Callable[[Path, int], bool]) -> dict[str, object]:
    """Kill at every `stride`-th call from `first` on: up to `least`, and on until the work ends before its kill.

    `trial` gets its lane's folder and the call, and says whether that was reached; it fails by AssertionError.
    """

    def lane(number: int) -> None:
        found, place, at = Found(), folder / f"lane{number}", first + number * stride
        place.mkdir(parents=True)
        reached = True
        while (reached or at <= least) and len(found.failures) < ENOUGH:
            try:
                reached = trial(place, at)
                found.trials, found.missed = found.trials + reached, found.missed + (not reached)
            except AssertionError as error:
                found.failures.append(f"call {at}: {error}")
            found.calls, at = at, at + LANES * stride
        (folder / f"found{number}").write_text(json.dumps(asdict(found)))

    lanes = {begin(lambda number=number: lane(number)): number for number in range(LANES)}
    for process, number in lanes.items():
        if status := ended(process):
            raise RuntimeError(f"lane {number} ended by itself: {status}")
    told = [Found(**json.loads((folder / f"found{number}").read_text())) for number in lanes.values()]
    return {
        "trials": sum(each.trials for each in told),
        "missed": sum(each.missed for each in told),
        "calls": max(each.calls for each in told),
        "failures": [failure for each in told for failure in each.failures],
    }
