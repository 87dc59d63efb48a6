"""What an app's training recipe is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dataset import InteractiveMixture
from trainer.interactive import InteractiveTrainer
from trainer.settings import InteractiveSettings


@dataclass(frozen=True)
class TrainingContext:
    """Everything that is settled before an app's recipe makes its trainer.

    `data` is the mixture of the app's sources, `control` how the trainer is steered and what it keeps, `base_model` the
    folder of the packaged weights, `seed` the run's, and `options` whatever the app's settings say beside.
    """

    data: InteractiveMixture
    control: InteractiveSettings
    folder: Path
    seed: int = 0
    base_model: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Recipe: TypeAlias = Callable[[TrainingContext], InteractiveTrainer]
"""An app's plug-in: makes the trainer that is run, with `make_interactive` around the class of its choice."""
