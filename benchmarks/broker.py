"""One Apache Kafka broker for measurements, from KAFKA_HOME, which ends with whoever started it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

START_SECONDS = 60.0
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "4194304",
}


def kafka_home() -> Path | None:
    """Where an Apache Kafka lies, if one does."""
    home = os.environ.get("KAFKA_HOME", "")
    return Path(home) if home and (Path(home) / "libs").is_dir() else None


@contextmanager
def broker(folder: Path, heap: str = "512m", settings: Mapping[str, str] = {}) -> Iterator[str]:
    """Runs one with its data in `folder`, and perhaps further `settings`; gives `host:port`."""
    home = kafka_home()
    if home is None:
        raise SystemExit("KAFKA_HOME names no Apache Kafka (a folder with libs/); it is needed here")
    port, controller = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(folder / "log"),
    }
    config = folder / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in {**SETTINGS, **settings, **places}.items()))
    logging = f"-Dlog4j2.configurationFile={home}/log4j2.yaml"
    java = ["java", "-Xms64m", f"-Xmx{heap}", "-XX:+UseSerialGC", logging, "-cp", f"{home}/libs/*"]
    command = [*java, "kafka.tools.StorageTool", "format", "-t", "stovetop-bench-00001", "-c", str(config)]
    subprocess.run(command, check=True, capture_output=True)
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the broker did not start; see {folder / 'output.log'}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a broker tells which API versions it speaks (a closed or mute port does not)."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=1_000).close()
    except (OSError, KafkaError):
        return False
    return True
