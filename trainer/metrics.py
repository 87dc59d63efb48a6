"""The numbers of every optimizer step, whatever `logging_steps` says.

Losses stay on their device until they are asked for. On an accelerator a step's numbers are read one step later, when
they have been computed for long, so that reading them does not make the host wait for the device.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class StepNumbers:
    """What is known of one optimizer step. `skipped`: the optimizer left it out (an overflow of half precision);
    `dropped`: its gradient was not finite, and was thrown away before it could spread.

    `by_source` has the mean loss per sample of each source, where the trainer computes one per sample. `waited` are the
    seconds, of all `seconds`, until its batches were there.
    """

    step: int
    loss: float
    grad_norm: float | None
    learning_rate: float
    seconds: float
    samples: int
    skipped: bool
    by_source: dict[str, float]
    waited: float = 0.0
    dropped: bool = False


@dataclass
class _Open:
    """A step that is not over."""

    losses: list[torch.Tensor] = field(default_factory=list)
    grad_norm: torch.Tensor | float | None = None
    learning_rate: float = 0.0
    samples: int = 0
    waited: float = 0.0
    by_source: list[tuple[Sequence[str], torch.Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class _Closed:
    step: int
    content: _Open
    seconds: float
    skipped: bool
    dropped: bool


class StepMeter:
    """Collects a step's numbers while it runs. `lag` is how many steps later they are read (0 on the CPU)."""

    def __init__(self, lag: int = 0) -> None:
        self._lag = lag
        self._open = _Open()
        self._closed: list[_Closed] = []
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Forget what was collected; a step begins."""
        self._open = _Open()

    def restart_clock(self) -> None:
        """Do not count what went before (a pause, an evaluation) as part of the next step."""
        self._since = time.perf_counter()

    def loss(self, loss: torch.Tensor, samples: int = 0) -> None:
        """The loss of one micro-batch, scaled so that those of a step sum to its loss."""
        self._open.losses.append(loss.detach())
        self._open.samples += samples

    def waited(self, seconds: float) -> None:
        """So long it took until the step's batches were there."""
        self._open.waited += seconds

    def grad_norm(self, norm: torch.Tensor | float | None) -> None:
        """The norm of the gradient before clipping."""
        self._open.grad_norm = norm

    def learning_rate(self, rate: float) -> None:
        """The rate that the optimizer used."""
        self._open.learning_rate = rate

    def per_sample(self, sources: Sequence[str], losses: torch.Tensor) -> None:
        """The loss of each sample of a micro-batch, and where it came from."""
        self._open.by_source.append((sources, losses.detach()))

    def end(self, step: int, skipped: bool = False, dropped: bool = False) -> None:
        """The step is over."""
        now = time.perf_counter()
        self._closed.append(_Closed(step, self._open, now - self._since, skipped, dropped))
        self._since = now
        self._open = _Open()

    def read(self, everything: bool = False) -> list[StepNumbers]:
        """The steps whose numbers can be had now; `everything`: also those that one would have to wait for."""
        count = len(self._closed) if everything else max(0, len(self._closed) - self._lag)
        ready, self._closed = self._closed[:count], self._closed[count:]
        return [_numbers(closed) for closed in ready]


def _numbers(closed: _Closed) -> StepNumbers:
    content = closed.content
    loss = float(torch.stack([loss.float() for loss in content.losses]).sum()) if content.losses else float("nan")
    norm = None if content.grad_norm is None else float(content.grad_norm)
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for sources, losses in content.by_source:
        for source, value in zip(sources, losses.float().tolist(), strict=True):
            sums[source] += value
            counts[source] += 1
    by_source = {source: sums[source] / counts[source] for source in sums}
    return StepNumbers(
        closed.step,
        loss,
        norm,
        content.learning_rate,
        closed.seconds,
        content.samples,
        closed.skipped,
        by_source,
        content.waited,
        closed.dropped,
    )


def metrics_body(numbers: StepNumbers) -> dict[str, Any]:
    """The body of the step's `metrics` event."""
    body: dict[str, Any] = {
        "loss": numbers.loss,
        "learning_rate": numbers.learning_rate,
        "step_seconds": numbers.seconds,
        "data_seconds": numbers.waited,
    }
    if numbers.grad_norm is not None:
        body["grad_norm"] = numbers.grad_norm
    if numbers.samples:
        body["samples"] = numbers.samples
    return body | {f"loss/{source}": loss for source, loss in numbers.by_source.items()}
