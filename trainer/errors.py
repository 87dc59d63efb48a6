"""The errors of this room.

TrainerError
├── SettingsInvalid        the trainer cannot start until its settings change
├── CommandError           a command that has no effect; training goes on
│   ├── CommandRejected    refused before anything was touched
│   └── CommandFailed      it was tried, and did not come off
├── CheckpointError
│   ├── CheckpointMissing  no whole checkpoint of that name
│   └── CheckpointForeign  a checkpoint of a format, run or layout that cannot be used here
├── BranchError            a branch name that is taken or that no folder can have
└── RunLocked              another process trains this run
"""

from __future__ import annotations


class TrainerError(Exception):
    """Anything that goes wrong in the trainer."""


class SettingsInvalid(TrainerError, ValueError):
    """The trainer cannot start until its settings change; it is not worth starting again before."""


class CommandError(TrainerError):
    """A command that has no effect; training goes on."""


class CommandRejected(CommandError):
    """A command that was refused before anything was touched."""


class CommandFailed(CommandError):
    """A command that was tried, and did not come off."""


class CheckpointError(TrainerError):
    """Anything that goes wrong with checkpoints."""


class CheckpointMissing(CheckpointError):
    """No whole checkpoint of that name."""


class CheckpointForeign(CheckpointError):
    """A checkpoint of a format, run or layout that cannot be used here."""


class BranchError(TrainerError, ValueError):
    """A branch name that is taken, or that no folder can have."""


class RunLocked(TrainerError):
    """Another process trains this run; stop it, or give this one a run of its own."""
