"""Bodies that are received straight into their own memory: in pieces, broken off, stalled, and with requests after them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.gateway.admission import LARGE_BYTES
from ingest.types import StepsAppended
from ingest.ustar import Member, archive
from tests.ingest.gateways import INGEST, READ, RunningGateway, running, seqs, stored
from tests.waiting import until

FRAME = bytes(range(256)) * 1_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), stall_seconds=1.0) as it:
        yield it


def request(session_id: str, *seqs: int, expect: bool = False) -> bytes:
    members = []
    for seq in seqs:
        text = json.dumps({"seq": seq, "time": 1.0, "inputs": {"x": seq}}).encode()
        members += [Member(f"{seq}.json", text), Member(f"{seq}.png", FRAME[seq:])]
    body = archive(members)
    assert len(body) >= LARGE_BYTES
    head = (
        f"POST /v1/sessions/{session_id}/steps HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {INGEST}\r\n"
        f"Content-Type: application/x-tar\r\nIngest-First-Seq: {seqs[0]}\r\nContent-Length: {len(body)}\r\n"
    )
    return (head + ("Expect: 100-continue\r\n\r\n" if expect else "\r\n")).encode() + body


def connect(gateway: RunningGateway) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answers(connection: socket.socket, count: int) -> bytes:
    """What comes, until so many answers are whole."""
    came = b""
    while came.count(b'"results"') < count:
        more = connection.recv(65_536)
        assert more, f"the connection ended after {came!r}"
        came += more
    return came


@pytest.mark.parametrize("cut", [1, 300, 70_000, 200_000, 256_500])
def test_a_body_in_pieces_is_the_same_steps(gateway: RunningGateway, cut: int) -> None:
    session_id = gateway.open()
    whole = request(session_id, 0, 1)
    with connect(gateway) as connection:
        for start in range(0, len(whole), max(cut, len(whole) // 50)):
            connection.sendall(whole[start : start + max(cut, len(whole) // 50)])
        assert b"200 OK" in answers(connection, 1)
        connection.sendall(request(session_id, 2))
        assert b"200 OK" in answers(connection, 1)
    steps = [step for each in stored(gateway.log, session_id) if isinstance(each, StepsAppended) for step in each.steps]
    assert [step.members for step in steps] == [{"png": FRAME[seq:]} for seq in range(3)]


def test_requests_that_follow_without_waiting_are_answered_in_order(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with connect(gateway) as connection:
        connection.sendall(b"".join(request(session_id, seq) for seq in range(5)))
        came = answers(connection, 5)
    assert came.count(b"200 OK") == 5
    assert [came.index(b'"next_seq":%d,' % seq) for seq in range(1, 6)] == sorted(
        came.index(b'"next_seq":%d,' % seq) for seq in range(1, 6)
    )
    assert seqs(gateway.log, session_id) == list(range(5))


def test_a_client_that_asks_first_is_told_to_go_on(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    head, end, body = request(session_id, 0, expect=True).partition(b"\r\n\r\n")
    with connect(gateway) as connection:
        connection.sendall(head + end)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert b"200 OK" in answers(connection, 1)


def test_a_body_that_breaks_off_leaves_nothing_behind(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with connect(gateway) as connection:
        connection.sendall(request(session_id, 0)[:-1])
    until(lambda: b"ingest_inflight_bytes 0.0" in metrics(gateway), "the budget has its bytes back")
    assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 0


def test_a_body_that_stalls_is_refused_and_its_connection_closed(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with connect(gateway) as connection:
        connection.sendall(request(session_id, 0)[:200_000])
        came = b""
        while more := connection.recv(65_536):
            came += more
    assert came.startswith(b"HTTP/1.1 408")
    assert b"body-stalled" in came


def metrics(gateway: RunningGateway) -> bytes:
    return gateway.bare.get("/metrics", headers={"Authorization": f"Bearer {READ}"}).content


def test_appends_are_counted_under_their_route(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        session_id = gateway.open()
        with connect(gateway) as connection:
            connection.sendall(request(session_id, 0))
            answers(connection, 1)
        said = metrics(gateway).decode()
    assert 'http_route="/v1/sessions/{session_id}/steps"' in said
