"""Trying again for a while: a broker that has just come up answers before it knows who leads which partition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.05
"""Seconds between two tries."""


def patiently(attempt: Callable[[], T], passing: type[Exception] | tuple[type[Exception], ...], seconds: float) -> T:
    """What an attempt gives; what it raises of `passing` only once it has been tried for `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except passing:
            if time.monotonic() >= deadline:
                raise
        time.sleep(PAUSE)
