"""The addresses at which a running service can be reached, and how their ports are chosen."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import msgspec

from stovetop.errors import ConfigurationError, NotRunning
from stovetop.settings import Settings

TRIES = 100


class Doors(msgspec.Struct, frozen=True):
    """Where to post sessions, where to steer, and where the weights are; `pid` is the supervisor's."""

    pid: int
    gateway: str
    control: str
    hub: str
    channel: str
    public_key: str

    def write(self, path: Path) -> None:
        """Make them known, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.tmp")
        staged.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        os.replace(staged, path)

    @classmethod
    def read(cls, settings: Settings) -> Doors:
        """The doors of the service on this data folder. Raises NotRunning where none was ever started."""
        try:
            return msgspec.json.decode(settings.doors.read_bytes(), type=cls)
        except FileNotFoundError:
            raise NotRunning(
                f"{settings.doors}: no service was started on this data folder; run `stovetop up`, or name its "
                "settings with --config"
            ) from None


def choose_port(role: str, host: str, default: int, wanted: int | None) -> int:
    """The port that was set, if it is free; else the next free one from `default`.

    Raises ConfigurationError for one that was set and is taken: whoever set it expects it there.
    """
    if wanted:
        if not _free(host, wanted):
            raise ConfigurationError(
                f"{role}: port {wanted} on {host} is taken; stop what listens there, or set {role}.port to another"
            )
        return wanted
    for port in range(default, default + TRIES):
        if _free(host, port):
            return port
    raise ConfigurationError(f"{role}: no free port from {default} to {default + TRIES - 1} on {host}; set {role}.port")


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise ConfigurationError(f"{host}: {error.strerror}; set a host of this machine") from error
    return True
