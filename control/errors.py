"""What can go wrong in this room.

ControlError
├── SettingsError
│   └── PortTaken            a port that was set belongs to somebody else
├── StoreError
│   ├── StoreLocked          another server has the store
│   └── UnknownFormat        the store was written by a version that is not known here
├── CommandConflict          one uuid, two different commands
└── ClientError
    ├── ServerUnreachable    nobody answers at the address
    ├── Refused              the server said no, with a problem
    └── NoOutcome            a command had none within the time that the caller gave
"""

from __future__ import annotations


class ControlError(Exception):
    """Any error of this room."""


class SettingsError(ControlError):
    """The settings cannot be followed; starting again will not help."""


class PortTaken(SettingsError):
    """The port that was set is in use."""


class StoreError(ControlError):
    """The store cannot be used."""


class StoreLocked(StoreError):
    """Another process writes this store."""


class UnknownFormat(StoreError):
    """The store has a format that this version does not know."""


class CommandConflict(ControlError):
    """The uuid belongs to another command."""


class ClientError(ControlError):
    """A client of the server did not get what it asked for."""


class ServerUnreachable(ClientError):
    """Nobody answers at the server's address."""


class Refused(ClientError):
    """The server refused; `problem` is its URN, `status` the HTTP status."""

    def __init__(self, message: str, status: int, problem: str) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


class NoOutcome(ClientError):
    """The command is still open; it keeps its uuid and may yet end."""
