"""The WebSocket door: steps in, acknowledgements and credit out, and a reason for everything that is not taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from auth.tokens import Scope
from ingest.gateway.frames import pack_frame
from ingest.sqlite import SqliteLog
from ingest.types import StepsAppended
from tests.ingest.disks import Disk
from tests.ingest.gateways import INGEST, READ, RunningGateway, running, seqs, shape, steps, stored, tokens_in
from tests.ingest.sockets import SocketClient, socket_to
from tests.waiting import until

SMALL = {"max_step_bytes": 20_000, "sockets": {"window_bytes": 8_000, "budget_bytes": 100_000, "hello_seconds": 1.0}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), **SMALL) as it:
        yield it


def test_steps_are_acknowledged_when_they_are_durable_and_stand_in_the_log_as_sent(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        welcome = client.hello()
        assert (welcome["next_seq"], welcome["durable_through"], welcome["credit_bytes"]) == (0, -1, 8_000)
        client.send(0, {"png": b"\x89PNG", "left.npy": b""}, is_reset=True)
        client.send(1, mood="curious")
        client.until_acked(1)
        assert seqs(gateway.log, session_id) == [0, 1]
        client.say(type="end", next_seq=2)
        assert client.until("ended") == {"type": "ended", "next_seq": 2, "reason": "client"}
        assert client.closed() == (1000, "the session has ended")
    first, second = [
        each for record in stored(gateway.log, session_id) if isinstance(record, StepsAppended) for each in record.steps
    ]
    assert (first.members, first.is_reset, second.extra) == (
        {"png": b"\x89PNG", "left.npy": b""},
        True,
        {"mood": "curious"},
    )
    assert shape(gateway.log, session_id)[-1] == "ended:client"


def test_a_socket_can_open_the_session_itself(gateway: RunningGateway) -> None:
    with socket_to(gateway, "opened-by-socket") as client:
        assert client.hello(open={"app": "desktop", "metadata": {"fps": 15}})["next_seq"] == 0
        client.send(0, is_eos=True)
        client.until_acked(0)
        client.send(1)
        assert client.until("nack")["problem"]["type"].endswith(":session-closed")
        assert client.closed()[0] == 4410
    with socket_to(gateway, "opened-by-socket") as client:
        assert client.hello(open={"app": "desktop"})["state"] == "ended"
    with socket_to(gateway, "never-opened-1") as client:
        client.say(type="hello")
        assert client.closed() == (4404, "session-unknown")


def test_a_client_resumes_from_the_next_welcome(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        for seq in range(5):
            client.send(seq)
    with socket_to(gateway, session_id) as client:  # whatever had arrived is in; the rest is sent again
        first = client.hello()["next_seq"]
        for seq in range(max(0, first - 2), 8):
            client.send(seq)
        client.until_acked(7)
    assert seqs(gateway.log, session_id) == list(range(8))


def test_what_had_arrived_when_the_client_left_is_kept(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        for seq in range(20):
            client.send(seq)
    until(lambda: gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 20, "all 20 are in")


def test_a_gap_a_conflict_and_a_fault_are_told_and_the_socket_goes_on(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        client.send(2)
        nack = client.until("nack")
        assert (nack["seq"], nack["problem"]["expected_seq"], nack["problem"]["status"]) == (2, 0, 409)
        client.send(0)
        client.until_acked(0)
        client.send(0, inputs={"other": 1})
        assert client.until("nack")["problem"]["type"].endswith(":step-conflict")
        client.send(1, time="yesterday")
        results = client.until("ack")["results"]
        assert (results["1"]["result"], results["1"]["pointer"]) == ("dead_letter", "/time")
        client.send(2)
        client.until_acked(2)
    assert seqs(gateway.log, session_id) == [0, 1, 2]


WRONG = [
    (b"", "truncated-frame"),
    (bytes(11), "truncated-frame"),
    (bytes(12), "invalid-json"),
    (b"\xff" * 12, "invalid-frame"),
    (pack_frame(0, b"{}") + b"\x03pn", "truncated-frame"),
    (pack_frame(0, b"{}") + b"\x00\x00\x00\x00\x00", "invalid-name"),
    (pack_frame(0, b"{}", {"json": b"{}"}), "invalid-name"),
    (pack_frame(0, b"{}", {"png": b""}) * 1 + b"\x03png\x00\x00\x00\x00", "duplicate-member"),
    (pack_frame(0, b"{}", {"png": b"1"})[:-1], "truncated-frame"),
    (pack_frame(0, b"{}", {f"m{number}": b"" for number in range(16)}), "too-many-members"),
    (pack_frame(0, b"[1]"), "not-an-object"),
    (pack_frame(0, b'{"seq":1,"time":1}'), "wrong-seq"),
]


@pytest.mark.parametrize(("frame", "code"), WRONG, ids=[f"{place}-{code}" for place, (_, code) in enumerate(WRONG)])
def test_a_message_that_is_no_step_is_refused_and_the_next_one_is_taken(
    gateway: RunningGateway, frame: bytes, code: str
) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        client.send_frame(frame)
        assert client.until("nack")["problem"]["errors"][0]["code"] == code
        client.send(0)
        client.until_acked(0)
        client.until_credit(8_000)
        assert client.credit == 8_000, "all of it came back"


def test_a_client_that_keeps_to_its_credit_sends_steps_of_any_allowed_size(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        welcome = client.hello()
        for seq, size in enumerate([100, 5_000, 19_000, 200, 7_000, 19_500, 10]):
            frame = pack_frame(seq, b'{"seq":%d,"time":1}' % seq, {"bin": bytes(size)})
            assert len(frame) <= welcome["max_message_bytes"]
            if client.credit < len(frame):
                client.say(type="want", bytes=len(frame))
                client.until_credit(len(frame))
            client.send_frame(frame)
        client.until_acked(6)
    assert seqs(gateway.log, session_id) == list(range(7))
    until(lambda: _metric(gateway, "ingest_socket_credit_bytes") == 0, "all credit is given back")


def test_a_client_that_sends_more_than_its_credit_is_closed_and_what_came_before_counts(
    gateway: RunningGateway,
) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        client.send(0)
        client.send(1, {"bin": bytes(9_000)})
        assert client.closed()[0] == 1008
        assert client.acked == 0
    assert seqs(gateway.log, session_id) == [0]


def test_a_message_over_the_limit_closes_the_socket(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        client.send(0, {"bin": bytes(200_000)})
        assert client.closed()[0] == 1009
    assert seqs(gateway.log, session_id) == []
    with socket_to(gateway, session_id) as client:  # it fits into a message, but not into a step
        client.hello()
        client.say(type="want", bytes=10**9)
        client.until_credit(20_500)
        client.send(0, {"bin": bytes(20_000)})
        problem = client.until("nack")["problem"]
        assert (problem["type"].rpartition(":")[2], problem["limit"]) == ("step-too-large", 20_000)


def test_when_all_credit_is_given_out_no_more_sockets_come_in_until_some_is_back(tmp_path: Path) -> None:
    sockets = {"window_bytes": 10_000, "budget_bytes": 55_000}
    with running(tmp_path, max_step_bytes=15_000, sockets=sockets) as gateway:
        ids = [gateway.open() for _ in range(4)]
        with (
            socket_to(gateway, ids[0]) as first,
            socket_to(gateway, ids[1]) as second,
            socket_to(gateway, ids[2]) as late,
        ):
            first.hello()
            second.hello()
            with pytest.raises(InvalidStatus) as refused, socket_to(gateway, ids[3]):
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
            late.hello()  # it had come in before
            for client in (first, second, late):  # all three ask for more than there is; none is stuck for good
                client.say(type="want", bytes=16_000)
            for client in (first, second, late):
                client.until_credit(16_000)
                frame = pack_frame(0, b'{"seq":0,"time":1}', {"bin": bytes(14_900)})
                client.send_frame(frame)
                client.until_acked(0)
        until(lambda: _metric(gateway, "ingest_open_sockets") == 0, "they are gone")
        with socket_to(gateway, ids[3]) as client:
            client.hello()


# --- who may ---------------------------------------------------------------------------------------------------------


def test_the_token_comes_in_the_headers_the_hello_or_the_subprotocols(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id, token=None) as client:
        assert client.hello(token=INGEST)["next_seq"] == 0
    protocols = ["ingest.v1", f"ingest.token.{INGEST}"]
    with socket_to(gateway, session_id, token=None, subprotocols=protocols) as client:
        assert client.connection.subprotocol == "ingest.v1"
        client.hello()


def test_without_a_token_nobody_gets_in(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    for token, status in (("wrong", 401), (READ, 403)):
        with pytest.raises(InvalidStatus) as refused, socket_to(gateway, session_id, token=token):
            pass
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["content-type"] == "application/problem+json"
    for fields, code in (({}, 4401), ({"token": "wrong"}, 4401), ({"token": READ}, 4403)):
        with socket_to(gateway, session_id, token=None) as client:
            client.say(type="hello", **fields)
            assert client.closed()[0] == code
            assert client.told[-1]["type"] == "error"


def test_a_token_that_is_revoked_posts_nothing_more(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        tokens = tokens_in(tmp_path)
        session_id, secret = gateway.open(), tokens.mint("other", [Scope.INGEST])
        with socket_to(gateway, session_id, token=secret) as client:
            client.hello()
            client.send(0)
            client.until_acked(0)
            tokens.revoke("other")
            client.send(1)
            assert client.closed()[0] == 4401
        assert seqs(gateway.log, session_id) == [0]


def test_pages_of_other_origins_are_kept_out(tmp_path: Path) -> None:
    with running(tmp_path, cors_origins=["https://app.example"]) as gateway:
        session_id = gateway.open()
        with pytest.raises(InvalidStatus) as refused, socket_to(gateway, session_id, origin="https://evil.example"):
            pass
        assert refused.value.response.status_code == 403
        for origin in ("https://app.example", gateway.url):
            with socket_to(gateway, session_id, origin=origin) as client:
                client.hello()


@pytest.mark.parametrize(
    "first",
    ['{"type":"end"}', "{", "[]", '{"type":1}', b"\x00" * 20, '{"type":"hello","open":1}', "x" * 70_000, None],
    ids=lambda first: repr(first)[:24],
)
def test_a_first_message_that_is_no_hello_closes_the_socket(gateway: RunningGateway, first: Any) -> None:
    with socket_to(gateway, gateway.open()) as client:
        if first is not None:  # None: nothing is said at all
            client.connection.send(first)
        assert client.closed()[0] in (1008, 1009)


@pytest.mark.parametrize("later", ['{"type":"hello"}', "{", '{"type":"want","bytes":"many"}'])
def test_a_later_message_that_is_not_understood_closes_it_too(gateway: RunningGateway, later: str) -> None:
    with socket_to(gateway, gateway.open()) as client:
        client.hello()
        client.send(0)
        client.connection.send(later)
        assert client.closed()[0] == 1008
        assert client.acked == 0


# --- trouble ---------------------------------------------------------------------------------------------------------


def test_the_end_waits_for_all_steps(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    with socket_to(gateway, session_id) as client:
        client.hello()
        client.send(0)
        client.say(type="end", next_seq=3)
        assert client.until("nack")["problem"]["expected_seq"] == 1
        for seq in (1, 2):
            client.send(seq)
        client.say(type="end", next_seq=3)
        assert client.until("ended")["next_seq"] == 3


def test_a_full_disk_is_told_and_the_same_steps_may_come_again(tmp_path: Path) -> None:
    disk = Disk()
    with running(tmp_path, log=SqliteLog(tmp_path / "log", vfs=disk.name)) as gateway:
        session_id = gateway.open()
        with socket_to(gateway, session_id) as client:
            client.hello()
            disk.full = True
            client.send(0)
            problem = client.until("nack")["problem"]
            assert (problem["type"].rpartition(":")[2], problem["retryable"]) == ("log-full", True)
            disk.full = False
            client.send(0)
            client.until_acked(0)
        assert seqs(gateway.log, session_id) == [0]


def test_a_rate_slows_a_socket_down_instead_of_refusing(tmp_path: Path) -> None:
    with running(tmp_path, rates={"session_bytes": 20_000, "burst_seconds": 0.1}) as gateway:
        session_id = gateway.open()
        with socket_to(gateway, session_id) as client:
            client.hello()
            started = time.monotonic()
            for seq in range(8):
                client.send(seq, {"bin": bytes(1_000)})
                client.until_acked(seq)
            assert time.monotonic() - started > 0.15
        assert seqs(gateway.log, session_id) == list(range(8))


def test_a_gateway_that_ends_commits_what_came_and_says_go_elsewhere(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        session_id = gateway.open()
        stop = threading.Event()
        client = SocketClient.__new__(SocketClient)

        def post() -> None:
            nonlocal client
            with socket_to(gateway, session_id) as client:
                client.hello()
                seq = 0
                try:
                    while not stop.is_set():
                        client.until_credit(200)
                        client.send(seq)
                        seq += 1
                except ConnectionClosed:
                    pass
                code.append(client.closed()[0])

        code: list[int] = []
        thread = threading.Thread(target=post)
        thread.start()
        until(lambda: len(seqs(gateway.log, session_id)) > 20, "steps come in")
    thread.join(20)
    assert code == [1001]
    log = SqliteLog(tmp_path / "log")
    found = seqs(log, session_id)
    assert found == list(range(len(found)))
    assert len(found) >= client.acked + 1


def test_many_sockets_and_http_share_one_session_without_loss_or_copy(gateway: RunningGateway) -> None:
    session_id = gateway.open()

    def post() -> None:
        with socket_to(gateway, session_id) as client:
            seq = client.hello()["next_seq"]
            while client.acked < 59:
                client.until_credit(200)
                client.send(seq)
                reply = client.next()
                while reply["type"] not in ("ack", "nack"):
                    reply = client.next()
                seq = client.acked + 1

    threads = [threading.Thread(target=post) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(0, 60, 3):
        gateway.post(session_id, steps(first, first + 3))
    for thread in threads:
        thread.join(30)
    assert seqs(gateway.log, session_id) == list(range(60))


def _metric(gateway: RunningGateway, name: str) -> float:
    text = gateway.bare.get("/metrics", headers={"Authorization": f"Bearer {READ}"}).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))
