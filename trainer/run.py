"""A run that goes on over crashes and restarts: what `stovetop train` calls."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from control import RunStatus, SettingsError
from trainer.errors import CheckpointForeign, CheckpointMissing, SettingsInvalid
from trainer.segments import RunFolder
from trainer.settings import InteractiveSettings

DONE = 0
FAILED = 1
CONFIGURATION_ERROR = 78
"""EX_CONFIG of sysexits.h: starting again will not help before something is changed."""
TERMINATED = 143
GRACE = 20.0
"""Seconds that a terminated run has for its last checkpoint."""

Recipe = Callable[[InteractiveSettings], Any]
"""Makes the trainer (of a class that `make_interactive` made), with the settings it is given as `control`."""

logger = logging.getLogger(__name__)


def train_run(recipe: Recipe, settings: InteractiveSettings, *, grace: float = GRACE) -> int:
    """Train a run until it is stopped; a process that dies is simply started again. Returns the process's exit status.

    It goes on from the newest whole checkpoint of the newest segment's chain. A run that was stopped (or reached its last
    step) stays so, and 0 is returned at once, unless `settings.starts`. SIGTERM and SIGINT save a checkpoint and leave
    (0), or end the process by force after `grace` seconds. Call it from the main thread.
    """
    if settings.folder is None or settings.run is None:
        logger.error("train: a run needs a folder and a name; set `folder` and `run`")
        return CONFIGURATION_ERROR
    from dataset import ParameterError, StateError  # brings torch, which those who only ask `wanted` do without

    folder = RunFolder(settings.folder)
    try:
        if not settings.starts and not wanted(settings.folder):
            logger.info("train: %s was ended on purpose, and stays so until it is started again", settings.run)
            return DONE
        trainer = recipe(settings)
        with _obeying_signals(trainer, grace):
            begun = bool(folder.segments())
            first = None if settings.begin_at is None else str(settings.begin_at)
            trainer.train(resume_from_checkpoint=True if begun else first)
    except (
        SettingsInvalid,
        SettingsError,
        ValidationError,
        StateError,
        ParameterError,
        CheckpointForeign,
        CheckpointMissing,
    ) as error:
        # a state that does not fit the settings fits them no better the next time
        logger.error("train: %s", error)
        return CONFIGURATION_ERROR
    except Exception:
        logger.exception("train: %s crashed", settings.run)
        return FAILED
    return DONE


def wanted(folder: Path) -> bool:
    """Whether the run in this folder is to go on: not once it was stopped or has finished."""
    record = RunFolder(folder).record()
    return record is None or record.status not in (RunStatus.STOPPED, RunStatus.FINISHED)


def start_again(folder: Path) -> None:
    """A stopped run is wanted again."""
    record = RunFolder(folder).record()
    if record is not None and not wanted(folder):
        RunFolder(folder).set_status(record.run, RunStatus.STARTING, "started again")


@contextlib.contextmanager
def _obeying_signals(trainer: Any, grace: float) -> Iterator[None]:
    def end(number: int, _: object) -> None:
        logger.info("train: %s: saving, then leaving", signal.Signals(number).name)
        trainer.steering.terminate()
        timer = threading.Timer(grace, os._exit, (TERMINATED,))  # a checkpoint that is not whole is never seen
        timer.daemon = True
        timer.start()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
