"""When to look into a training, and what to say of what is seen."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import CommandRejected
from trainer.health.alarm import Alarm
from trainer.health.losses import LossWatch
from trainer.health.poison import poisoned_layers, resets
from trainer.health.probe import LayerNumbers, Probe
from trainer.metrics import StepNumbers

if TYPE_CHECKING:
    from trainer.steering import Steering

RECENT = 32
"""Steps over which waiting for data is judged."""
SHORT = 0.02
"""Seconds: waits and steps below this are not worth a word, whatever their share."""


class HealthWatch:
    """Looks at one training, on rank 0. It looks again after `every` steps, and later where looking costs too much."""

    def __init__(self, steering: Steering) -> None:
        self._steering, self._settings = steering, steering.settings.health
        self._probe: Probe | None = None
        self._alarm = Alarm()
        self._losses = LossWatch(self._settings.spike_deviations)
        self._next_step, self._next_time = 0, 0.0
        self._looking, self._spent = False, 0.0
        self._waits: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._broken = False

    @property
    def on(self) -> bool:
        """Whether anything is looked at."""
        return self._settings.enabled and self._steering.ranks.main

    def begin(self) -> None:
        """A segment begins."""
        self.end()
        self._losses.begin()
        self._waits.clear()
        self._next_step = self._steering.step + 2  # the first shows how weights were made, not how they are trained

    def end(self) -> None:
        """Leave nothing on the model."""
        if self._probe is not None:
            self._probe.detach()
        self._looking = False

    # Around a step

    def step_begins(self) -> None:
        """Before the batches of a step are trained."""
        if not self.on or self._steering.step + 1 < self._next_step or time.monotonic() < self._next_time:
            return
        began = time.perf_counter()
        if self._probe is None:
            if getattr(self._steering.trainer.args, "torch_compile", False):
                self._next_step = 1 << 62  # a hook would have the model compiled anew
                return
            self._probe = Probe(self._steering.model)
        by_source = self._steering.trainer.saw_losses if self._rows_are_unknown() else None
        self._probe.attach(by_source)
        self._looking = True
        self._spent = time.perf_counter() - began

    def before_update(self) -> None:
        """Gradients are whole."""
        if self._looking and self._probe is not None:
            began = time.perf_counter()
            self._probe.before_update()
            self._spent += time.perf_counter() - began

    def after_update(self) -> None:
        """Weights were moved."""
        if self._looking and self._probe is not None:
            began = time.perf_counter()
            self._probe.after_update()
            self._spent += time.perf_counter() - began

    def step_ended(self) -> None:
        """Say what this step showed, if it was looked at."""
        if not self._looking or self._probe is None:
            return
        began = time.perf_counter()
        seen = self._probe.read()
        self._probe.detach()
        self._looking = False
        self._report(seen)
        self._spent += time.perf_counter() - began
        # hooks cost too, as much as what is measured here at most
        self._next_step = self._steering.step + self._settings.every
        self._next_time = time.monotonic() + 2 * self._spent / self._settings.share

    def numbers(self, numbers: StepNumbers) -> None:
        """The numbers of a step, once they are known."""
        if not self.on:
            return
        broken = not all(math.isfinite(value) for value in (numbers.loss, numbers.grad_norm or 0.0))
        if broken and not self._broken:
            self._find_poison(numbers.step)
        self._broken = broken
        if (spike := self._losses.see(numbers.step, numbers.loss)) is not None:
            text = (
                f"the loss of step {spike.step} is {spike.loss:.4g}, {spike.deviations:.0f} deviations above the "
                f"{spike.usual:.4g} of the steps before"
            )
            self._say("loss_spike", text, numbers.step, value=spike.loss)
        self._waits.append((numbers.waited, numbers.seconds))
        self._judge_waiting(numbers.step)

    # Within

    def _rows_are_unknown(self) -> bool:
        return type(self._steering.trainer).row_losses_known is False

    def _judge_waiting(self, step: int) -> None:
        if len(self._waits) < RECENT:
            return
        waited, seconds = (math.fsum(column) for column in zip(*self._waits, strict=True))
        share = waited / max(seconds, 1e-9)
        wrong = share > self._settings.starving and waited / RECENT > SHORT
        if self._alarm.new("data_starvation", "", wrong):
            text = (
                f"{share:.0%} of the last {RECENT} steps' time went by waiting for data ({waited / RECENT:.2g} s a step); "
                "give the data more workers, or weight to sources that have some"
            )
            self._say("data_starvation", text, step, value=share)

    def _report(self, seen: Sequence[LayerNumbers]) -> None:
        metrics = {
            f"health/{kind}/{each.layer}": value
            for each in seen
            for kind in ("std", "dead", "gradient", "update")
            if (value := getattr(each, kind)) is not None
        }
        if metrics:
            self._steering.reporter.further_metrics(metrics)
        for each in seen:
            self._judge(each)

    def _judge(self, seen: LayerNumbers) -> None:
        settings, step, layer = self._settings, self._steering.step, seen.layer
        if seen.std is not None and self._alarm.new("collapsed", layer, seen.std < settings.least_std):
            self._say("collapsed", f"what {layer} puts out hardly varies", step, layer=layer, value=seen.std)
        if seen.dead is not None and self._alarm.new("dead_units", layer, seen.dead > settings.most_dead):
            text = f"{seen.dead:.0%} of the units of {layer} were silent over a whole batch"
            self._say("dead_units", text, step, layer=layer, value=seen.dead, suggest=self._resets([_around(layer)]))
        if seen.update is None or not math.isfinite(seen.update):
            return
        if self._alarm.new("update_too_large", layer, seen.update > settings.most_update):
            text = f"a step moved the weights of {layer} by {seen.update:.2g} of their size; a lower rate may be meant"
            self._say("update_too_large", text, step, layer=layer, value=seen.update)
        still = seen.gradient is not None and 0 < seen.gradient < settings.least_gradient
        if self._alarm.new("vanishing_gradient", layer, still):
            text = f"hardly any gradient reaches {layer}"
            self._say("vanishing_gradient", text, step, layer=layer, value=seen.gradient, level="info")

    def _find_poison(self, step: int) -> None:
        """The layers whose own values are not finite; where there are none, the data or the rate is at fault."""
        steering = self._steering
        found = poisoned_layers(steering.model)
        averaged = poisoned_layers(steering.model, steering.ema.tensors()) if steering.ema is not None else []
        names = [each.layer for each in found] + [each.layer for each in averaged if each not in found]
        names = list(dict.fromkeys(names))
        if not names:
            return
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        text = f"values that are not finite in {shown}; reset them, or go back to an earlier checkpoint"
        self._say("poisoned_layers", text, step, level="error", layers=names[:64], suggest=self._resets(names[:64]))

    def _resets(self, names: list[str]) -> list[dict[str, Any]]:
        try:
            return resets(self._steering.layers, names)
        except CommandRejected:
            return []

    def _say(self, check: str, text: str, step: int, level: Any = "warning", **more: Any) -> None:
        self._steering.reporter.health(check, text, step, level, **more)


def _around(layer: str) -> str:
    """The layer that an activation belongs to."""
    return layer.rpartition(".")[0] or layer
