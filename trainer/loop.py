"""The Trainer's control flags and callbacks, handled so that what a command does leaves no trace in either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_FLAGS = ("should_log", "should_evaluate", "should_save", "should_training_stop", "should_epoch_stop")
_OF_THE_LOOP = ("transformers.trainer_callback", "transformers.utils.notebook", "trainer.")


class Loop:
    """The training loop of one Trainer, as far as it can be told something."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._callbacks: list[Any] | None = None

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What the Trainer's own strategies asked for at this step still happens after what is done inside."""
        before = {flag: getattr(self._trainer.control, flag) for flag in _FLAGS}
        try:
            yield
        finally:
            for flag, value in before.items():
                setattr(self._trainer.control, flag, value)

    def stop(self) -> None:
        """Take no further step."""
        self._trainer.control.should_training_stop = True

    def stop_to_begin_again(self) -> None:
        """Take no further step, and let nobody believe that training is over.

        At `on_train_end` some callbacks close their run or upload the model, so those of others are left out until
        `begin_again`; nor is anything saved, logged or evaluated for a step that is being left behind.
        """
        self.stop()
        control = self._trainer.control
        control.should_log = control.should_evaluate = control.should_save = False
        handler = self._trainer.callback_handler
        if self._callbacks is None:
            self._callbacks = list(handler.callbacks)
            handler.callbacks = [c for c in handler.callbacks if type(c).__module__.startswith(_OF_THE_LOOP)]

    def begin_again(self) -> None:
        """All callbacks take part again."""
        if self._callbacks is not None:
            self._trainer.callback_handler.callbacks = self._callbacks
            self._callbacks = None
