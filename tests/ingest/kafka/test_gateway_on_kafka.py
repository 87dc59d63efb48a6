"""Gateways on Apache Kafka: outages are outlived, and several share the work."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from ingest.deletions import Deletions
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


def as_a_client(ask: Callable[[], httpx.Response], passing: Sequence[int] = (503,), expected: int = 200) -> None:
    """Ask again while the answer is one that passes: where a gateway died, its shares are dealt anew."""
    reply = until(lambda: (found := ask()).status_code not in passing and found, "an answer", every=0.2)
    assert reply, "unreachable"
    assert reply.status_code == expected, reply.text


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
        gone = gateway.open("deleted-meanwhile")
        unheard = gateway.http.delete(f"/v1/sessions/{gone}")
        assert (unheard.status_code, unheard.json()["retryable"]) == (503, True), "no reader can know of it yet"
        assert gateway.post(gone, steps(0, 1)).status_code == 410, "but it is kept"
        own_broker.start()
        until(lambda: spooled(tmp_path) == 0, "the spool is drained")
        as_a_client(lambda: gateway.http.delete(f"/v1/sessions/{gone}"), expected=202)
        assert gone in Deletions(log).open()
        for session_id in sessions:
            assert gateway.post(session_id, steps(16, 18)).status_code == 200
        assert gateway.http.post(f"/v1/sessions/{during}/end", json={"next_seq": 2}).status_code == 200
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
        assert gateway.post(session_id, steps(taken, taken + 1)).status_code == 200
    assert seqs(log, session_id) == list(range(taken + 1))


def test_a_silent_broker_takes_no_share_away_however_long_it_is_silent(own_broker: Kafka, tmp_path: Path) -> None:
    log = log_on(own_broker, partitions=2, shares=2, patience_seconds=0.5)
    with running(tmp_path, log=log) as gateway:
        await_ready(gateway)
        sessions = [gateway.open() for _ in range(4)]
        own_broker.pause()
        seq, silent_until = 0, time.monotonic() + 4 * log.options.session_seconds
        while time.monotonic() < silent_until:
            for session_id in sessions:
                reply = gateway.post(session_id, steps(seq, seq + 1))
                assert reply.status_code == 200, f"during the outage: {reply.text}"
            seq += 1
        assert spooled(tmp_path) > 0
        own_broker.resume()  # which puts the gateway out of its group first of all, for its silence
        put_out_until = time.monotonic() + 4 * log.options.session_seconds
        while spooled(tmp_path) > 0 or time.monotonic() < put_out_until:
            for session_id in sessions:
                reply = gateway.post(session_id, steps(seq, seq + 1))
                assert reply.status_code == 200, f"after the outage: {reply.text}"
            seq += 1
    for session_id in sessions:
        assert seqs(log, session_id) == list(range(seq))


def test_what_was_spooled_for_a_share_that_another_gateway_has_by_now_is_in_the_log_before_what_that_one_takes(
    own_broker: Kafka, tmp_path: Path, run_gateway: RunGateway
) -> None:
    log = log_on(own_broker, partitions=2, shares=1, patience_seconds=0.5)
    first, process = run_gateway(log, tmp_path / "first")
    session_id = first.open()
    assert first.post(session_id, steps(0, 4)).status_code == 200
    second, _ = run_gateway(log, tmp_path / "second", ready=False)
    own_broker.pause()
    assert first.post(session_id, steps(4, 8)).status_code == 200
    assert first.post(session_id, steps(8, 9)).status_code == 200
    process.send_signal(signal.SIGSTOP)
    own_broker.resume()
    until(lambda: owned(second, [session_id]) == 1, "the other gateway has the share")
    assert second.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 4
    process.send_signal(signal.SIGCONT)
    as_a_client(lambda: second.post(session_id, steps(9, 12)), passing=(503, 409))
    assert seqs(log, session_id) == list(range(12))


RunGateway = Callable[..., "tuple[RunningGateway, subprocess.Popen[str]]"]


@pytest.fixture
def run_gateway(run_program: Run) -> RunGateway:
    """A gateway in a process of its own; where no share is left for it, it serves without being `ready`."""

    def run(log: KafkaLog, folder: Path, ready: bool = True) -> tuple[RunningGateway, subprocess.Popen[str]]:
        folder.mkdir(exist_ok=True)
        if not (folder / "tokens.json").exists():
            tokens_in(folder)
        process = run_program("run_gateway_on", (log, folder), json.dumps({"port": 0}))
        assert process.stdout is not None
        gateway = RunningGateway(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
        if ready:
            await_ready(gateway)
        return gateway, process

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
        as_a_client(lambda: first.post(session_id, steps(6, 8)))  # noqa: B023  # called at once
    for session_id in sessions:
        assert seqs(log, session_id) == list(range(8))
