"""What is done by itself every so many steps or seconds: checkpoints, versions, figures."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from publish import Placed, PublishError
from trainer.errors import CheckpointError, TrainerError
from trainer.settings import Every

if TYPE_CHECKING:
    from trainer.steering import Steering


class Clock:
    """Tells when something is due again; `done` starts the count anew."""

    def __init__(self, every: Every, step: int = 0) -> None:
        self._every = every
        self.done(step)

    def due(self, step: int) -> bool:
        """Whether it is time."""
        return self._every.due(step - self._step, time.monotonic() - self._time)

    def done(self, step: int) -> None:
        """It was done, or tried; at this step."""
        self._step, self._time = step, time.monotonic()


class Routine:
    """Saves, publishes and tells when it is time. What fails costs a checkpoint or a version, not the run, and is tried
    again in time."""

    def __init__(self, steering: Steering) -> None:
        settings, step = steering.settings, steering.step
        self._steering = steering
        self.saving = Clock(settings.checkpoint, step)
        self.publishing = Clock(settings.publish, step)
        self._telling = Clock(settings.statistics, step)
        self._given: Future[Placed] | None = None

    def due(self) -> tuple[bool, bool]:
        """Whether a checkpoint and a version are due. Rank 0 decides for all, as clocks differ."""
        step = self._steering.step
        return self.saving.due(step), self.publishing.due(step)

    def follow(self, save: bool, publish: bool) -> None:
        """Do what is due, on every rank alike."""
        steering = self._steering
        if save:
            try:
                steering.save("policy")
            except CheckpointError as error:
                steering.reporter.health("checkpoint", str(error), level="error")
        if publish:
            try:
                before, self._given = self._given, steering.publish(steering.settings.channel)
                if before is not None and before.done() and not before.cancelled():
                    before.result()  # what was in the way of the last one has not been told yet
            except (TrainerError, PublishError, OSError) as error:
                steering.reporter.health("publish", f"{type(error).__name__}: {error}", level="error")
        self.tell()

    def tell(self) -> None:
        """Say how the mixture and the optimizer stand, if it is time; also while data is waited for."""
        steering = self._steering
        if not steering.ranks.main or not self._telling.due(steering.step):
            return
        self._telling.done(steering.step)
        steering.reporter.mixture()
        steering.reporter.optimizer()
