"""What an interactive trainer can be told beside the arguments of its Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from control.api import NAME_PATTERN


class Settings(BaseModel):
    """A frozen part of the settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Every(Settings):
    """How often something is done: every so many optimizer steps, every so many seconds, whichever comes first.

    With neither it is never done by itself.
    """

    steps: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)

    def due(self, steps: int, seconds: float) -> bool:
        """Whether it is time, that many steps and seconds after the last time."""
        return (self.steps is not None and steps >= self.steps) or (
            self.seconds is not None and seconds >= self.seconds
        )


class EmaSettings(Settings):
    """An exponential moving average of the weights. After n updates the decay is at most (1 + n) / (10 + n), so that the
    first steps do not weigh for ever."""

    decay: float = Field(default=0.999, ge=0.0, lt=1.0)


class HealthSettings(Settings):
    """How closely training is watched.

    The model is looked into every so many steps at most, and so rarely that it takes no more than about `share` of the
    time. Limits: `least_std` of a layer's output, `most_dead` of its units, `most_update` of its weights' size that one
    step may move them, `least_gradient` by that size, `starving` of the time that steps wait for data, and how many robust
    deviations make a spike. With `drop_not_finite`, a step whose gradient is not finite leaves the weights as they are
    (where the Trainer computes its norm: with `max_grad_norm` above 0), so that one broken layer breaks no others.
    """

    enabled: bool = True
    drop_not_finite: bool = True
    every: int = Field(default=25, gt=0)
    share: float = Field(default=0.002, gt=0)
    least_std: float = Field(default=1e-5, ge=0)
    most_dead: float = Field(default=0.5, gt=0, le=1)
    most_update: float = Field(default=0.1, gt=0)
    least_gradient: float = Field(default=1e-8, ge=0)
    starving: float = Field(default=0.5, gt=0, le=1)
    spike_deviations: float = Field(default=8.0, gt=0)


class InteractiveSettings(Settings):
    """How a trainer is steered, and what it keeps.

    Without `url` a control server is started beside the training (`serve`), on `port` or, where none is set, on the next
    free one from 7007 (`paper_clients` lets those of the paper in without a token); with `serve` off, nothing steers.
    `starts` says that a person begins this training, which ends an earlier stop. The run lives in `folder` (else in the
    Trainer's `output_dir`) and is called `run` (else the Trainer's `run_name`, else the folder's name). `begin_at` is the
    checkpoint, of another run too, that a run which has not begun begins at.

    `checkpoint` and `publish` say when a checkpoint is saved and weights are handed to `outbox` by themselves, beside what
    the Trainer's own `save_strategy` asks for; `keep_checkpoints` is how many are kept a branch (else `save_total_limit`;
    those that a branch begins at are always kept). With `ema`, evaluation and publishing use the averaged weights.
    `bounds` narrows numbers of commands: `{"update_optimizer": {"lr.value": (1e-7, 1e-2)}}`. `operations` and `parameters`
    add to what may be called and set on layers, by class name.
    """

    url: str | None = None
    token: SecretStr | None = None
    serve: bool = True
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    paper_clients: bool = False
    starts: bool = True
    run: str | None = Field(default=None, pattern=NAME_PATTERN)
    folder: Path | None = None
    begin_at: Path | None = None
    checkpoint: Every = Every()
    keep_checkpoints: int | None = Field(default=None, ge=1)
    publish: Every = Every()
    outbox: Path | None = None
    channel: str = Field(default="stable", pattern=NAME_PATTERN)
    statistics: Every = Every(seconds=2.0)
    ema: EmaSettings | None = None
    health: HealthSettings = HealthSettings()
    journal: bool = True
    bounds: Mapping[str, Mapping[str, tuple[float, float]]] = {}
    operations: Mapping[str, tuple[str, ...]] = {}
    parameters: Mapping[str, tuple[str, ...]] = {}
