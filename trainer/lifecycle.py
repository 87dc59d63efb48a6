"""The way of a run through its segments: what is loaded before one begins, what is said when it does, and how it ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from control import Outcome, RunStatus
from publish import Courier
from trainer.checkpoints import Start
from trainer.ema import Ema
from trainer.journal import TrainedJournal
from trainer.link import Link
from trainer.ranks import Ranks
from trainer.segments import Fork, RunFolder, Segment
from trainer.steering import Departure, Leave

if TYPE_CHECKING:
    from trainer.steering import Steering

logger = logging.getLogger(__name__)


_decode_segment = msgspec.json.Decoder(Segment).decode


class Lifecycle:
    """Leads one training through its segments."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._start: Start | None = None
        self._on_trial: Departure | None = None
        self._new_data = False

    @contextlib.contextmanager
    def run(self, ranks: Ranks, link: Link) -> Iterator[None]:
        """Around all segments of one `train()`; says how it ended, and ends every command that is still open."""
        steering = self._steering
        steering.ranks, steering.link = ranks, link
        steering.leaving, steering.paused = None, False
        try:
            with self._carried():
                yield
        except BaseException as error:
            reason = f"training ended with {type(error).__name__}: {error}"
            self._end(RunStatus.CRASHED, reason)
            raise
        departure = steering.leaving
        if departure is None:
            self._end(RunStatus.FINISHED, f"step {steering.step} was the last")
        elif departure.why is Leave.STOPPED:
            if departure.command is not None:
                steering.desk.settle(departure.command, Outcome.SUCCESS)
            self._end(RunStatus.STOPPED, departure.reason)
        else:
            self._end(None, departure.reason)  # the next process goes on with it

    @contextlib.contextmanager
    def _carried(self) -> Iterator[None]:
        """While weights can be handed over, on the main rank; those that were given last are safe when it ends."""
        steering = self._steering
        if steering.settings.outbox is None or not steering.ranks.main:
            yield
            return
        with Courier(steering.settings.outbox) as steering.courier:
            yield
        steering.courier = None

    def prepare(self, start: Start) -> None:
        """Before the Trainer loads anything: the data goes on where the checkpoint stands."""
        self._start, self._new_data = start, start.construction is not None
        if start.checkpoint is not None:
            start.checkpoint.check()
            if self._steering.saver.restore_data(start.checkpoint, start.construction):
                self._new_data = True  # also that of a checkpoint from before it was changed

    def begin(self) -> None:
        """The Trainer has loaded everything: a segment begins."""
        start, steering = self._start, self._steering
        if start is None:
            raise RuntimeError("a segment begins in train() only; on_train_begin came from elsewhere")
        departure, steering.leaving = steering.leaving, None
        steering.segment = segment = self._open_segment(start)
        if steering.settings.ema is not None:
            steering.ema = Ema(steering.model, steering.settings.ema)
        if start.checkpoint is not None:
            steering.saver.restore(start.checkpoint)
        if steering.settings.journal:
            steering.journal = TrainedJournal(steering.folder.folder_of(segment.id), steering.ranks.rank)
        self._start = None
        steering.segment_began()
        steering.reporter.segment(segment)
        steering.status(RunStatus.PAUSED if steering.paused else RunStatus.RUNNING)
        steering.reporter.everything()
        # new data has proved itself only when a step has been trained on it
        self._on_trial = departure if self._new_data else None
        if departure is not None and (self._on_trial is None or steering.paused):
            self._answer(departure, Outcome.SUCCESS)

    def step_ended(self) -> None:
        """A step was completed: what was on trial until then stays."""
        departure, self._on_trial = self._on_trial, None
        if departure is not None:
            self._answer(departure, Outcome.SUCCESS)

    def depart(self) -> Start | None:
        """The Trainer has left its loop: where it begins again, None where it does not."""
        steering = self._steering
        self._close()
        departure = steering.leaving
        if departure is None or departure.start is None:
            return None
        steering.desk.settle_all(
            Outcome.SUPERSEDED, "another state was loaded before its effect showed", but=departure.command
        )
        return departure.start

    def retreat(self, error: Exception) -> Start:
        """What was to be loaded could not be: where to go on instead. Raises the error where there is no such place."""
        steering = self._steering
        departure, self._on_trial = self._on_trial or steering.leaving, None
        began = self._start is None
        if departure is None or departure.fallback is None or (began and departure is steering.leaving):
            raise error
        self._close()
        reason = f"{type(error).__name__}: {error}; training goes on from where it was"
        logger.error("%s failed: %s", departure.reason, reason, exc_info=error)
        self._answer(departure, Outcome.FAILED, reason)
        steering.leaving = None
        return departure.fallback

    # Within

    def _answer(self, departure: Departure, outcome: Outcome, reason: str = "") -> None:
        """End the command that asked for this; one that has its outcome already is left as it is."""
        segment = self._steering.segment
        if departure.command is not None and segment is not None:
            told = {"branch": segment.branch, "segment": segment.id, "step": self._steering.step}
            self._steering.desk.settle(departure.command, outcome, reason, told)

    def _open_segment(self, start: Start) -> Segment:
        """Rank 0 opens it; the others learn which."""
        steering = self._steering
        text = ""
        if steering.ranks.main:
            opened = steering.folder.open_segment(steering.run, start.branch, start.reason, start.parent, start.note)
            _pin_elsewhere(start.parent, steering.run)
            text = msgspec.json.encode(opened).decode()
        return _decode_segment(steering.ranks.share(text))

    def _close(self) -> None:
        steering = self._steering
        steering.loop.begin_again()
        steering.health.end()
        if steering.journal is not None:
            steering.journal.close()
        for numbers in steering.meter.read(everything=True):
            steering.reporter.metrics(numbers)

    def _end(self, status: RunStatus | None, reason: str) -> None:
        steering = self._steering
        self._close()
        steering.desk.settle_all(Outcome.FAILED, reason)
        steering.refuse_waiting(reason)
        if status is not None:
            steering.status(status, reason)
        steering.link.close(reason)


def _pin_elsewhere(fork: Fork | None, run: str) -> None:
    """Where this run begins at a checkpoint of another one, the other's retention keeps it."""
    if fork is None or not fork.run:
        return
    folder = Path(fork.path).parents[2]
    if (folder / "segments").is_dir():
        RunFolder(folder).pin(fork.checkpoint, run)
