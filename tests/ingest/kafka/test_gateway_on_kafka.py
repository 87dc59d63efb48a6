"""Gateways on Apache Kafka: outages are outlived, and several share the work."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ingest.kafka import KafkaLog
from tests.brokers import Kafka, kafka_home
from tests.conftest import KafkaLogs, log_on
from tests.ingest.conftest import Run
from tests.ingest.gateways import RunningGateway, await_ready, owned, running, seqs, shape, steps, tokens_in
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker to be killed."""
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def spooled(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "spool").rglob("*.spool"))


def as_a_client(ask: Callable[[], httpx.Response], seconds: float = 30.0) -> None:
    """Ask again while the answer is that one may: after an outage the shares are dealt anew."""
    deadline = time.monotonic() + seconds
    while (reply := ask()).status_code == 503 and reply.json()["retryable"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert reply.status_code == 200, reply.text


def test_steps_are_taken_during_an_outage_and_reach_the_log_in_order(own_broker: Kafka, tmp_path: Path) -> None:
    log = log_on(own_broker, partitions=2, shares=2, patience_seconds=1.0)
    with running(tmp_path, log=log) as gateway:
        await_ready(gateway)
        sessions = [gateway.open() for _ in range(3)]
        for session_id in sessions:
            assert gateway.post(session_id, steps(0, 4)).status_code == 200
        own_broker.kill()
        for start in (4, 8, 12):
            for session_id in sessions:
                reply = gateway.post(session_id, steps(start, start + 4))
                assert reply.status_code == 200, reply.text
                assert reply.json()["durable_through"] == start + 3
        assert spooled(tmp_path) > 0
        again = gateway.post(sessions[0], steps(12, 16))
        assert again.json()["results"] == {"all": "duplicate"}
        assert gateway.post(sessions[0], steps(20, 21)).status_code == 409
        during = gateway.open("opened-meanwhile")
        assert gateway.post(during, steps(0, 2)).status_code == 200
        own_broker.start()
        until(lambda: spooled(tmp_path) == 0, "the spool is drained")
        for session_id in sessions:
            as_a_client(lambda: gateway.post(session_id, steps(16, 18)))  # noqa: B023  # called at once
        as_a_client(lambda: gateway.http.post(f"/v1/sessions/{during}/end", json={"next_seq": 2}))
    for session_id in sessions:
        assert seqs(log, session_id) == list(range(18))
    assert shape(log, during) == ["opened", "steps", "ended:client"]


def test_a_spool_outlives_the_gateway(own_broker: Kafka, tmp_path: Path, run_gateway: RunGateway) -> None:
    log = log_on(own_broker, partitions=2, shares=1, patience_seconds=1.0)
    gateway, process = run_gateway(log, tmp_path)
    session_id = gateway.open()
    assert gateway.post(session_id, steps(0, 4)).status_code == 200
    own_broker.kill()
    assert gateway.post(session_id, steps(4, 8)).status_code == 200
    assert gateway.post(session_id, steps(8, 9)).status_code == 200
    process.kill()
    process.wait()
    own_broker.start()
    gateway, process = run_gateway(log, tmp_path)
    assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 9
    assert gateway.post(session_id, steps(9, 12)).status_code == 200
    assert seqs(log, session_id) == list(range(12))


def test_a_full_spool_is_told_and_nothing_is_taken(own_broker: Kafka, tmp_path: Path) -> None:
    log = log_on(own_broker, partitions=1, shares=1, patience_seconds=0.5)
    with running(tmp_path, log=log, spool_bytes=100_000) as gateway:
        await_ready(gateway)
        session_id = gateway.open()
        own_broker.kill()
        taken = 0
        while (reply := gateway.post(session_id, steps(taken, taken + 1, pad="x" * 20_000))).status_code == 200:
            taken += 1
        assert 1 <= taken <= 5
        assert reply.status_code == 503
        assert reply.json()["type"].endswith("spool-full")
        assert int(reply.headers["Retry-After"]) >= 1
        own_broker.start()
        until(lambda: spooled(tmp_path) == 0, "the spool is drained")
        as_a_client(lambda: gateway.post(session_id, steps(taken, taken + 1)))
    assert seqs(log, session_id) == list(range(taken + 1))


RunGateway = Callable[[KafkaLog, Path], "tuple[RunningGateway, subprocess.Popen[str]]"]


@pytest.fixture
def run_gateway(run_program: Run) -> RunGateway:
    """A gateway in a process of its own, ready."""

    def run(log: KafkaLog, folder: Path) -> tuple[RunningGateway, subprocess.Popen[str]]:
        folder.mkdir(exist_ok=True)
        if not (folder / "tokens.json").exists():
            tokens_in(folder)
        process = run_program("run_gateway_on", (log, folder), json.dumps({"port": 0}))
        assert process.stdout is not None
        gateway = RunningGateway(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
        return await_ready(gateway), process

    return run


def test_two_gateways_share_the_sessions_and_either_may_be_asked(
    kafka_logs: KafkaLogs, tmp_path: Path, run_gateway: RunGateway
) -> None:
    log = kafka_logs(partitions=4, shares=4)
    first, _ = run_gateway(log, tmp_path / "first")
    sessions = [f"session-{number}" for number in range(12)]
    for session_id in sessions:
        first.open(session_id)
        assert first.post(session_id, steps(0, 2)).status_code == 200
    second, process = run_gateway(log, tmp_path / "second")
    until(lambda: owned(first, sessions) + owned(second, sessions) == 12, "all sessions are somewhere")
    assert 0 < owned(second, sessions) < 12
    for start in (2, 4):
        for number, session_id in enumerate(sessions):
            asked = (first, second)[(number + start // 2) % 2]
            reply = asked.post(session_id, steps(start, start + 2))
            assert reply.status_code == 200, reply.text
    opened = second.http.post("/v1/sessions", json={"app": "desktop"}, headers={"Idempotency-Key": "once"})
    same = first.http.post("/v1/sessions", json={"app": "desktop"}, headers={"Idempotency-Key": "once"})
    assert opened.json()["session_id"] == same.json()["session_id"]
    process.kill()
    process.wait()
    for session_id in sessions:
        deadline = time.monotonic() + 30
        while (reply := first.post(session_id, steps(6, 8))).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert reply.status_code == 200, reply.text
    for session_id in sessions:
        assert seqs(log, session_id) == list(range(8))
