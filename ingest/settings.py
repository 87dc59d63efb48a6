"""What can be set of the log and the gateway; `stovetop.toml` names each key as here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ingest.kafka_options import KafkaOptions
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
        if self.kafka.shares is not None and self.kafka.shares > self.partitions:
            raise ValueError(f"kafka.shares is {self.kafka.shares}, but there are only {self.partitions} partitions")
        return self

    def open(self) -> Log:
        """The log itself: only configuration, so nothing is opened or made yet."""
        if self.bootstrap_servers is None:
            return SqliteLog(self.folder, Layout(self.partitions))
        from ingest.kafka import KafkaLayout, KafkaLog  # kafka-python takes its time to import

        layout = KafkaLayout(self.kafka.topic_prefix, self.partitions, self.kafka.shares or self.partitions)
        return KafkaLog(self.bootstrap_servers, layout, self.kafka)


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

    budget_bytes: PositiveInt = Field(64 << 20, description="bodies that are read or wait for the disk; over it: 503")
    group_bytes: PositiveInt = Field(8 << 20, description="bodies that one commit takes at most")
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
    pre_stop_seconds: NonNegativeFloat = Field(
        0.0, description="after SIGTERM, go on serving for so long with /readyz at 503, for a load balancer to notice"
    )
    drain_seconds: PositiveInt = Field(10, description="then requests in flight have so long to finish")

    retention: RetentionSettings = RetentionSettings()
    retention_seconds: PositiveFloat = Field(60.0, description="between two looks for records to forget")

    @model_validator(mode="after")
    def _sizes_fit(self) -> GatewaySettings:
        if not self.max_step_bytes <= self.max_body_bytes <= self.budget_bytes:
            raise ValueError(
                f"max_step_bytes ({self.max_step_bytes}) <= max_body_bytes ({self.max_body_bytes})"
                f" <= budget_bytes ({self.budget_bytes}) must hold, or some bodies could never be taken"
            )
        return self
