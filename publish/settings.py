"""The settings of this room; `stovetop.toml` holds them under `[publish]` and `[follow]`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from publish.alarms import AlarmSettings

REPOSITORY = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"


class PublishSettings(BaseModel):
    """The publisher's: where entries come from, where versions go, and how many stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: Path = Path("data/hub")
    bucket: str | None = Field(
        None, pattern="^s3://", description="s3://bucket/prefix, to publish to in place of `hub`"
    )
    repository: str | None = Field(
        None, pattern=REPOSITORY, description="name/space on the Hugging Face Hub, to publish to in place of `hub`"
    )
    endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="where `bucket` or `repository` is, if not at Amazon's or Hugging Face's",
    )
    token: str | None = Field(None, description="for `repository`; none: what the Hub's client was logged in with")
    commits_per_hour: float = Field(128.0, ge=4, description="that `repository` may get; what waits gives way to newer")
    upload_bytes_per_second: float | None = Field(
        None, gt=0, description="that go out to `bucket` or `repository`, at most; none: as many as the line takes"
    )
    outbox: Path = Path("data/outbox")
    key: Path = Path("data/keys/publisher.key")
    channel: str = "stable"
    keep: int = Field(20, ge=1, description="versions whose files stay; what channels need stays besides")
    deltas: bool = Field(
        True, description="tell followers what has changed since the version before, where that is less"
    )
    longest_wait: float = Field(30.0, gt=0, description="seconds between two tries while the hub is away, at most")

    @model_validator(mode="after")
    def _goes_to_one_place(self) -> PublishSettings:
        _only_one(bucket=self.bucket, repository=self.repository)
        return self


class HubSettings(BaseModel):
    """The embedded hub's: where it listens, and what it serves beside the publisher's directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(7080, ge=0, le=65535, description="0 takes any free one")
    serve: bool = Field(False, description="let `stovetop up` serve it beside the rest; `stovetop hub` does alone")
    repository: str | None = Field(
        None,
        pattern=REPOSITORY,
        description="the name of the service's own; stovetop/ and the app's name otherwise",
    )
    main: str = Field("stable", description="the channel that whoever names no revision gets")
    repositories: Path = Path("data/repositories")
    largest_commit: int = Field(4 << 30, ge=1, description="bytes of one commit to a plain repository")


class FollowSettings(BaseModel):
    """The follower's. `trusted_keys` are the publisher's public keys as `ed25519:…`; several while one is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: Path = Path("data/hub")
    url: str | None = Field(
        None, pattern="^https?://", description="an embedded hub to follow in place of the directory"
    )
    token: str = Field("", description="for the hub at `url`, with the scope read, or for `repository`")
    bucket: str | None = Field(
        None, pattern="^s3://", description="s3://bucket/prefix, to follow in place of the directory"
    )
    repository: str | None = Field(
        None, pattern=REPOSITORY, description="name/space on the Hugging Face Hub, to follow in place of the directory"
    )
    endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="where `bucket` or `repository` is, if not at Amazon's or Hugging Face's",
    )
    channel: str = "stable"
    trusted_keys: tuple[str, ...] = ()
    cache: Path = Path("data/follower")
    base: Path | None = Field(None, description="the packaged folder that is served until there is a version")
    heartbeat: float = Field(1.0, gt=0, description="seconds between two reports")
    longest_wait: float = Field(5.0, gt=0, description="seconds between two tries after failures, at most")
    alarms: AlarmSettings = AlarmSettings()
    follower: str = Field("", max_length=64, description="its name in heartbeats and alarms; the machine's otherwise")
    control: str | None = Field(
        None, pattern="^https?://", description="the control server to tell, if it is not this service's own"
    )
    control_token: str = Field("", description="for it, with the scope operate")

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> FollowSettings:
        _only_one(url=self.url, bucket=self.bucket, repository=self.repository)
        return self


def _only_one(**places: str | None) -> None:
    given = [f"{name} = {place!r}" for name, place in places.items() if place is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: versions are in one place; set one of them")
