"""How the brokers are reached, and within which bounds: times in seconds, sizes in bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

CLIENT_ID = "stovetop"


class KafkaOptions(BaseModel):
    """Everything of `[log.kafka]`; what concerns TLS and SASL is named as in kafka-python."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic_prefix: str = Field("stovetop", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    shares: int = Field(
        1,
        ge=1,
        description="in how many parts gateways and annotators divide the work, at most one for each partition; "
        "fixed when the topics are made, so as many as will ever run side by side, and no more: each commits by itself",
    )
    replication: int | None = Field(None, ge=1, description="of the topics that are made here; none: the broker's")
    min_insync_replicas: int | None = Field(None, ge=1, description="of the topics that are made here; none: likewise")
    create_topics: bool = True
    retention_seconds: PositiveFloat | None = Field(
        None, description="a hard limit for records that nobody has archived; none: only what is archived is forgotten"
    )
    retention_bytes: PositiveInt | None = Field(None, description="the same, of each partition")

    max_record_bytes: int = Field(2 << 20, ge=64 << 10, le=64 << 20)
    inflight_bytes: PositiveInt = Field(32 << 20, description="records that a writer hands to the client at once")
    batch_bytes: int | None = Field(
        None, ge=16 << 10, description="of records that are sent together; none: as much as a record may have"
    )
    linger: NonNegativeFloat = Field(0.0, description="a commit is one batch already, so nothing is gained by waiting")
    compression: Literal["gzip", "lz4", "snappy", "zstd"] | None = None
    fetch_bytes: PositiveInt = Field(8 << 20, description="that a reader asks for at once, of one partition")

    lease_seconds: float = Field(6.0, ge=0.3, description="a writer that was silent for so long is taken for dead")
    session_seconds: float = Field(10.0, ge=0.3, description="the same of a group's member; the broker allows from 6")
    request_seconds: float = Field(10.0, ge=0.3)
    patience_seconds: float = Field(3.0, ge=0.1, description="a commit fails when no broker answered for so long")
    transaction_seconds: float = Field(30.0, ge=1.0, description="the broker aborts what a dead writer left after it")

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: str | None = Field(None, repr=False)
    ssl_check_hostname: bool = True
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = Field(None, repr=False)
    sasl_kerberos_name: str | None = None
    sasl_kerberos_service_name: str = "kafka"

    @model_validator(mode="after")
    def _fits(self) -> KafkaOptions:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol is {self.security_protocol}, so sasl_mechanism has to be set")
        if not sasl and self.sasl_mechanism is not None:
            raise ValueError(
                f"sasl_mechanism is {self.sasl_mechanism}, so security_protocol has to be SASL_PLAINTEXT or SASL_SSL, "
                f"not {self.security_protocol}"
            )
        password_based = self.sasl_mechanism is not None and self.sasl_mechanism != "GSSAPI"
        if password_based and (self.sasl_plain_username is None or self.sasl_plain_password is None):
            raise ValueError(f"{self.sasl_mechanism} needs sasl_plain_username and sasl_plain_password")
        if self.batch_bytes is not None and self.batch_bytes >= self.max_record_bytes:
            raise ValueError(
                f"batch_bytes ({self.batch_bytes}) has to be below max_record_bytes ({self.max_record_bytes}), "
                "or the broker refuses whole batches"
            )
        return self

    @property
    def largest_batch(self) -> int:
        """Bytes of records that are sent together to a partition, which takes one batch at a time: so large ones."""
        return self.batch_bytes or self.max_record_bytes - 1_024

    def connection(self) -> dict[str, Any]:
        """What every client is told."""
        told: dict[str, Any] = {
            "client_id": CLIENT_ID,
            "request_timeout_ms": int(self.request_seconds * 1000),
            "retry_backoff_ms": 5,
            "reconnect_backoff_ms": 20,
            "reconnect_backoff_max_ms": 500,
            "metadata_max_age_ms": 60_000,
            "bootstrap_timeout_ms": int(self.patience_seconds * 1000),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            told["ssl_check_hostname"] = self.ssl_check_hostname
            for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
                path = getattr(self, name)
                told[name] = None if path is None else str(path)
            told["ssl_password"] = self.ssl_password
        if self.sasl_mechanism is not None:
            names = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "sasl_kerberos_name")
            told |= {name: getattr(self, name) for name in names}
            told["sasl_kerberos_service_name"] = self.sasl_kerberos_service_name
        return told
