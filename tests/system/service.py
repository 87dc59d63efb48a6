"""`stovetop up` as a user starts it: a settings file in a folder, the app's plug-ins beside it, and one process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec
import psutil

from ingest.kafka import KafkaLayout, KafkaLog
from ingest.log import Log
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from publish import DirectoryHub
from tests.conftest import quick_options
from tests.waiting import PATIENCE, until
from trainer.segments import RunFolder

APP = Path(__file__).parent / "app"
MARK = "STOVETOP_TRIAL"
RUN = "trial"
ROLES = ("gateway", "pipeline", "control", "train", "publish")

SETTINGS = """
run = "{run}"
data = "data"

[app]
name = "thumbnail"
session_schema = "thumbnail_steps:SCHEMA"
to_tensors = "thumbnail_training:to_tensors"
recipe = "thumbnail_training:recipe"
base_model = "base"
base_shards = "shards"

[gateway]
port = {gateway}
idle_seconds = 12.0

[control]
port = {control}

[pipeline.annotator]
plugin = "thumbnail_steps:Thrifty"

[pipeline.archiver]
max_age = 1.0

[mixture]
weights = {{ base = 0.1, history = 0.2, live = 0.7 }}

[train]
checkpoint_seconds = 2
publish_seconds = 1
ema_decay = 0.9
threads = 1
"""


def on_kafka(servers: str, prefix: str) -> dict[str, str]:
    """The environment of a service whose log is on Kafka."""
    return {
        "STOVETOP_LOG__BACKEND": "kafka",
        "STOVETOP_LOG__BOOTSTRAP_SERVERS": servers,
        "STOVETOP_LOG__KAFKA__TOPIC_PREFIX": prefix,
    }


def packaged(folder: Path) -> Path:
    """Put the tiny app's base model and base shards into a folder, and return it."""
    sys.path.insert(0, str(APP))
    try:
        from thumbnail_training import write_base, write_base_shard
    finally:
        sys.path.remove(str(APP))
    write_base(folder / "base")
    write_base_shard(folder / "shards")
    return folder


class Doors(msgspec.Struct, frozen=True):
    """What a running service says of itself in `doors.json`."""

    pid: int
    gateway: str
    control: str
    hub: str
    channel: str
    public_key: str


class Service:
    """One data folder and the `up` on it. `environment` overrides settings, as it does for users."""

    def __init__(self, root: Path, base: Path, environment: Mapping[str, str] | None = None) -> None:
        self.root, self.data = root, root / "data"
        self.config = root / "stovetop.toml"
        self.environment = dict(environment or {})
        self.mark = uuid.uuid4().hex
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        shutil.copytree(APP, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(base, root, dirs_exist_ok=True)
        self.config.write_text(SETTINGS.format(run=RUN, gateway=free_port(), control=free_port()))

    # The process

    def up(self, ready: bool = True) -> None:
        """Start it, and wait until it has told its doors."""
        assert self.process is None or self.process.poll() is not None, "it runs"
        self.starts += 1
        with self.told.open("wb") as out, self.warned.open("wb") as err:
            self.process = subprocess.Popen(self._command("up"), cwd=self.root, env=self._env(), stdout=out, stderr=err)
        if ready:
            until(lambda: "Ctrl-C stops everything" in self.told.read_text() or self._over(), "it tells its doors")
            assert not self._over(), self.warned.read_text()

    @property
    def told(self) -> Path:
        """What the newest `up` printed."""
        return self.root / f"up-{self.starts}.out"

    @property
    def warned(self) -> Path:
        """What the newest `up` warned of."""
        return self.root / f"up-{self.starts}.err"

    def cli(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own."""
        command = self._command(*arguments)
        return subprocess.run(
            command, cwd=self.root, env=self._env(), capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command that goes on until it is told to stop."""
        return subprocess.Popen(
            self._command(*arguments), cwd=self.root, env=self._env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9 of the supervisor."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End whatever is left of it, by force."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    # Its processes

    def family(self) -> list[psutil.Process]:
        """Every process that was started for this trial and lives, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def role(self, name: str) -> psutil.Process | None:
        """The process of a role, if it runs."""
        assert self.process is not None
        try:
            children = psutil.Process(self.process.pid).children()
            return next((child for child in children if child.cmdline()[-1:] == [name]), None)
        except psutil.NoSuchProcess:
            return None

    def archiver(self) -> psutil.Process | None:
        """The pipeline's child."""
        pipeline = self.role("pipeline")
        try:
            children = pipeline.children() if pipeline is not None else []
            return next((child for child in children if "spawn_main" in " ".join(child.cmdline())), None)
        except psutil.NoSuchProcess:
            return None

    def at_work(self, name: str) -> bool:
        """Whether a role has come so far that it does what it is there for."""
        process = self.role(name)
        if process is None:
            return False
        match name:
            case "gateway":
                return answers(f"{self.doors.gateway}/readyz")
            case "control":
                return answers(f"{self.doors.control}/readyz")
            case "train":
                return self._trains(process)
            case "pipeline":
                return self.archiver() is not None and self._locked(name, process)
            case _:
                return self._locked(name, process)

    def _trains(self, process: psutil.Process) -> bool:
        segments = self.run.segments()
        try:
            began = process.create_time()
        except psutil.NoSuchProcess:
            return False
        return (
            bool(segments)
            and segments[-1].created_at > began
            and any((self.run.folder_of(segments[-1].id) / "trained").glob("*.jsonl"))
        )

    def _locked(self, name: str, process: psutil.Process) -> bool:
        lock = self.data / "locks" / f"{name}.lock"
        return lock.exists() and lock.read_text() == str(process.pid)

    # What it left

    @property
    def doors(self) -> Doors:
        """Where it can be reached."""
        return msgspec.json.decode((self.data / "doors.json").read_bytes(), type=Doors)

    @property
    def token(self) -> str:
        """The app's token."""
        return (self.data / "secrets" / "app").read_text().strip()

    @property
    def operator(self) -> str:
        """The operator's token."""
        return (self.data / "secrets" / "operator").read_text().strip()

    @property
    def log(self) -> Log:
        """The log."""
        servers = self.environment.get("STOVETOP_LOG__BOOTSTRAP_SERVERS")
        if servers is None:
            return SqliteLog(self.data / "log")
        options = quick_options(topic_prefix=self.environment["STOVETOP_LOG__KAFKA__TOPIC_PREFIX"])
        return KafkaLog(servers, KafkaLayout(options.topic_prefix, 4, 1), options)

    @property
    def store(self) -> DirectoryStore:
        """The shards."""
        return DirectoryStore(self.data / "shards")

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.data / "runs" / RUN)

    @property
    def hub(self) -> DirectoryHub:
        """The hub."""
        return DirectoryHub(self.data / "hub")

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "stovetop.cli", *arguments, "--config", str(self.config)]

    def _env(self) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", MARK: self.mark, **self.environment}

    def _over(self) -> bool:
        return self.process is not None and self.process.poll() is not None


def answers(address: str) -> bool:
    """Whether a door is open."""
    try:
        return httpx.get(address, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
