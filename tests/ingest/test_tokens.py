"""Who may post what: keys of apps, tokens of sessions, pages of other origins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth.tokens import Scope, TokenStore
from tests.ingest.gateways import RunningGateway, running, seqs, tokens_in
from tests.ingest.sockets import socket_to
from tests.ingest.test_gateway import problem

PAGE = "https://app.example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[RunningGateway]:
    with running(folder, cors_origins=[PAGE], append_token_seconds=600) as it:
        yield it


@pytest.fixture
def tokens(folder: Path) -> TokenStore:
    return tokens_in(folder)


def as_(gateway: RunningGateway, secret: str, method: str, path: str, **request: Any) -> httpx.Response:
    return gateway.bare.request(method, path, headers={"Authorization": f"Bearer {secret}"}, **request)


def append(gateway: RunningGateway, secret: str, session_id: str, seq: int) -> httpx.Response:
    headers = {
        "Authorization": f"Bearer {secret}",
        "Content-Type": "application/x-ndjson",
        "Ingest-First-Seq": str(seq),
    }
    body = b'{"seq":%d,"time":1}' % seq
    return gateway.bare.post(f"/v1/sessions/{session_id}/steps", content=body, headers=headers)


def test_a_key_of_one_app_does_nothing_for_another(gateway: RunningGateway, tokens: TokenStore) -> None:
    key, session_id = tokens.mint("photos", [Scope.INGEST], apps=["photos"]), gateway.open()
    opened = as_(gateway, key, "POST", "/v1/sessions", json={"app": "photos"})
    assert opened.status_code == 201
    assert append(gateway, key, opened.json()["session_id"], 0).status_code == 200
    path = f"/v1/sessions/{session_id}"
    for refused in (
        as_(gateway, key, "POST", "/v1/sessions", json={"app": "desktop"}),
        as_(gateway, key, "POST", "/v1/sessions", json={"app": "photos", "session_id": session_id}),
        as_(gateway, key, "GET", path),
        as_(gateway, key, "POST", f"{path}/end"),
        as_(gateway, key, "POST", "/v1/tokens", json={"session_id": session_id}),
        append(gateway, key, session_id, 0),
    ):
        assert refused.status_code in (403, 409), refused.text
    problem(append(gateway, key, session_id, 0), 403, "app-not-allowed")
    put = gateway.bare.put(
        path, content=bytes(1024), headers={"Authorization": f"Bearer {key}", "Content-Type": "application/x-tar"}
    )
    problem(put, 403, "app-not-allowed")
    with socket_to(gateway, session_id, token=key) as client:
        client.say(type="hello")
        assert client.closed() == (4403, "app-not-allowed")
    found = gateway.http.get(path).json()
    assert (found["state"], found["next_seq"]) == ("open", 0)


def test_a_session_brings_a_token_that_posts_its_steps_and_nothing_else(gateway: RunningGateway) -> None:
    opened = gateway.http.post("/v1/sessions", json={"app": "desktop"}).json()
    session_id, secret = opened["session_id"], opened["append_token"]["token"]
    assert opened["append_token"]["expires_at"] == pytest.approx(time.time() + 600, abs=5)
    assert append(gateway, secret, session_id, 0).status_code == 200
    assert as_(gateway, secret, "GET", f"/v1/sessions/{session_id}").json()["next_seq"] == 1
    assert as_(gateway, secret, "GET", "/v1/limits").status_code == 200
    with socket_to(gateway, session_id, token=secret) as client:
        assert client.hello()["next_seq"] == 1
    other = gateway.open()
    problem(append(gateway, secret, other, 0), 403, "session-token")
    problem(as_(gateway, secret, "POST", "/v1/sessions", json={"app": "desktop"}), 403, "session-token")
    problem(as_(gateway, secret, "POST", "/v1/tokens", json={"session_id": session_id}), 403, "session-token")
    if "delete" in gateway.bare.get("/openapi.json").json()["paths"]["/v1/sessions/{session_id}"]:
        problem(as_(gateway, secret, "DELETE", f"/v1/sessions/{session_id}"), 403, "session-token")
    problem(as_(gateway, secret, "GET", "/metrics"), 403, "insufficient-scope")
    assert as_(gateway, secret, "POST", f"/v1/sessions/{session_id}/end").json()["state"] == "ended"


def test_a_token_is_minted_for_a_while_and_ends(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    minted = gateway.http.post("/v1/tokens", json={"session_id": session_id, "seconds": 1.2})
    assert minted.status_code == 201
    secret = minted.json()["token"]
    longest = gateway.http.post("/v1/tokens", json={"session_id": session_id, "seconds": 10**6}).json()
    assert longest["expires_at"] <= time.time() + 600
    deadline = time.monotonic() + 10
    while append(gateway, secret, session_id, 0).status_code == 200:
        assert time.monotonic() < deadline, "it never ends"
        time.sleep(0.05)
    problem(append(gateway, secret, session_id, 0), 401, "invalid-token")
    problem(gateway.http.post("/v1/tokens", json={"session_id": "never-opened"}), 404, "session-unknown")
    gateway.http.post(f"/v1/sessions/{session_id}/end")
    problem(gateway.http.post("/v1/tokens", json={"session_id": session_id}), 410, "session-closed")


def test_a_session_token_falls_with_its_key(gateway: RunningGateway, tokens: TokenStore) -> None:
    key = tokens.mint("short", [Scope.INGEST])
    opened = as_(gateway, key, "POST", "/v1/sessions", json={"app": "desktop"}).json()
    secret = opened["append_token"]["token"]
    assert append(gateway, secret, opened["session_id"], 0).status_code == 200
    tokens.revoke("short")
    problem(append(gateway, secret, opened["session_id"], 1), 401, "invalid-token")
    assert seqs(gateway.log, opened["session_id"]) == [0]


def test_a_page_of_a_listed_origin_may_post_and_read_and_others_may_not(gateway: RunningGateway) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,ingest-first-seq",
    }
    allowed = gateway.bare.options("/v1/sessions/some-session/steps", headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    reply = gateway.http.get("/v1/sessions/never-opened", headers={"Origin": PAGE})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (404, PAGE), "refusals can be read too"
    assert "Retry-After" in reply.headers["access-control-expose-headers"]
    asked["Origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in gateway.bare.options("/v1/sessions", headers=asked).headers
    script = gateway.bare.get("/v1/client.js", headers={"Origin": "https://evil.example"})
    assert script.headers["access-control-allow-origin"] == "*"
    assert script.headers["content-type"].startswith("text/javascript")


def test_a_session_may_have_to_bring_a_consent_and_a_key(tmp_path: Path) -> None:
    with running(tmp_path, require_consent=True, require_idempotency_key=True) as gateway:
        key = {"Idempotency-Key": "1"}
        problem(gateway.http.post("/v1/sessions", json={"app": "desktop"}), 400, "idempotency-key-missing")
        problem(gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=key), 403, "consent-missing")
        consent = {"version": "3", "granted_at": 1.5, "purposes": ["training"]}
        body = {"app": "desktop", "consent": consent}
        opened = gateway.http.post("/v1/sessions", json=body, headers=key)
        assert opened.status_code == 201
        assert gateway.http.post("/v1/sessions", json=body, headers=key).status_code == 200
        other = {**body, "consent": {**consent, "version": "4"}}
        problem(gateway.http.post("/v1/sessions", json=other, headers=key), 422, "idempotency-key-reused")
