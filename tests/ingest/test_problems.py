"""Every problem type that the gateway knows has a request that gets it, or a test elsewhere that names it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import auth.http
import auth.problems
import ingest.problems
from auth.problems import ProblemType
from auth.tokens import Scope
from ingest.errors import LogBroken
from ingest.sqlite import SqliteLog
from tests.ingest.disks import Disk
from tests.ingest.gateways import READ, RunningGateway, running, step, steps, tokens_in
from tests.ingest.sockets import socket_url
from tests.ingest.test_gateway_life import HEAD, raw
from tests.waiting import until

TESTS = Path(__file__).parents[1]


def types_in(*modules: ModuleType) -> dict[str, ProblemType]:
    return {
        value.slug: value for module in modules for value in vars(module).values() if isinstance(value, ProblemType)
    }


KNOWN = types_in(auth.problems, auth.http, ingest.problems)

Ask = Callable[[RunningGateway], httpx.Response]
SMALL: dict[str, Any] = {"max_step_bytes": 2_000, "max_body_bytes": 5_000, "max_steps": 10, "max_headers_bytes": 3_000}
LINES = {"Content-Type": "application/x-ndjson", "Ingest-First-Seq": "0"}


def _steps(gateway: RunningGateway, body: bytes, **headers: str) -> httpx.Response:
    return gateway.post_body(gateway.open(), body, 0, **headers)


def _after(gateway: RunningGateway, *requests: Callable[[str], httpx.Response]) -> httpx.Response:
    """The answer to the last of several requests about one session."""
    session_id = gateway.open()
    return [request(session_id) for request in requests][-1]


def _opened_with_key(gateway: RunningGateway, app: str) -> httpx.Response:
    return gateway.http.post("/v1/sessions", json={"app": app}, headers={"Idempotency-Key": "k"})


def _as(gateway: RunningGateway, secret: str, method: str, path: str, **request: Any) -> httpx.Response:
    return gateway.bare.request(method, path, headers={"Authorization": f"Bearer {secret}"}, **request)


def _bound(gateway: RunningGateway) -> httpx.Response:
    assert isinstance(gateway.log, SqliteLog)
    key = tokens_in(gateway.log.folder.parent).mint("photos", [Scope.INGEST], apps=["photos"])
    return _as(gateway, key, "POST", "/v1/sessions", json={"app": "desktop"})


def _retry_nothing(gateway: RunningGateway) -> httpx.Response:
    assert isinstance(gateway.log, SqliteLog)
    key = tokens_in(gateway.log.folder.parent).mint("operator", [Scope.OPERATE])
    return _as(gateway, key, "POST", "/v1/admin/dead-letters/0-99/retry")


def _session_token(gateway: RunningGateway) -> httpx.Response:
    opened = gateway.http.post("/v1/sessions", json={"app": "desktop"}).json()
    return _as(gateway, opened["append_token"]["token"], "POST", "/v1/sessions", json={"app": "desktop"})


def _unreadable(gateway: RunningGateway) -> httpx.Response:
    assert isinstance(gateway.log, SqliteLog)
    path = gateway.log.folder.parent / "tokens.json"
    before = path.read_text()
    path.write_text("{")
    try:
        return gateway.http.get("/v1/limits")
    finally:
        path.write_text(before)


def _foreign(gateway: RunningGateway) -> httpx.Response:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Origin": "https://evil.example",
    }
    return gateway.http.get(socket_url(gateway.url, "some-session").replace("ws", "http", 1), headers=headers)


def _stalled(gateway: RunningGateway) -> httpx.Response:
    def slow() -> Iterator[bytes]:
        yield b"{"
        for _ in range(100):
            pause.wait(0.1)
            yield b" "

    pause = threading.Event()
    return gateway.http.post(f"/v1/sessions/{gateway.open()}/steps", content=slow(), headers=LINES)


def _pressed(gateway: RunningGateway) -> httpx.Response:
    session_id = gateway.open()
    with raw(gateway.url, HEAD.format(session=session_id, length=5_000) + "x"):
        until(lambda: gateway.bare.get("/readyz").status_code == 503, "its share is taken")
        return gateway.post_body(session_id, bytes(4_000), 0)


def _quota(gateway: RunningGateway) -> httpx.Response:
    session_id = gateway.open()
    with raw(gateway.url, HEAD.format(session=session_id, length=5_000) + "x"):
        found: list[httpx.Response] = []
        until(
            lambda: bool(found.append(gateway.post_body(session_id, bytes(4_000), 0)) or found[-1].status_code == 429),
            "the session's share is taken",
        )
        return found[-1]


SCENARIOS: dict[str, tuple[dict[str, Any], Ask]] = {
    "invalid-request": ({}, lambda it: _steps(it, b"{")),
    "invalid-token": ({}, lambda it: it.bare.get("/v1/limits")),
    "insufficient-scope": ({}, lambda it: _as(it, READ, "GET", "/v1/limits")),
    "session-token": ({}, _session_token),
    "tokens-unreadable": ({}, _unreadable),
    "idempotency-key-missing": (
        {"require_idempotency_key": True},
        lambda it: it.http.post("/v1/sessions", json={"app": "desktop"}),
    ),
    "missing-first-seq": (
        {},
        lambda it: it.http.post(
            "/v1/sessions/some-session/steps", content=b"", headers={"Content-Type": LINES["Content-Type"]}
        ),
    ),
    "consent-missing": ({"require_consent": True}, lambda it: it.http.post("/v1/sessions", json={"app": "desktop"})),
    "app-not-allowed": ({}, _bound),
    "foreign-origin": ({}, _foreign),
    "session-unknown": ({}, lambda it: it.http.get("/v1/sessions/never-opened")),
    "body-stalled": ({"body_seconds": 0.3}, _stalled),
    "sequence-gap": ({}, lambda it: it.post(it.open(), [step(7)])),
    "step-conflict": (
        {},
        lambda it: _after(it, lambda name: it.post(name, [step(0)]), lambda name: it.post(name, [step(0, more=1)])),
    ),
    "session-exists": (
        {},
        lambda it: _after(it, lambda name: it.http.post("/v1/sessions", json={"app": "other", "session_id": name})),
    ),
    "session-closed": (
        {},
        lambda it: _after(
            it, lambda name: it.http.post(f"/v1/sessions/{name}/end"), lambda name: it.post(name, [step(0)])
        ),
    ),
    "body-too-large": ({}, lambda it: _steps(it, bytes(6_000))),
    "step-too-large": ({}, lambda it: it.post(it.open(), [step(0, pad="x" * 3_000)])),
    "too-many-steps": ({}, lambda it: it.post(it.open(), steps(0, 11))),
    "unsupported-media-type": ({}, lambda it: it.post_body(it.open(), b"", 0, "text/plain")),
    "unsupported-encoding": ({}, lambda it: _steps(it, b"", **{"Content-Encoding": "br"})),
    "schema-violation": ({}, lambda it: it.http.post("/v1/sessions", json={"app": 1})),
    "dead-letter-unknown": ({}, _retry_nothing),
    "schema-unknown": (
        {},
        lambda it: it.http.post("/v1/sessions", json={"app": "desktop", "schema_version": "9"}),
    ),
    "idempotency-key-reused": ({}, lambda it: [_opened_with_key(it, "one"), _opened_with_key(it, "two")][-1]),
    "rate-limited": (
        {"rates": {"session_requests": 0.5, "burst_seconds": 1.0}},
        lambda it: _after(it, *[lambda name: it.post(name, [step(0)])] * 3),
    ),
    "quota-exceeded": ({"session_budget_bytes": 6_000}, _quota),
    "headers-too-large": ({}, lambda it: it.http.get("/v1/limits", headers={"X-Long": "x" * 4_000})),
    "backpressure": ({"budget_bytes": 6_000}, _pressed),
    "too-many-sessions": (
        {"max_open_sessions": 1},
        lambda it: _after(it, lambda name: it.http.post("/v1/sessions", json={"app": "desktop"})),
    ),
}
"""The settings of a gateway and what to ask of it, for each type."""


@pytest.mark.parametrize("slug", SCENARIOS)
def test_each_problem_says_what_is_wrong_and_whether_to_try_again(tmp_path: Path, slug: str) -> None:
    settings, ask = SCENARIOS[slug]
    with running(tmp_path, **{**SMALL, **settings}) as gateway:
        reply = ask(gateway)
        kind = KNOWN[slug]
        assert reply.headers["content-type"] == "application/problem+json", reply.text
        body = reply.json()
        assert (body["type"], body["status"], reply.status_code) == (kind.uri, kind.status, kind.status)
        assert (body["title"], body["retryable"]) == (kind.title, kind.retryable)
        assert body["retryable"] is (kind.status in (408, 429) or kind.status >= 500)
        assert body["detail"]
        assert body["instance"].startswith("/v1")
        if kind.status in (429, 503):
            assert int(reply.headers["retry-after"]) >= 1
        assert body["request_id"] == reply.headers.get("x-request-id", body["request_id"])
        if slug != "tokens-unreadable":
            assert gateway.http.get("/v1/limits").status_code == 200, "it goes on"


def test_a_disk_that_is_full_or_broken_is_a_problem_too(tmp_path: Path) -> None:
    disk = Disk()
    with running(tmp_path, log=SqliteLog(tmp_path / "log", vfs=disk.name)) as gateway:
        session_id = gateway.open()
        disk.full = True
        reply = gateway.post(session_id, steps(0, 1))
        assert (reply.json()["type"], reply.headers["retry-after"]) == (KNOWN["log-full"].uri, "30")
        disk.full = False


def test_a_disk_that_fails_ends_the_gateway_with_a_problem(tmp_path: Path) -> None:
    disk = Disk()

    def serve_until_it_fails() -> None:
        with running(tmp_path, log=SqliteLog(tmp_path / "log", vfs=disk.name), drain_seconds=1) as gateway:
            session_id = gateway.open()
            disk.failing = True
            reply = gateway.post(session_id, steps(0, 1))
            assert (reply.json()["type"], reply.headers["retry-after"]) == (KNOWN["unavailable"].uri, "1")

    with pytest.raises(LogBroken):
        serve_until_it_fails()


def test_no_problem_type_is_without_a_test() -> None:
    written = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    untested = [
        slug for slug in KNOWN if slug not in SCENARIOS and not re.search(rf"""["':]{re.escape(slug)}["']""", written)
    ]
    assert untested == [], "name each in a test, here or elsewhere"


def test_types_are_stable_and_said_once() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in KNOWN)
    assert {slug: kind.retryable for slug, kind in KNOWN.items()} == {
        slug: kind.status in (408, 429) or kind.status >= 500 for slug, kind in KNOWN.items()
    }
