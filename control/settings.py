"""The settings of the control server: the section `control` of `stovetop.toml`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from control.protocol import EventType

DEFAULT_PORT = 7007


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise ValueError(f"{value!r} is not an origin; write scheme, host and port, as in https://ops.example:8443")
    return f"{parts.scheme}://{parts.netloc}".lower()


Origin = Annotated[str, AfterValidator(_origin)]


def _hook(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an address to post to; write it as https://hooks.example/…")
    return value


class AlertSettings(BaseModel):
    """A webhook: where events of these types and of at least this level are posted to, as JSON.

    The address is a secret, as those of chat services are. One finding of one run is told again after `quiet_seconds`
    only. A delivery that fails is tried `attempts` times, over some minutes with the pauses that `patience` multiplies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[SecretStr, AfterValidator(_hook)]
    level: Literal["info", "warning", "error"] = "warning"
    types: tuple[EventType, ...] = (EventType.HEALTH, EventType.RUN, EventType.VERSION)
    quiet_seconds: float = Field(default=300.0, ge=0)
    timeout: float = Field(default=10.0, gt=0)
    attempts: int = Field(default=8, ge=1)
    patience: float = Field(default=1.0, gt=0)


class ControlSettings(BaseModel):
    """Where the server listens, what it keeps, and whom it lets in beside those with a token.

    `port`: None takes 7007 or the next free one; one that is set and taken is an error; 0 takes any free one.
    `origins`: pages of other origins that may call from a browser; the server's own always may.
    `paper_clients`: lets clients of the paper's paths in without a token, on loopback only.
    `alerts`: webhooks that are told of warnings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    data: Path = Path(".stovetop/control")
    origins: tuple[Origin, ...] = ()
    paper_clients: bool = False
    alerts: tuple[AlertSettings, ...] = ()

    command_expiry: float = Field(
        default=600.0, gt=0, description="seconds after which a command not yet begun expires"
    )
    actor_grace: float = Field(
        default=30.0, gt=0, description="seconds that an actor may be away before what it had begun fails"
    )
    max_waiting: int = Field(default=1000, gt=0, description="commands of one run that may wait at a time")
    client_stall: float = Field(
        default=5.0, gt=0, description="seconds that a watcher may take nothing before it is sent away (1013)"
    )
    ring: int = Field(
        default=4096, gt=0, description="newest events kept in memory for watchers; older ones are read back"
    )
    keep_metrics: int = Field(default=100_000, ge=1000, description="rows of metrics of a run kept at each coarseness")
    keep_passing: int = Field(default=50_000, ge=1000, description="newest figures, heartbeats and lines kept of a run")
    keep_samples: int = Field(default=50, ge=2, description="versions of a run that keep their sample pictures")
    commands_per_minute: int = Field(default=600, gt=0, description="commands that one token may send in a minute")
    request_bytes: int = Field(default=1 << 20, gt=0, description="largest request body")
    shutdown_seconds: float = Field(default=2.0, gt=0, description="how long open connections may delay an exit")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _paper_clients_stay_home(self) -> ControlSettings:
        if self.paper_clients and not self.loopback:
            raise ValueError(f"paper_clients lets in without a token, so it needs a loopback host, not {self.host!r}")
        return self
