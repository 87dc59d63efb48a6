"""What is done by itself every so many steps or seconds."""

from __future__ import annotations

import time

from trainer.settings import Every


class Clock:
    """Tells when something is due again; `done` starts the count anew."""

    def __init__(self, every: Every) -> None:
        self._every = every
        self._step, self._time = 0, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether it is time."""
        return self._every.due(step - self._step, time.monotonic() - self._time)

    def done(self, step: int) -> None:
        """It was done, or tried; at this step."""
        self._step, self._time = step, time.monotonic()
