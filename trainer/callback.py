"""The places of transformers' loop where this room is asked; the loop itself is not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from trainer.lifecycle import Lifecycle
    from trainer.steering import Steering

KEPT_LOG_HISTORY = 10_000
"""Entries of `state.log_history` that are kept; it is saved with every checkpoint, and endless runs would fill it."""
_OWN = frozenset({"loss", "grad_norm", "learning_rate", "epoch"})


class ControlCallback(TrainerCallback):
    """Tells the steering of the Trainer's events. Not an `ExportableState`: transformers would make a new one on resume."""

    def __init__(self, steering: Steering, lifecycle: Lifecycle) -> None:
        self._steering, self._lifecycle = steering, lifecycle

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Model, optimizer and schedule are loaded."""
        self._lifecycle.begin()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Gradients are whole."""
        self._steering.health.before_update()

    def on_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
        """The rate that was used, before the schedule moves on."""
        self._steering.health.after_update()
        self._steering.meter.learning_rate(float(optimizer.param_groups[0]["lr"]))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The place between two steps. A flag set here is obeyed without a further step; set elsewhere, one more runs."""
        self._lifecycle.step_ended()
        self._steering.step_ended()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """The strategies of the Trainer know nothing of a loop that is left to begin elsewhere."""
        departure = self._steering.leaving
        if departure is not None and departure.start is not None:
            self._steering.loop.stop_to_begin_again()

    def on_evaluate(self, *_: Any, metrics: dict[str, Any] | None = None, **__: Any) -> None:
        """Whoever asked for it: the outcome is an event."""
        found = {"step": self._steering.step, **(metrics or {})}
        self._steering.last_evaluation = found
        self._steering.reporter.evaluation(found)

    def on_log(self, _: Any, state: Any, *__: Any, logs: dict[str, Any] | None = None, **___: Any) -> None:
        """Numbers that a Trainer logs of itself go the same way as ours; the dict is shared with others, so it is copied."""
        del state.log_history[:-KEPT_LOG_HISTORY]
        further = {name: value for name, value in (logs or {}).items() if name not in _OWN}
        if further and not any(name.startswith(("eval_", "train_")) for name in further):
            self._steering.reporter.further_metrics(further)
