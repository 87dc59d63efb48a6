"""How long training goes on, changed while it runs, with a schedule that keeps its shape.

The Trainer makes its learning-rate schedule for so many steps when it begins. A run whose end moves goes on with the
schedule that it has: another end is no reason for another rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.steering import Steering


class Horizon:
    """The last step of one training, and how many steps its schedule was made for."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._given = int(steering.trainer.args.max_steps)
        self.moved: int | None = None
        """The last step that a command has set; None: the Trainer's own."""
        self.scheduled: int | None = None
        """How many steps the schedule was made for, once the end has moved."""
        self._made_for = 0

    def schedule_steps(self, steps: int) -> int:
        """How many steps the schedule is to be made for, where the Trainer asks for `steps`."""
        self._made_for = steps if self.scheduled is None else self.scheduled
        return self._made_for

    def restore(self, moved: int | None, scheduled: int | None) -> None:
        """Go on with the end of a checkpoint; before the Trainer reads its arguments."""
        self.moved, self.scheduled = moved, scheduled
        self._steering.trainer.args.max_steps = self._given if moved is None else moved

    def move(self, last: int) -> None:
        """Let `last` be the last step, from now on and over loads of what is saved from now on."""
        trainer = self._steering.trainer
        self.scheduled = self._made_for if self.scheduled is None else self.scheduled
        self.moved = trainer.args.max_steps = trainer.state.max_steps = last
        if trainer.control.should_training_stop and self._steering.leaving is None:
            trainer.control.should_training_stop = last <= self._steering.step  # this very step was to be the last

    def reach(self) -> int | None:
        """How far the loop that runs can go: a dataset with a length is read so many times, as settled at its start."""
        trainer = self._steering.trainer
        loader: Any = trainer.callback_handler.train_dataloader
        try:
            batches = len(loader)
        except TypeError:
            return None
        updates: int = max(1, -(-batches // trainer.args.gradient_accumulation_steps))
        return updates * int(trainer.state.num_train_epochs)
