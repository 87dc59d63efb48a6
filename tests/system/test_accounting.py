"""Eight visitors on Apache Kafka, kill -9 of gateway, broker, annotator and archiver in any order; then the books."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from auth.tokens import Scope, TokenStore
from ingest.annotator_worker import AnnotatorSettings
from ingest.archive_lane import ArchiverSettings
from ingest.pipeline import PipelineSettings
from ingest.settings import GatewaySettings
from ingest.shards import DirectoryStore
from tests.brokers import Kafka, kafka_home
from tests.conftest import log_on
from tests.system import reckoning
from tests.system.crowd import Crowd
from tests.system.service import APP, free_port
from tests.system.test_kill import _annotator
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.kafka]

PROGRAMS = Path(__file__).parents[1] / "ingest" / "programs"
ROOT = Path(__file__).parents[2]
TOKEN = "secret-of-the-app"
SEATS = 8
BUDGET = 32 << 20
RSS_ALLOWANCE = 200 << 20
IDLE = 15.0
"""Seconds until a silent session is ended: longer than a killed broker needs, which is no visitor's silence."""


class Works:
    """A broker, a gateway and a pipeline, each started again when it dies."""

    def __init__(self, folder: Path, broker: Kafka) -> None:
        self.folder, self.broker = folder, broker
        self.log = log_on(broker, partitions=4, shares=2, patience_seconds=1.0)
        self.store = DirectoryStore(folder / "shards")
        self.port = free_port()
        self.settings = GatewaySettings(port=self.port, idle_seconds=IDLE, budget_bytes=BUDGET)
        self.pipeline_settings = PipelineSettings(
            annotator=AnnotatorSettings(plugin="thumbnail_steps:Thrifty"), archiver=ArchiverSettings(max_age=1.0)
        )
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.peak = 0
        self.kills = 0
        self._over = threading.Event()
        self._broker_lock = threading.Lock()
        TokenStore(folder / "tokens.json").add("app", [Scope.INGEST], TOKEN)
        self._thread = threading.Thread(target=self._tend, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        until(self.ready, "the gateway is ready")

    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=2.0, trust_env=False).status_code == 200
        return False

    def kill(self, target: str) -> None:
        self.kills += 1
        if target == "broker":
            with self._broker_lock:
                self.broker.kill()
                time.sleep(0.5)  # an outage, however short
                self.broker.start()
            return
        process = self.parts.get("gateway" if target == "gateway" else "pipeline")
        if process is None:
            return
        if target == "archiver":
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
            return
        process.kill()

    def close(self, patience: float = 30.0) -> None:
        """End all, in order; what hangs, by force."""
        self._over.set()
        self._thread.join()
        for process in self.parts.values():
            process.terminate()
        deadline = time.monotonic() + patience
        for process in self.parts.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            process.kill()
            process.wait()

    def _tend(self) -> None:
        while not self._over.wait(0.1):
            for name in ("gateway", "pipeline"):
                process = self.parts.get(name)
                if process is None or process.poll() is not None:
                    self.parts[name] = self._spawn(name)
            with suppress(psutil.Error):
                self.peak = max(self.peak, psutil.Process(self.parts["gateway"].pid).memory_info().rss)

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        if name == "gateway":
            payload: object = (self.log, self.folder)
            arguments = ["run_gateway_on.py", pickle.dumps(payload).hex(), self.settings.model_dump_json()]
        else:
            payload = (self.pipeline_settings, self.log, self.store)
            arguments = ["run_pipeline.py", pickle.dumps(payload).hex()]
        with (self.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, str(PROGRAMS / arguments[0]), *arguments[1:]],
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{APP}", "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
            )


@contextmanager
def works(folder: Path) -> Iterator[Works]:
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    broker = Kafka(folder / "kafka")
    broker.start()
    made = Works(folder, broker)
    try:
        made.start()
        yield made
    finally:
        made.close()
        broker.kill()


@pytest.mark.timeout(600)
def test_every_acknowledged_step_has_one_outcome_whatever_is_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    reconcile(tmp_path, 30.0, random.Random(), record_property)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_acknowledged_step_has_one_outcome_over_minutes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    reconcile(tmp_path, 300.0, random.Random(), record_property)


def reconcile(folder: Path, seconds: float, chance: random.Random, tell: Callable[[str, object], None]) -> None:
    with works(folder) as made:
        with Crowd(made.url, TOKEN, SEATS, chance.getrandbits(32)) as crowd:
            until_time = time.monotonic() + seconds
            targets: list[str] = []
            while time.monotonic() < until_time:
                targets = targets or chance.sample(["gateway", "broker", "annotator", "archiver"], 4)
                made.kill(targets.pop())
                time.sleep(chance.uniform(1.0, 4.0))  # between two kills
            crowd.__exit__(None, None, None)
            crowd.all_is_well()
        until(lambda: _settled(made, crowd), "every step has its outcome, in a shard", every=1.0)
        made.close()
        balance(made, crowd)
        tell("steps", crowd.acked)
        tell("kills", made.kills)
        tell("peak_mb", made.peak >> 20)
        print(f"{crowd.acked} steps acknowledged, {made.kills} kills, the gateway took {made.peak >> 20} MB")


def balance(made: Works, crowd: Crowd) -> None:
    """All that must be true of the log and the shards."""
    log, store = made.log, made.store
    logged = reckoning.read_log(log)
    assert logged.samples, "nothing was tried"
    reckoning.ingest_balances(logged, crowd.sent, _annotator(), log, store)
    assert made.peak < BUDGET + RSS_ALLOWANCE, f"the gateway took {made.peak >> 20} MB"


def _settled(made: Works, crowd: Crowd) -> bool:
    """Says what is missing, where something is."""
    logged = reckoning.read_log(made.log)
    behind = [each for each in crowd.sent if each.acked > len(logged.steps.get(each.session_id, ()))]
    if behind:
        print(f"not in the log yet: {[(each.session_id, each.acked) for each in behind]}")
        return False
    if open_ := logged.opened.keys() - logged.ends.keys():
        print(f"not ended yet: {open_}")
        return False
    steps, outcomes = sum(map(len, logged.steps.values())), sum(map(len, logged.outcomes.values()))
    if steps > outcomes:
        print(f"{steps} steps have {outcomes} outcomes yet")
        return False
    try:
        reckoning.chains_have_no_gap_and_no_overlap(made.log, made.store)
    except AssertionError as error:
        print(f"the chains are not whole yet: {error}")
        return False
    return True
