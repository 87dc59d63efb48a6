"""What is let in: encoded bodies within their limits, shares of the budget, rates, headers of bounded size."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from auth.problems import Problem
from ingest.gateway.budget import Budget, Caller
from ingest.gateway.encodings import Gzip, Zstd
from ingest.gateway.rates import Rates
from ingest.settings import GatewaySettings, RateSettings
from tests.ingest.gateways import INGEST, RunningGateway, running, seqs, steps
from tests.ingest.test_gateway import problem
from tests.ingest.test_gateway_life import HEAD, answer, raw
from tests.waiting import until

ENCODERS = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(
        tmp_path_factory.mktemp("gateway"),
        max_body_bytes=100_000,
        max_step_bytes=50_000,
        max_headers_bytes=4_096,
        header_seconds=1.0,
    ) as it:
        yield it


# --- encodings -------------------------------------------------------------------------------------------------------


def encoded(gateway: RunningGateway, session_id: str, body: bytes, encoding: str) -> httpx.Response:
    return gateway.post_body(session_id, body, 0, **{"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "GZIP"])
def test_encoded_bodies_are_taken_and_are_the_same_steps(gateway: RunningGateway, encoding: str) -> None:
    session_id = gateway.open()
    body = b'{"seq":0,"time":1}\n{"seq":1,"time":2}\n'
    encode = ENCODERS[encoding.lower()]
    assert encoded(gateway, session_id, encode(body), encoding).json()["results"] == {"all": "ok"}
    assert gateway.post_body(session_id, body, 0).json()["results"] == {"all": "duplicate"}
    halves = encode(body[:10]) + encode(body[10:])
    assert encoded(gateway, session_id, halves, encoding).json()["results"] == {"all": "duplicate"}


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_when_it_has_unfolded_to_the_limit(gateway: RunningGateway, encoding: str) -> None:
    session_id = gateway.open()
    bomb = ENCODERS[encoding](bytes(50_000_000))
    assert len(bomb) < 100_000
    assert problem(encoded(gateway, session_id, bomb, encoding), 413, "body-too-large")["limit"] == 100_000
    until(lambda: gateway.bare.get("/readyz").json() == {"ready": True}, "its share is given back")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_is_not_of_its_encoding_or_cut_off_is_a_bad_request(gateway: RunningGateway, encoding: str) -> None:
    session_id = gateway.open()
    body = ENCODERS[encoding](b'{"seq":0,"time":1}')
    for wrong in (b"", b"text", body[:-1], body[:8], body + b"more", body[:-6] + b"\xff" * 6):
        refused = encoded(gateway, session_id, wrong, encoding)
        assert refused.status_code == 400, (wrong, refused.text)
    assert seqs(gateway.log, session_id) == []


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "deflate"])
def test_other_encodings_are_refused_with_those_that_are_taken(gateway: RunningGateway, encoding: str) -> None:
    refused = encoded(gateway, gateway.open(), b"{}", encoding)
    assert refused.headers["accept-encoding"] == "gzip, zstd"
    problem(refused, 415, "unsupported-encoding")


@pytest.mark.parametrize(("decoder", "encoding"), [(Gzip, "gzip"), (Zstd, "zstd")])
def test_pieces_are_bounded_whatever_they_unfold_to(decoder: type[Gzip] | type[Zstd], encoding: str) -> None:
    content = bytes(30_000_000) + b"end"
    decoding, found, largest = decoder(), 0, 0
    for piece in decoding.feed(ENCODERS[encoding](content)):
        found, largest = found + len(piece), max(largest, len(piece))
    assert found == len(content)
    assert decoding.whole
    assert largest <= 9 << 20


# --- budgets and rates -----------------------------------------------------------------------------------------------


def test_a_session_and_a_key_have_shares_of_the_budget() -> None:
    budget = Budget(100, key=60, session=40)
    one, two = Caller("key", "one"), Caller("key", "two")
    budget.take(40, one)
    with pytest.raises(Problem, match=r"quota-exceeded.*session"):
        budget.take(1, one)
    budget.take(20, two)
    with pytest.raises(Problem, match=r"quota-exceeded.*key"):
        budget.take(1, two)
    budget.take(40, Caller("other", "three"))
    with pytest.raises(Problem, match="backpressure"):
        budget.take(1, Caller("third"))
    for size, caller in ((40, one), (20, two), (40, Caller("other", "three"))):
        budget.give(size, caller)
    assert (budget.used, budget.left) == (0, 100)
    budget.take(40, one)


def test_over_a_sessions_share_a_body_is_refused_and_other_sessions_go_on(tmp_path: Path) -> None:
    with running(tmp_path, max_step_bytes=1_000, max_body_bytes=100_000, session_budget_bytes=120_000) as gateway:
        busy, other = gateway.open(), gateway.open()
        with raw(gateway.url, HEAD.format(session=busy, length=100_000) + "x"):
            until(lambda: gateway.post(busy, steps(0, 1), pad="x" * 0).status_code in (200, 429), "it serves")
            with raw(gateway.url, HEAD.format(session=busy, length=60_000)) as refused:
                reply = answer(refused)
            assert reply.startswith("HTTP/1.1 429")
            assert "quota-exceeded" in reply
            assert gateway.post(other, steps(0, 1)).status_code == 200


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    now = 0.0
    rates = Rates(RateSettings(session_requests=2.0, key_bytes=100.0, burst_seconds=2.0), lambda: now)
    one, two = Caller("key", "one"), Caller("key", "two")
    for _ in range(4):
        rates.enter(one)
    with pytest.raises(Problem, match="rate-limited") as refused:
        rates.enter(one)
    assert refused.value.retry_after == 1
    rates.enter(two)
    now = 1.0
    rates.enter(one)
    rates.enter(one)
    rates.pay(one, 500)  # one request may overdraw
    with pytest.raises(Problem, match="bytes a second") as refused:
        rates.enter(two)
    assert refused.value.retry_after == 3
    now = 4.1
    rates.enter(two)


def test_over_its_rate_a_key_is_told_when_to_come_again(tmp_path: Path) -> None:
    with running(tmp_path, rates={"key_requests": 5.0, "burst_seconds": 1.0}) as gateway:
        session_id = gateway.open()
        replies = [gateway.post(session_id, steps(0, 1)) for _ in range(6)]
        refused = next(reply for reply in replies if reply.status_code != 200)
        assert problem(refused, 429, "rate-limited")["limit"] == 5.0
        assert int(refused.headers["retry-after"]) >= 1
        until(lambda: gateway.post(session_id, steps(0, 1)).status_code == 200, "it may come again")


# --- before the token ------------------------------------------------------------------------------------------------


def test_headers_have_a_limit_that_is_told(gateway: RunningGateway) -> None:
    body = problem(gateway.http.get("/v1/limits", headers={"X-Long": "x" * 5_000}), 431, "headers-too-large")
    assert body["limit"] == 4_096
    problem(gateway.http.get("/v1/limits?" + "x" * 5_000), 431, "headers-too-large")


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v1/limits HTTP/1.1\r\nX-Long: ",
        b"GET /v1/",
        b"POST /v1/sessions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;extension=",
        b"POST /v1/sessions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ",
    ],
    ids=["header", "url", "extension", "trailer"],
)
def test_nobody_makes_the_parser_keep_more_than_the_limit(gateway: RunningGateway, start: bytes) -> None:
    port = int(gateway.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(start)
        sent = 0
        while sent < 10_000_000:
            try:
                sent += connection.send(b"x" * 65_536)
            except OSError:
                break
            time.sleep(0.001)
        assert sent < 10_000_000, "all of it was taken"
    assert gateway.bare.get("/readyz").json() == {"ready": True}


def test_many_small_headers_are_counted_too(gateway: RunningGateway) -> None:
    port = int(gateway.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /v1/limits HTTP/1.1\r\n")
        reply = b""
        for number in range(2_000):
            try:
                connection.sendall(b"X-%d: %s\r\n" % (number, b"y" * 20))
                time.sleep(0.0005)
            except OSError:
                break
        else:
            pytest.fail("all of them were taken")
        assert reply == b""


def test_a_connection_that_never_ends_its_headers_is_closed(gateway: RunningGateway) -> None:
    port = int(gateway.url.rpartition(":")[2])
    for start in (b"", b"GET /v1/limits HTTP/1.1\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(start)
            assert connection.recv(100) == b"", "it was closed"
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {INGEST}"}) as http:
        assert http.get("/v1/limits").status_code == 200
        time.sleep(1.3)  # longer than headers may take: a connection between two requests is none that is late
        assert http.get("/v1/limits").status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"session_budget_bytes": 1_000},
        {"key_budget_bytes": 1_000},
        {"sockets": {"budget_bytes": 1_000}},
        {"cors_origins": ["*"]},
        {"cors_origins": ["app.example"]},
        {"cors_origins": ["https://app.example/"]},
        {"rates": {"key_bytes": 0}},
    ],
    ids=repr,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bytes|origin|greater"):
        GatewaySettings(**wrong)  # type: ignore[arg-type]
