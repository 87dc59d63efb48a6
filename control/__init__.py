"""The switchboard between people, agents and the processes that they steer.

The room promises that training goes on whether or not a server is there, that every command gets exactly one outcome
with a reason, that every intervention is a record that survives any kill, and that who watches misses nothing and sees
nothing twice. It imports neither the trainer nor the publisher: they connect to it as actors.

The server itself is in `control.server`, which those who only talk to it need not import.
"""

from control.actor import ActorConnection, Delivery
from control.client import ControlClient
from control.errors import (
    ClientError,
    CommandConflict,
    ControlError,
    NoOutcome,
    PortTaken,
    Refused,
    ServerUnreachable,
    SettingsError,
    StoreError,
    StoreLocked,
    UnknownFormat,
)
from control.fake import FakeActor, FakeCommand
from control.protocol import (
    ActorKind,
    Command,
    CommandKind,
    CommandName,
    CommandSpec,
    DesiredState,
    Event,
    EventType,
    Outcome,
    Report,
    RunStatus,
    Status,
    new_uuid,
)
from control.settings import ControlSettings

__all__ = [
    "ActorConnection",
    "ActorKind",
    "ClientError",
    "Command",
    "CommandConflict",
    "CommandKind",
    "CommandName",
    "CommandSpec",
    "ControlClient",
    "ControlError",
    "ControlSettings",
    "Delivery",
    "DesiredState",
    "Event",
    "EventType",
    "FakeActor",
    "FakeCommand",
    "NoOutcome",
    "Outcome",
    "PortTaken",
    "Refused",
    "Report",
    "RunStatus",
    "ServerUnreachable",
    "SettingsError",
    "Status",
    "StoreError",
    "StoreLocked",
    "UnknownFormat",
    "new_uuid",
]
