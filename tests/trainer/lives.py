"""Trainings in processes of their own, to be killed; run by the tests of crashes.

The processes are forked from one that has imported everything, as importing takes longer than what is tested.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from dataset import InteractiveMixture
from tests.forks import Forked
from tests.trainer.livedata import mixture, open_log
from tests.trainer.trainings import arguments, gpt2
from tests.waiting import until
from trainer import EmaSettings, Every, InteractiveSettings, make_interactive, train_run

PRELOAD = ("tests.trainer.lives", "tests.trainer.test_ranks", "diffusers.training_utils")


class Life:
    """A process that trains a run on a live log until it is stopped or killed."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        max_steps: int = 1_000_000,
        data: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / f"said-{len(list(folder.glob('said-*')))}.txt"
        self._said.touch()
        self._process = Forked(PRELOAD, live, folder, log, max_steps, data or {}, self._said, settings)
        self._process.start()

    def steps(self, count: int) -> None:
        """Wait until it has made so many steps."""

        def made() -> bool:
            if self.said.count("step ") >= count:
                return True
            assert self._process.is_alive(), self.said
            return False

        until(made)

    @property
    def said(self) -> str:
        """What it has printed and logged."""
        return self._said.read_text()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    @property
    def workers(self) -> set[int]:
        """The worker processes that its steps began with."""
        told = [line.split()[1:] for line in self.said.splitlines() if line.startswith("workers ")]
        return {int(process) for line in told for process in line}

    def send(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)
        return self.end()

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        self._process.join(60)
        assert self._process.exitcode is not None, self.said
        return self._process.exitcode

    def close(self) -> None:
        """Leave no process behind."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Speaks(TrainerCallback):
    """A line a step, so that the test knows where training is, and one with the worker processes."""

    def __init__(self, data: InteractiveMixture) -> None:
        self._data = data

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        pool = self._data._reading.pool
        sys.stdout.write(f"workers {' '.join(map(str, pool.processes if pool else ()))}\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        sys.stdout.write(f"step {state.global_step}\n")
        sys.stdout.flush()


def live(
    folder: Path, log: Path, max_steps: int, mixed: Mapping[str, Any], said: Path, changes: Mapping[str, Any]
) -> None:
    """What the process does."""
    sys.stdout = sys.stderr = said.open("a")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    given = {
        "folder": folder,
        "run": "crash",
        "serve": False,
        "starts": False,
        "checkpoint": Every(steps=3),
        "keep_checkpoints": 2,
        "ema": EmaSettings(decay=0.9),
    }

    data = mixture(open_log(log), **mixed)

    def recipe(settings: InteractiveSettings) -> Any:
        return make_interactive(Trainer)(
            model=gpt2(),
            args=arguments(folder, max_steps=max_steps, lr_scheduler_type="constant"),
            train_dataset=data,
            callbacks=[Speaks(data)],
            control=settings,
        )

    sys.exit(train_run(recipe, InteractiveSettings(**(given | dict(changes))), grace=10.0))
