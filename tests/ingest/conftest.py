"""Parts shared by the tests of ingest: a log to write to, and other programs to run beside the test."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.kafka import KafkaWriter
from ingest.log import Log, LogWriter
from ingest.shards import ShardStore
from ingest.sqlite import SqliteLog, SqliteWriter
from tests.brokers import Broker, Tansu
from tests.conftest import log_on
from tests.ingest.stores import KINDS, make_store

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"

Run = Callable[..., "subprocess.Popen[str]"]


class LogFactory:
    """Makes empty logs of one backend, and gaps in their offsets as that backend gets them.

    `sized`: bounds tell bytes; `dense`: a commit leaves no gap; `trims`, `aborts`: the broker has these functions.
    """

    sized = dense = trims = aborts = True
    prompt = 0.02
    """Seconds within which news reach another process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0

    def make(self) -> Log:
        self._made += 1
        return SqliteLog(self._folder / f"log{self._made}")

    def leave_gap(self, writer: LogWriter, topic: str, partition: int, count: int) -> None:
        assert isinstance(writer, SqliteWriter)
        writer.skip(topic, partition, count)


class BrokerFactory(LogFactory):
    """Logs on a broker; a gap is an aborted transaction."""

    sized = dense = False
    prompt = 0.5

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.trims = self.aborts = not isinstance(broker, Tansu)

    def make(self) -> Log:
        return log_on(self._broker)

    def leave_gap(self, writer: LogWriter, topic: str, partition: int, count: int) -> None:
        assert isinstance(writer, KafkaWriter)
        writer.skip(topic, partition, count)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka), "tansu"])
def log_factory(request: pytest.FixtureRequest, tmp_path: Path) -> LogFactory:
    if request.param == "sqlite":
        return LogFactory(tmp_path)
    return BrokerFactory(request.getfixturevalue(f"{request.param}_broker"))


@pytest.fixture
def run_program() -> Iterator[Run]:
    """Start a program of `programs/` with a pickled first argument; whatever still runs is killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def run(name: str, payload: object, *args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / f"{name}.py"), pickle.dumps(payload).hex(), *map(str, args)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShardStore:
    """An empty store of each kind."""
    return make_store(request.param, request, tmp_path)
