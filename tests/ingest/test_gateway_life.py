"""The gateway over time: restarts, silences, full queues and disks, retention, and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from auth.tokens import TokenStore
from ingest.errors import GatewayError, LogBroken, LogLocked
from ingest.gateway import serve_gateway
from ingest.retention import RetentionSettings
from ingest.settings import GatewaySettings
from ingest.sqlite import SqliteLog
from tests.ingest.conftest import Run
from tests.ingest.disks import Disk
from tests.ingest.gateways import INGEST, READ, running, seqs, shape, step, steps, stored, tokens_in
from tests.ingest.sockets import SocketClient, socket_url
from tests.waiting import until

HEAD = (
    f"POST /v1/sessions/{{session}}/steps HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {INGEST}\r\n"
    "Content-Type: application/x-ndjson\r\nIngest-First-Seq: 0\r\nContent-Length: {length}\r\n\r\n"
)


def raw(url: str, text: str) -> socket.socket:
    """A connection of its own that has sent `text`."""
    _, _, place = url.partition("//")
    host, _, port = place.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(text.encode())
    return connection


def answer(connection: socket.socket) -> str:
    """What comes back, whole."""
    reply = b""
    while (piece := connection.recv(65_536)) != b"":
        reply += piece
        head, ended, body = reply.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if ended and length is not None and len(body) >= int(length[1]):
            break
    return reply.decode()


def test_a_restart_remembers_what_was_taken(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        open_one, ended = gateway.open(), gateway.open()
        gateway.post(open_one, steps(0, 5))
        gateway.post(ended, [step(0, is_eos=True)])
        key = {"Idempotency-Key": "k"}
        opened = gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=key).json()["session_id"]
    with running(tmp_path) as gateway:
        assert gateway.post(open_one, steps(0, 5)).json()["results"] == {"all": "duplicate"}
        assert gateway.post(open_one, [step(4, inputs={})]).status_code == 409
        assert gateway.post(open_one, steps(5, 8)).json()["results"] == {"all": "ok"}
        assert gateway.post(ended, [step(0, is_eos=True)]).json()["results"] == {"all": "duplicate"}
        assert gateway.post(ended, [step(1)]).status_code == 410
        assert gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=key).json()["session_id"] == opened
        assert seqs(gateway.log, open_one) == list(range(8))


def test_a_silent_session_is_ended_and_later_forgotten(tmp_path: Path) -> None:
    with running(tmp_path, idle_seconds=0.3, ended_seconds=0.5, sweep_seconds=0.05) as gateway:
        silent, busy = gateway.open(), gateway.open()
        gateway.post(silent, steps(0, 2))

        def state() -> str:
            seq = int(gateway.http.get(f"/v1/sessions/{busy}").json()["next_seq"])
            assert gateway.post(busy, [step(seq)]).status_code == 200
            return str(gateway.http.get(f"/v1/sessions/{silent}").json().get("ended"))

        until(lambda: state() == "timeout", "the silent session is ended")
        assert gateway.post(silent, [step(2)]).status_code == 410
        assert shape(gateway.log, silent) == ["opened", "steps", "ended:timeout"]
        until(lambda: gateway.http.get(f"/v1/sessions/{silent}").status_code == 404, "it is forgotten")
        assert gateway.post(silent, [step(2)]).status_code == 404
        assert "ended:timeout" not in shape(gateway.log, busy)[:-1]
    assert not [key for key in SqliteLog(tmp_path / "log").writer_state("gateway") if silent in key]


def test_too_many_open_sessions_are_refused_for_now(tmp_path: Path) -> None:
    with running(tmp_path, max_open_sessions=2) as gateway:
        first, _ = gateway.open(), gateway.open()
        refused = gateway.http.post("/v1/sessions", json={"app": "desktop"})
        assert (refused.status_code, refused.json()["limit"], refused.json()["retryable"]) == (503, 2, True)
        assert int(refused.headers["retry-after"]) >= 1
        gateway.http.post(f"/v1/sessions/{first}/end")
        gateway.open()


def test_over_the_budget_a_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with running(tmp_path, max_step_bytes=1_000, max_body_bytes=100_000, budget_bytes=150_000) as gateway:
        session_id = gateway.open()
        holding = raw(gateway.url, HEAD.format(session=session_id, length=100_000) + "x")
        until(lambda: gateway.bare.get("/readyz").status_code == 503, "the first body holds its share")
        assert "budget" in gateway.bare.get("/readyz").json()["reason"]

        refused = raw(gateway.url, HEAD.format(session=session_id, length=60_000))  # and not a byte of the body
        reply = answer(refused)
        assert reply.startswith("HTTP/1.1 503")
        assert "urn:stovetop:problem:backpressure" in reply
        assert "retry-after: 1" in reply.lower()
        assert gateway.post(session_id, steps(0, 2)).status_code == 200, "small ones still fit"

        holding.close()
        until(lambda: gateway.bare.get("/readyz").status_code == 200, "the share is given back")
        assert gateway.post(session_id, steps(2, 4)).status_code == 200
        refused.close()
        text = gateway.bare.get("/metrics", headers={"Authorization": f"Bearer {READ}"}).text
        assert 'ingest_backpressure_total{reason="backpressure"} 1.0' in text


def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, stall_seconds=0.2) as gateway:
        session_id = gateway.open()
        with raw(gateway.url, HEAD.format(session=session_id, length=100) + '{"seq":0,') as connection:
            reply = answer(connection)
            assert reply.startswith("HTTP/1.1 408")
            assert "connection: close" in reply.lower()
        assert seqs(gateway.log, session_id) == []


def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, body_seconds=0.5) as gateway:
        session_id = gateway.open()
        with raw(gateway.url, HEAD.format(session=session_id, length=10_000)) as connection:
            connection.settimeout(0.05)
            reply = ""
            for _ in range(200):
                connection.sendall(b" ")
                try:
                    reply = answer(connection)
                    break
                except TimeoutError:
                    continue
            assert reply.startswith("HTTP/1.1 408")


def test_a_body_that_breaks_off_is_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        session_id = gateway.open()
        body = '{"seq":0,"time":1}\n'
        raw(gateway.url, HEAD.format(session=session_id, length=2 * len(body)) + body).close()
        assert gateway.post(session_id, steps(0, 1)).json()["results"] == {"all": "ok"}
        until(lambda: gateway.bare.get("/readyz").status_code == 200, "its share of the budget is given back")


def test_a_full_disk_is_told_and_recovers(tmp_path: Path) -> None:
    disk = Disk()
    with running(tmp_path, log=SqliteLog(tmp_path / "log", vfs=disk.name)) as gateway:
        session_id = gateway.open()
        disk.full = True
        refused = gateway.post(session_id, steps(0, 3))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:stovetop:problem:log-full")
        assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 0
        disk.full = False
        assert gateway.post(session_id, steps(0, 3)).json()["results"] == {"all": "ok"}
        assert seqs(gateway.log, session_id) == [0, 1, 2]


def test_a_failing_disk_ends_the_gateway_and_nothing_that_failed_was_acknowledged(tmp_path: Path) -> None:
    disk = Disk()

    def serve_until_it_fails() -> None:
        with running(tmp_path, log=SqliteLog(tmp_path / "log", vfs=disk.name), drain_seconds=2) as gateway:
            gateway.open("a-session-id")
            gateway.post("a-session-id", steps(0, 2))
            disk.failing = True
            assert gateway.post("a-session-id", steps(2, 4)).status_code == 503
            until(lambda: _refused(gateway.url), "it takes no more connections")

    session_id = "a-session-id"
    with pytest.raises(LogBroken):
        serve_until_it_fails()
    disk.failing = False
    with running(tmp_path) as gateway:
        assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] in (2, 4)
        assert gateway.post(session_id, steps(2, 4)).status_code == 200
        assert seqs(gateway.log, session_id) == [0, 1, 2, 3]


def test_retention_forgets_by_bytes_but_never_above_the_floor(tmp_path: Path) -> None:
    floor = {"offset": 0}
    retention = RetentionSettings(max_age=None, max_bytes=20_000)
    with running(
        tmp_path, floor=lambda partition: floor["offset"], retention=retention, retention_seconds=0.05
    ) as gateway:
        session_id = gateway.open()
        for first in range(0, 40, 2):
            assert gateway.post(session_id, steps(first, first + 2, pad="x" * 1_000)).status_code == 200
        reader = gateway.log.reader()
        (partition,) = [number for number in range(4) if reader.bounds("steps", number).end]
        time.sleep(0.2)  # several looks, none of which may trim
        assert reader.bounds("steps", partition).start == 0
        floor["offset"] = 5
        until(lambda: reader.bounds("steps", partition).start == 5, "what lies below the floor goes")
        floor["offset"] = 1_000
        until(lambda: reader.bounds("steps", partition).size <= 20_000, "what is too much goes")
        assert reader.bounds("steps", partition).size > 15_000
        assert gateway.post(session_id, steps(40, 42)).json()["results"] == {"all": "ok"}
        assert seqs(gateway.log, session_id)[-2:] == [40, 41]
        reader.close()


def test_retention_forgets_by_age(tmp_path: Path) -> None:
    retention = RetentionSettings(max_age=0.5, max_bytes=None)
    with running(tmp_path, floor=lambda partition: 10**9, retention=retention, retention_seconds=0.05) as gateway:
        gateway.open()
        assert len(stored(gateway.log)) == 1
        until(lambda: stored(gateway.log) == [], "what is too old goes")


def test_one_log_has_one_gateway(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(LogLocked), running(tmp_path):
        pass


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GatewayError, match=rf"127\.0\.0\.1:{port} .*set another port"):
            serve_gateway(GatewaySettings(port=port), TokenStore(tmp_path / "tokens.json"), SqliteLog(tmp_path))


def _refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False
    return False


# --- the end of a process --------------------------------------------------------------------------------------------


def _start(run_program: Run, folder: Path, **settings: object) -> tuple[subprocess.Popen[str], str]:
    tokens_in(folder)
    process = run_program("run_gateway", folder, json.dumps({"port": 0, **settings}))
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


def test_sigterm_finishes_what_is_under_way_and_ends_well(tmp_path: Path, run_program: Run) -> None:
    process, url = _start(run_program, tmp_path, pre_stop_seconds=2.0)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {INGEST}"}) as http:
        session_id = http.post("/v1/sessions", json={"app": "desktop"}).json()["session_id"]
        body = '{"seq":0,"time":1}'
        slow = raw(url, HEAD.format(session=session_id, length=len(body)) + body[:5])
        process.send_signal(signal.SIGTERM)
        until(lambda: http.get("/readyz").status_code == 503, "not ready any more")
        assert http.get("/readyz").json()["reason"] == "shutting down"
        assert http.get("/v1/limits").status_code == 200, "it still serves while the load balancer notices"
        until(lambda: _refused(url), "no more connections")
        slow.sendall(body[5:].encode())
        assert answer(slow).startswith("HTTP/1.1 200")
        slow.close()
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("ended\n", 0)
    assert seqs(SqliteLog(tmp_path / "log"), session_id) == [0]


def test_sigterm_lets_sockets_finish_and_sends_them_elsewhere(tmp_path: Path, run_program: Run) -> None:
    process, url = _start(run_program, tmp_path, pre_stop_seconds=1.0)
    headers = {"Authorization": f"Bearer {INGEST}"}
    session_id = httpx.post(f"{url}/v1/sessions", json={"app": "desktop"}, headers=headers).json()["session_id"]
    with connect(socket_url(url, session_id), additional_headers=headers, compression=None, proxy=None) as connection:
        client = SocketClient(connection)
        client.hello()
        client.send(0)
        client.until_acked(0)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz").status_code == 503, "not ready any more")
        client.send(1)
        client.until_acked(1)  # it still serves while the load balancer notices
        assert client.closed() == (1001, "the gateway is shutting down; go on from a new connection")
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("ended\n", 0)
    assert seqs(SqliteLog(tmp_path / "log"), session_id) == [0, 1]


def test_the_end_takes_a_bounded_time(tmp_path: Path, run_program: Run) -> None:
    process, url = _start(run_program, tmp_path, drain_seconds=1)
    session_id = httpx.post(
        f"{url}/v1/sessions", json={"app": "desktop"}, headers={"Authorization": f"Bearer {INGEST}"}
    ).json()["session_id"]
    with raw(url, HEAD.format(session=session_id, length=100) + "x"):  # never ends
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("ended\n", 0)
    assert time.monotonic() - started < 10


def test_a_gateway_in_a_thread_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.open()
    assert _refused(gateway.url)
    assert not [thread for thread in threading.enumerate() if thread.name == "committer"]
