"""Two gateways that divide one log: either may be asked about any session, over HTTP and by WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from ingest.gateway.socket_relay import DRAINING
from tests.ingest.dealt import DealtLog, session_of_share
from tests.ingest.gateways import INGEST, RunningGateway, running, seqs, step
from tests.ingest.sockets import socket_to
from tests.ingest.test_gateway import problem
from tests.waiting import until

FORWARDED = {"Stovetop-Forwarded": "1"}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    log = DealtLog()
    with running(tmp_path, log=log) as first, running(tmp_path, log=log) as second:
        for gateway in (first, second):
            until(lambda it=gateway: it.bare.get("/readyz").status_code == 200, "its share is here")  # type: ignore[misc]
        yield first, second


def test_a_socket_to_the_other_gateway_works_like_one_to_the_right_one(
    two: tuple[RunningGateway, RunningGateway],
) -> None:
    first, second = two
    name = session_of_share(1, "socket")
    with socket_to(first, name, token=None) as client:
        assert client.hello(token=INGEST, open={"app": "desktop"})["next_seq"] == 0
        for seq in range(30):
            client.until_credit(3_000)
            client.send(seq, {"bin": bytes(2_000)})
        client.until_acked(29)
    with socket_to(first, name, subprotocols=["ingest.v1"]) as client:
        assert client.connection.subprotocol == "ingest.v1"
        assert client.hello()["next_seq"] == 30
        client.send(31)
        assert client.until("nack")["problem"]["expected_seq"] == 30
        client.send(30)
        client.until_acked(30)
        client.say(type="end", next_seq=31)
        assert client.closed() == (1000, "the session has ended")
    with socket_to(first, name) as client:
        client.hello()
        client.send(31)
        assert client.closed()[0] == 4410, "the reason comes through"
    assert seqs(second.log, name) == list(range(31))


def test_what_had_been_sent_to_the_other_gateway_when_the_client_left_is_kept(
    two: tuple[RunningGateway, RunningGateway],
) -> None:
    first, _ = two
    name = session_of_share(1, "leaving")
    with socket_to(first, name) as client:
        client.hello(open={"app": "desktop"})
        for seq in range(20):
            client.send(seq)
        client.until_acked(5)
    known = first.http.get(f"/v1/sessions/{name}").json()["next_seq"]
    assert known >= 6
    assert seqs(first.log, name)[:6] == list(range(6))


def test_tokens_and_whole_sessions_go_to_the_gateway_that_has_the_session(
    two: tuple[RunningGateway, RunningGateway],
) -> None:
    first, _ = two
    name = session_of_share(1, "tokens")
    assert first.http.post("/v1/sessions", json={"app": "desktop", "session_id": name}).status_code == 201
    minted = first.http.post("/v1/tokens", json={"session_id": name})
    assert minted.status_code == 201
    with socket_to(first, name, token=minted.json()["token"]) as client:
        client.hello()
        client.send(0)
        client.until_acked(0)
    assert first.post(name, [step(1)]).json()["next_seq"] == 2


def test_a_session_that_is_nowhere_just_now_is_a_problem_that_passes(
    two: tuple[RunningGateway, RunningGateway],
) -> None:
    first, _ = two
    name = session_of_share(1, "nowhere")
    reply = first.http.get(f"/v1/sessions/{name}", headers=FORWARDED)
    problem(reply, 503, "session-elsewhere")
    assert int(reply.headers["retry-after"]) >= 1
    with socket_to(first, name) as client:
        client.say(type="hello")
        assert client.closed()[0] == 4404
    assert isinstance(first.log, DealtLog)
    first.log.addresses[1] = "http://127.0.0.1:9"  # nobody listens there
    with pytest.raises(InvalidStatus) as refused, socket_to(first, name):
        pass
    assert refused.value.response.status_code == 503


def test_a_gateway_does_not_ask_itself_for_a_share_that_it_is_still_to_open(
    two: tuple[RunningGateway, RunningGateway],
) -> None:
    first, second = two
    assert isinstance(first.log, DealtLog)
    first.log.addresses[1] = first.url
    reply = first.http.get(f"/v1/sessions/{session_of_share(1, 'coming')}")
    problem(reply, 503, "session-elsewhere")
    assert "gateway" not in reply.json(), "there is nobody else to be asked"
    first.log.addresses[1] = second.url
    problem(first.http.get(f"/v1/sessions/{session_of_share(1, 'coming')}"), 404, "session-unknown")


def test_a_gateway_that_ends_sends_the_sockets_that_it_joins_elsewhere(tmp_path: Path) -> None:
    log = DealtLog()
    name = session_of_share(0, "ending")
    with running(tmp_path, log=log) as first:
        until(lambda: first.bare.get("/readyz").status_code == 200, "its share is here")
        ending = ExitStack()
        second = ending.enter_context(running(tmp_path, log=log))
        until(lambda: second.bare.get("/readyz").status_code == 200, "its share is here")
        with socket_to(second, name) as client:
            client.hello(open={"app": "desktop"})
            client.send(0)
            client.until_acked(0)
            ending.close()
            assert client.closed() == DRAINING
        assert first.http.get(f"/v1/sessions/{name}").json()["next_seq"] == 1
    assert seqs(log, name) == [0]


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    log, options = DealtLog(), {"subject_key": tmp_path / "subjects.key", "settle_seconds": 0.0}
    with running(tmp_path, log=log, **options) as first, running(tmp_path, log=log, **options) as second:
        for gateway in (first, second):
            until(lambda it=gateway: it.bare.get("/readyz").status_code == 200, "its share is here")  # type: ignore[misc]
        yield first, second


def test_a_person_is_deleted_wherever_the_sessions_lie_whichever_gateway_is_asked(
    keyed: tuple[RunningGateway, RunningGateway],
) -> None:
    first, _ = keyed
    names = [session_of_share(share, "person") for share in (0, 1)]
    for name in names:
        first.open(name, subject="ann/lee")
    reply = first.http.delete("/v1/subjects/ann%2Flee")
    assert reply.status_code == 202, reply.text
    assert reply.json()["sessions"] == sorted(names)
    for gateway in keyed:
        for name in names:
            problem(gateway.post(name, [step(0)]), 410, "session-deleted")
        refused = gateway.http.post("/v1/sessions", json={"app": "desktop", "subject": "ann/lee"})
        problem(refused, 410, "subject-deleted")
        again = gateway.http.delete("/v1/subjects/ann%2Flee").json()
        found = gateway.http.get(f"/v1/deletions/{reply.json()['deletion']}")
        assert again["sessions"] == found.json()["sessions"] == sorted(names)


def test_a_deletion_of_one_session_is_told_by_either_gateway(keyed: tuple[RunningGateway, RunningGateway]) -> None:
    name = session_of_share(1, "gone")
    keyed[0].open(name)
    deletion = keyed[0].http.delete(f"/v1/sessions/{name}").json()["deletion"]
    for gateway in keyed:
        assert gateway.http.get(f"/v1/deletions/{deletion}").json()["sessions"] == [name]


def test_a_gateway_that_is_gone_is_named_and_the_client_is_asked_to_try_again(
    keyed: tuple[RunningGateway, RunningGateway],
) -> None:
    first, _ = keyed
    assert isinstance(first.log, DealtLog)
    first.log.addresses[1] = "http://127.0.0.1:9"
    for reply in (
        first.http.get(f"/v1/sessions/{session_of_share(1, 'lost')}"),
        first.http.delete("/v1/subjects/somebody"),
    ):
        assert problem(reply, 503, "session-elsewhere")["gateway"] == "http://127.0.0.1:9"
        assert reply.headers["Retry-After"] == "1"
