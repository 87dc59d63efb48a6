"""The one settings file: `stovetop.toml`, every key also as `STOVETOP_…` (`STOVETOP_GATEWAY__PORT=7171`).

Each room defines its own settings; here they are put together, and every folder that was not set gets its place under
`data`. Relative paths count from the folder of the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from control.agents import AgentsSettings
from control.api import NAME_PATTERN
from control.settings import ControlSettings
from ingest.pipeline import PipelineSettings
from ingest.settings import GatewaySettings, LogSettings
from ingest.shards import ArchiveSettings
from publish.gate import GateSettings
from publish.settings import FollowSettings, HubSettings, PublishSettings
from stovetop.errors import ConfigurationError

CONFIG = "STOVETOP_CONFIG"
DEFAULT_CONFIG = "stovetop.toml"

_file: ContextVar[Path | None] = ContextVar("stovetop_config", default=None)


class AppSettings(BaseModel):
    """What the deployed app brings, as `module:name` each, and the folder of its base model and shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("app", pattern=NAME_PATTERN)
    session_schema: str | None = Field(
        None, description="what its steps look like (JSON Schema): module:name, or the path of a .json file"
    )
    to_tensors: str | None = Field(None, description="members of a sample to what the trainer takes")
    recipe: str | None = Field(None, description="a trainer.TrainingContext to the trainer that `stovetop train` runs")
    evaluation: str | None = Field(None, description="a version's folder to figures, which the gate judges it by")
    samples: str | None = Field(
        None, description="a version's folder to pictures of what it paints, shown beside those of the version before"
    )
    base_model: Path | None = Field(None, description="the packaged weights that training and serving begin with")
    base_shards: Path | str | None = Field(
        None, union_mode="left_to_right", description="shards of the source `base`: a folder, or s3://bucket/prefix"
    )

    @field_validator("base_shards", mode="wrap")
    @classmethod
    def _place_of_shards(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """An address in S3 is no path."""
        return value if isinstance(value, str) and value.startswith("s3://") else check(value)


class MixtureSettings(BaseModel):
    """The sources' weights at the start of a run, and how far the live one may lag before it jumps forward."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Mapping[str, float] = {"live": 1.0}
    seed: int = 0
    max_lag: int | None = Field(None, ge=1, description="samples that may wait in one partition of `live`")
    max_lag_seconds: float | None = Field(None, gt=0)
    workers: int = Field(0, ge=0, description="processes that load samples ahead; 0: the trainer loads them itself")


class TrainSettings(BaseModel):
    """How often a run saves and publishes by itself, in seconds, and what the app's recipe is told beside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint_seconds: float | None = Field(60.0, gt=0)
    publish_seconds: float | None = Field(15.0, gt=0)
    keep_checkpoints: int = Field(5, ge=1)
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="of the averaged weights that are published; none: raw"
    )
    threads: int | None = Field(None, ge=1, description="of torch; none: as many as it finds")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="of the mixture's metrics; none: not served")
    options: Mapping[str, Any] = Field({}, description="for the recipe, as it likes")


class SamplesSettings(BaseModel):
    """How often pictures of a new version are made, where the app has `samples`: after each `every` seconds of the newest
    one, in `seconds` at most, in a process that comes after all others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: float = Field(60.0, gt=0)
    seconds: float = Field(30.0, gt=0)


class UpSettings(BaseModel):
    """The supervisor's: pauses between restarts, and how long roles have to stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_pause: float = Field(0.5, gt=0)
    longest_pause: float = Field(30.0, gt=0)
    grace: float = Field(20.0, gt=0)


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="STOVETOP_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data: Path = Path(".stovetop")
    run: str = Field("main", pattern=NAME_PATTERN)
    app: AppSettings = AppSettings()
    log: LogSettings
    gateway: GatewaySettings = GatewaySettings()
    pipeline: PipelineSettings = PipelineSettings()
    archive: ArchiveSettings
    mixture: MixtureSettings = MixtureSettings()
    train: TrainSettings = TrainSettings()
    control: ControlSettings = ControlSettings()
    agents: AgentsSettings = AgentsSettings()
    publish: PublishSettings = PublishSettings()
    gate: GateSettings = GateSettings()
    hub: HubSettings = HubSettings()
    follow: FollowSettings = FollowSettings()
    samples: SamplesSettings = SamplesSettings()
    up: UpSettings = UpSettings()

    @model_validator(mode="before")
    @classmethod
    def _place(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Give every folder that was not set its place under `data`."""
        root = (_file.get() or Path.cwd() / DEFAULT_CONFIG).parent
        data = root / Path(values.get("data", ".stovetop"))
        values["data"] = data
        places: dict[str, dict[str, Path]] = {
            "log": {"folder": data / "log"},
            "gateway": {"subject_key": data / "keys" / "subjects.key"},
            "archive": {"folder": data / "shards", "staging": data / "staging", "cache": data / "shard-cache"},
            "control": {"data": data / "control"},
            "publish": {"hub": data / "hub", "outbox": data / "outbox", "key": data / "keys" / "publisher.key"},
            "hub": {"repositories": data / "repositories"},
            "follow": {"hub": data / "hub", "cache": data / "follower"},
        }
        for section, folders in places.items():
            given = values.setdefault(section, {})
            if isinstance(given, dict):
                for key, place in folders.items():
                    given[key] = root / given[key] if key in given else place
        app = values.get("app")
        if isinstance(app, dict):
            for key in ("base_model", "base_shards"):
                if app.get(key) and not str(app[key]).startswith("s3://"):
                    app[key] = root / app[key]
        _place_schemas(app if isinstance(app, dict) else {}, values.setdefault("gateway", {}), root)
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed wins over the environment, and that over the file."""
        file = _file.get()
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @property
    def tokens(self) -> Path:
        """The file of accepted tokens."""
        return self.data / "tokens.json"

    @property
    def secrets(self) -> Path:
        """Where this machine's own tokens are kept for the roles and the command line (mode 0700)."""
        return self.data / "secrets"

    @property
    def runs(self) -> Path:
        """Checkpoints, segments and journals, one folder a run."""
        return self.data / "runs"

    @property
    def judged(self) -> Path:
        """Where the gate keeps its decisions."""
        return self.data / "gate"

    @property
    def recalled(self) -> Path:
        """Where the publisher keeps what it decided on followers' alarms."""
        return self.data / "recalls"

    @property
    def painted(self) -> Path:
        """Where the files of a version lie while pictures are made of it."""
        return self.data / "painting"

    @property
    def trained_to(self) -> str:
        """The channel that training publishes to: the candidates' where there is a gate."""
        return self.gate.channel if self.gate.enabled else self.publish.channel

    @property
    def doors(self) -> Path:
        """Where a running `up` says at which addresses it can be reached."""
        return self.data / "doors.json"


def _place_schemas(app: dict[str, Any], gateway: Any, root: Path) -> None:
    """The app's own session schema is one of those that the gateway holds sessions to."""
    if not isinstance(gateway, dict):
        return
    schemas = dict(gateway.get("schemas") or {})
    if app.get("session_schema"):
        schemas.setdefault(app.get("name", "app"), app["session_schema"])
    for name, reference in schemas.items():
        if isinstance(reference, str) and reference.endswith(".json"):
            schemas[name] = str(root / reference)
    if schemas:
        gateway["schemas"] = schemas


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read `config`, else the file named by STOVETOP_CONFIG, else `stovetop.toml` here if there is one.

    Raises ConfigurationError for a file that is missing or a value that is refused, naming all of them.
    """
    named = config or (Path(os.environ[CONFIG]) if os.environ.get(CONFIG) else None)
    file = (named or Path(DEFAULT_CONFIG)).absolute()
    if not file.is_file():
        if named is not None:
            raise ConfigurationError(f"{file}: no such file; name one with --config or {CONFIG}")
        chosen = None
    else:
        chosen = file
        if str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))  # so that the app's plug-ins beside the file are found
    token = _file.set(chosen)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, chosen)) from error
    except ValueError as error:  # the file is not TOML
        raise ConfigurationError(f"{chosen}: {error}") from error
    finally:
        _file.reset(token)


def _explain(error: ValidationError, file: Path | None) -> str:
    lines = []
    for detail in error.errors():
        where = ".".join(str(part) for part in detail["loc"]) or "settings"
        lines.append(f"{where}: {detail['input']!r:.120}: {detail['msg']}")
    return f"{file or 'the environment'} is refused:\n  " + "\n  ".join(lines)
