"""Waiting for what must become true: at once when it is, long on a machine with more to do than this."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 180.0
"""Seconds for what takes a few on a machine with nothing else to do; less than a test has, so that it can be told."""


def until(true: Callable[[], Found], what: str = "", seconds: float = PATIENCE, every: float = 0.01) -> Found:
    """The first true value of `true`, which is asked again and again; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what or _text(true)}; last: {found!r}")
        time.sleep(every)
    return found


def _text(true: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(true).split())
    except (OSError, TypeError):
        return repr(true)
