"""Who gets in over HTTP, and what the others are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Query, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from auth.http import RequireScope, bearer
from auth.problems import Problem, ProblemType, install_problems
from auth.tokens import Grant, Scope, TokenStore

TEAPOT = ProblemType("teapot", 418, "I am one", retryable=True)


@pytest.fixture
def tokens(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


@pytest.fixture
def http(tokens: TokenStore) -> Iterator[TestClient]:
    app = FastAPI()
    install_problems(app)
    reads, operates = Depends(RequireScope(tokens, Scope.READ)), Depends(RequireScope(tokens, Scope.OPERATE))

    @app.get("/read")
    async def read(grant: Grant = reads) -> str:
        return grant.name

    @app.get("/operate")
    async def operate(grant: Grant = operates) -> str:
        return grant.name

    @app.get("/teapot")
    async def teapot() -> str:
        raise Problem(TEAPOT, "short and stout", retry_after=7, members={"limit": 1}, headers={"X-Spout": "yes"})

    @app.get("/bug")
    async def bug() -> str:
        raise RuntimeError("a secret of the inside")

    @app.get("/number")
    async def number(value: Annotated[int, Query()]) -> int:
        return value

    @app.websocket("/ws")
    async def ws(socket: WebSocket, grant: Grant = reads) -> None:
        await socket.accept()
        await socket.send_text(grant.name)

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_opens_the_doors_of_its_scopes_only(http: TestClient, tokens: TokenStore) -> None:
    reader, operator = tokens.mint("reader", [Scope.READ]), tokens.mint("operator", [Scope.OPERATE])
    assert http.get("/read", headers=_as(reader)).json() == "reader"
    assert http.get("/operate", headers=_as(operator)).json() == "operator"
    assert http.get("/read", headers=_as(operator)).json() == "operator", "who may steer may look"
    refused = http.get("/operate", headers=_as(reader))
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert 'scope="operate"' in refused.headers["www-authenticate"]
    body = refused.json()
    assert body["type"] == "urn:stovetop:problem:insufficient-scope"
    assert body["required_scope"] == "operate"
    assert "'reader'" in body["detail"]
    assert body["retryable"] is False


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "bearer\twrong"])
def test_without_a_known_token_nobody_gets_in(http: TestClient, tokens: TokenStore, header: str | None) -> None:
    tokens.mint("reader", [Scope.READ])
    refused = http.get("/read", headers={} if header is None else {"Authorization": header})
    assert refused.status_code == 401
    assert refused.json()["type"] == "urn:stovetop:problem:invalid-token"
    assert refused.headers["www-authenticate"].startswith('Bearer realm="stovetop"')


def test_the_scheme_is_read_in_any_case(http: TestClient, tokens: TokenStore) -> None:
    secret = tokens.mint("reader", [Scope.READ])
    assert http.get("/read", headers={"Authorization": f"bEARER  {secret} "}).status_code == 200
    assert bearer("Bearer a b") == "a b"


def test_a_token_works_from_when_it_is_minted_until_it_is_revoked(http: TestClient, tokens: TokenStore) -> None:
    secret = tokens.mint("reader", [Scope.READ])
    assert http.get("/read", headers=_as(secret)).status_code == 200
    tokens.revoke("reader")
    assert http.get("/read", headers=_as(secret)).status_code == 401


def test_a_websocket_needs_a_token_too(http: TestClient, tokens: TokenStore) -> None:
    secret = tokens.mint("reader", [Scope.READ])
    with http.websocket_connect("/ws", headers=_as(secret)) as socket:
        assert socket.receive_text() == "reader"
    with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/ws", headers=_as("wrong")):
        pass
    assert refused.value.status_code == 401


def test_an_unreadable_token_file_lets_nobody_in_and_says_so(
    http: TestClient, tokens: TokenStore, tmp_path: Path
) -> None:
    secret = tokens.mint("reader", [Scope.READ])
    (tmp_path / "tokens.json").write_text("{")
    refused = http.get("/read", headers=_as(secret))
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:stovetop:problem:tokens-unreadable")


def test_the_description_asks_for_a_bearer_token(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer-read"]["scheme"] == "bearer"
    assert document["paths"]["/read"]["get"]["security"] == [{"bearer-read": []}]


def test_a_problem_carries_its_members_and_headers(http: TestClient) -> None:
    reply = http.get("/teapot")
    assert reply.status_code == 418
    assert (reply.headers["retry-after"], reply.headers["x-spout"]) == ("7", "yes")
    assert reply.json() == {
        "type": "urn:stovetop:problem:teapot",
        "title": "I am one",
        "status": 418,
        "detail": "short and stout",
        "instance": "/teapot",
        "retryable": True,
        "limit": 1,
    }


def test_what_the_framework_refuses_is_a_problem_too(http: TestClient) -> None:
    missing = http.get("/nowhere")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:stovetop:problem:not-found")
    wrong = http.get("/number", params={"value": "seven"})
    assert (wrong.status_code, wrong.json()["type"]) == (400, "urn:stovetop:problem:invalid-request")
    assert wrong.json()["errors"][0]["pointer"] == "/query/value"


def test_a_bug_tells_nothing_of_the_inside(http: TestClient) -> None:
    reply = http.get("/bug")
    assert (reply.status_code, reply.json()["type"]) == (500, "urn:stovetop:problem:internal-error")
    assert "secret" not in reply.text
