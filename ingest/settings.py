"""What can be set of the log and the gateway; `stovetop.toml` names each key as here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ingest.deletions import SETTLE
from ingest.kafka_options import KafkaOptions
from ingest.keyboard import KeyRules
from ingest.log import Log
from ingest.retention import RetentionSettings
from ingest.sqlite import Layout, SqliteLog


class LogSettings(BaseModel):
    """Where sessions and samples are logged. `partitions` is fixed when the log is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["sqlite", "kafka"] = "sqlite"
    folder: Path = Field(description="of SQLite's files, and on Kafka of the gateway's spool")
    partitions: int = Field(4, ge=1, le=1024)
    bootstrap_servers: str | None = Field(None, description="of Kafka: host:port, several with commas between them")
    kafka: KafkaOptions = KafkaOptions()

    @model_validator(mode="after")
    def _has_servers(self) -> LogSettings:
        if self.backend == "sqlite":
            if self.bootstrap_servers is not None:
                raise ValueError(
                    f'bootstrap_servers is {self.bootstrap_servers!r}, but backend is "sqlite"; set backend to "kafka"'
                )
            return self
        if self.bootstrap_servers is None:
            raise ValueError('backend is "kafka", so bootstrap_servers has to be set, as host:port')
        for server in self.bootstrap_servers.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise ValueError(f"bootstrap_servers: {server.strip()!r} is not host:port")
        if self.kafka.shares > self.partitions:
            raise ValueError(f"kafka.shares is {self.kafka.shares}, but there are only {self.partitions} partitions")
        return self

    def open(self) -> Log:
        """The log itself: only configuration, so nothing is opened or made yet."""
        if self.bootstrap_servers is None:
            return SqliteLog(self.folder, Layout(self.partitions))
        from ingest.kafka import KafkaLayout, KafkaLog  # kafka-python takes its time to import

        layout = KafkaLayout(self.kafka.topic_prefix, self.partitions, self.kafka.shares)
        return KafkaLog(self.bootstrap_servers, layout, self.kafka)


class RateSettings(BaseModel):
    """How much one key and one session may post over time; None: as much as they like. Over it: 429.

    A bucket of `burst_seconds` of the rate may be used at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_requests: PositiveFloat | None = Field(None, description="requests a second with one key")
    key_bytes: PositiveFloat | None = Field(None, description="bytes a second with one key")
    session_requests: PositiveFloat | None = Field(None, description="requests a second for one session")
    session_bytes: PositiveFloat | None = Field(None, description="bytes a second for one session")
    burst_seconds: PositiveFloat = 10.0


class SocketSettings(BaseModel):
    """The WebSocket door. A client may send only what it has credit for, so memory is bounded by `budget_bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_bytes: PositiveInt = Field(64 << 10, description="credit of a socket; it may ask for more, for once")
    budget_bytes: PositiveInt = Field(64 << 20, description="credit of all sockets together; over it: 503 or 1013")
    hello_seconds: PositiveFloat = Field(10.0, description="after so long without a hello a socket is closed")
    ping_seconds: PositiveFloat = Field(20.0, description="between two pings, and for an answer to one")


class GatewaySettings(BaseModel):
    """The door for deployed apps. Sizes are in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(7070, ge=0, le=65535, description="0 takes any free port")

    max_body_bytes: PositiveInt = 8 << 20
    max_step_bytes: PositiveInt = Field(900_000, description="fits Kafka's default record limit of 1 MiB")
    max_steps: PositiveInt = Field(1_024, description="steps in one request")
    max_metadata_bytes: PositiveInt = 64 << 10
    max_open_sessions: PositiveInt = 10_000

    max_headers_bytes: PositiveInt = Field(32 << 10, description="of a request, with its URL")
    max_session_bytes: PositiveInt = Field(4 << 30, description="of a whole session put as one tar, decoded")

    budget_bytes: PositiveInt = Field(64 << 20, description="bodies that are read or wait for the disk; over it: 503")
    key_budget_bytes: PositiveInt | None = Field(None, description="the same with one key; over it: 429")
    session_budget_bytes: PositiveInt | None = Field(None, description="the same for one session; over it: 429")
    rates: RateSettings = RateSettings()
    sockets: SocketSettings = SocketSettings()
    group_bytes: PositiveInt = Field(12 << 20, description="bodies that one commit takes at most")
    record_bytes: PositiveInt = Field(
        500_000, description="a request's steps are packed into records of about this size"
    )

    idle_seconds: PositiveFloat = Field(300.0, description="a session that posts nothing for so long is ended")
    ended_seconds: PositiveFloat = Field(
        86_400.0, description="an ended session is remembered for so long; its id must never be used again"
    )
    sweep_seconds: PositiveFloat = Field(1.0, description="between two looks for idle sessions")

    spool_bytes: PositiveInt = Field(
        256 << 20, description="that are kept on this disk while no broker answers, in all; over it: 503"
    )
    advertise: str | None = Field(
        None, description="how other gateways reach this one, as http://host:port; none: by the address it listens at"
    )

    stall_seconds: PositiveFloat = Field(10.0, description="a body of which nothing comes for so long is refused (408)")
    body_seconds: PositiveFloat = Field(60.0, description="a body has to be complete after so long (408)")
    header_seconds: PositiveFloat = Field(10.0, description="a request's headers have to be complete after so long")
    upload_seconds: PositiveFloat = Field(3_600.0, description="a whole session has to be complete after so long (408)")
    pre_stop_seconds: NonNegativeFloat = Field(
        0.0, description="after SIGTERM, go on serving for so long with /readyz at 503, for a load balancer to notice"
    )
    drain_seconds: PositiveInt = Field(10, description="then requests in flight have so long to finish")

    keyboard: KeyRules = KeyRules()
    subject_key: Path | None = Field(None, description="the key that makes pseudonyms of subjects; made if need be")
    deletion_seconds: PositiveFloat = Field(
        3600.0, description="within so long the archive holds nothing any more of what was deleted"
    )
    settle_seconds: NonNegativeFloat = Field(
        SETTLE, description="a deletion is answered so long after it is durable, when every reader has noticed it"
    )

    cors_origins: tuple[str, ...] = Field((), description="pages that may post, as https://app.example")
    append_token_seconds: PositiveFloat = Field(3_600.0, description="a session's own token holds for at most so long")
    require_consent: bool = Field(False, description="a session is opened only with the consent of its user (403)")
    require_idempotency_key: bool = Field(False, description="a session is opened only with an id or a key (400)")
    schemas: Mapping[str, str] = Field(
        {}, description="an app's session schema: module:name, or the path of a .json file"
    )

    retention: RetentionSettings = RetentionSettings()
    retention_seconds: PositiveFloat = Field(60.0, description="between two looks for records to forget")

    @model_validator(mode="after")
    def _sizes_fit(self) -> GatewaySettings:
        if not self.max_step_bytes <= self.max_body_bytes <= self.budget_bytes:
            raise ValueError(
                f"max_step_bytes ({self.max_step_bytes}) <= max_body_bytes ({self.max_body_bytes})"
                f" <= budget_bytes ({self.budget_bytes}) must hold, or some bodies could never be taken"
            )
        for name in ("key_budget_bytes", "session_budget_bytes"):
            if (getattr(self, name) or self.max_body_bytes) < self.max_body_bytes:
                raise ValueError(
                    f"{name} ({getattr(self, name)}) is less than max_body_bytes ({self.max_body_bytes}),"
                    " so some bodies could never be taken"
                )
        if self.sockets.budget_bytes < 2 * self.max_step_bytes + self.sockets.window_bytes:
            raise ValueError(
                f"sockets.budget_bytes ({self.sockets.budget_bytes}) has to hold two of the largest steps"
                f" ({self.max_step_bytes}) and a window ({self.sockets.window_bytes})"
            )
        for origin in self.cors_origins:
            scheme, colon, rest = origin.partition("://")
            if scheme not in ("http", "https") or not colon or not rest or "/" in rest or "*" in rest:
                raise ValueError(
                    f"cors_origins: {origin!r} is not an origin; write scheme, host and port, as https://app.example"
                )
        return self
