"""A Trainer that is steered while it trains.

The room promises that the training loop stays transformers' own; that no command, however wrong, ends training, and
that each gets exactly one outcome; that what a step trained is booked with that step and no other; that a checkpoint is
whole or absent and a run goes on from it to the bit; and that nothing overwrites what another segment wrote.

    settings   segments · checkpoints · saving   command · desk · commands/   steering · lifecycle · callback
    health/   interactive   run · replay

The names below are imported when they are asked for: who only reads a run's folder does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoints import Checkpoint, Checkpoints
    from trainer.command import Arguments, Later, NoArguments, Plan, StepDone, register_command
    from trainer.diffusion import DiffusionTrainer
    from trainer.ema import Ema
    from trainer.errors import (
        BranchError,
        CheckpointError,
        CheckpointForeign,
        CheckpointMissing,
        CommandError,
        CommandFailed,
        CommandRejected,
        RunLocked,
        SettingsInvalid,
        TrainerError,
    )
    from trainer.interactive import InteractiveTrainer, make_interactive
    from trainer.journal import Trained, trained_along, trained_in
    from trainer.link import Link, MemoryLink
    from trainer.run import start_again, train_run, wanted
    from trainer.segments import RunFolder, Segment, StartReason
    from trainer.settings import EmaSettings, Every, HealthSettings, InteractiveSettings
    from trainer.steering import Departure, Leave, Steering

__all__ = [
    "Arguments",
    "BranchError",
    "Checkpoint",
    "CheckpointError",
    "CheckpointForeign",
    "CheckpointMissing",
    "Checkpoints",
    "CommandError",
    "CommandFailed",
    "CommandRejected",
    "Departure",
    "DiffusionTrainer",
    "Ema",
    "EmaSettings",
    "Every",
    "HealthSettings",
    "InteractiveSettings",
    "InteractiveTrainer",
    "Later",
    "Leave",
    "Link",
    "MemoryLink",
    "NoArguments",
    "Plan",
    "RunFolder",
    "RunLocked",
    "Segment",
    "SettingsInvalid",
    "StartReason",
    "Steering",
    "StepDone",
    "Trained",
    "TrainerError",
    "make_interactive",
    "register_command",
    "start_again",
    "train_run",
    "trained_along",
    "trained_in",
    "wanted",
]

_HOMES = {
    "checkpoints": (
        "Checkpoint",
        "Checkpoints",
    ),
    "command": (
        "Arguments",
        "Later",
        "NoArguments",
        "Plan",
        "StepDone",
        "register_command",
    ),
    "diffusion": ("DiffusionTrainer",),
    "ema": ("Ema",),
    "errors": (
        "BranchError",
        "CheckpointError",
        "CheckpointForeign",
        "CheckpointMissing",
        "CommandError",
        "CommandFailed",
        "CommandRejected",
        "RunLocked",
        "SettingsInvalid",
        "TrainerError",
    ),
    "interactive": (
        "InteractiveTrainer",
        "make_interactive",
    ),
    "journal": (
        "Trained",
        "trained_along",
        "trained_in",
    ),
    "link": (
        "Link",
        "MemoryLink",
    ),
    "run": (
        "start_again",
        "train_run",
        "wanted",
    ),
    "segments": (
        "RunFolder",
        "Segment",
        "StartReason",
    ),
    "settings": (
        "EmaSettings",
        "Every",
        "HealthSettings",
        "InteractiveSettings",
    ),
    "steering": (
        "Departure",
        "Leave",
        "Steering",
    ),
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"trainer.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
