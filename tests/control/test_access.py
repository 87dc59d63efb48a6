"""No door opens without a token, to a page of a foreign origin, or to what is not well-formed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from control import ControlSettings, FakeActor, PortTaken, Refused, StoreLocked
from control.api import ReportedEvent
from control.client import ControlClient
from control.openapi import document
from control.protocol import EventType
from control.server import ControlThread
from control.server.compat import NoFalseAlarm
from tests.control.conftest import Serve
from tests.control.servers import HTTP, Served, Tokens
from tests.waiting import until

OPEN = {"/livez", "/readyz"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for tests that leave nothing behind."""
    served = Served(tmp_path_factory.mktemp("access"))
    with FakeActor(served.url, served.tokens.operate):
        yield served
    served.close()


def ask(served: Served, method: str, path: str, token: str | None = None, **given: object) -> httpx.Response:
    headers = dict(given.pop("headers", {}))  # type: ignore[call-overload]
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return HTTP.request(method, served.url + path, headers=headers, **given)  # type: ignore[arg-type]


def handshake(served: Served, path: str, **given: object) -> int:
    """The HTTP status with which a WebSocket is answered; 101 when it is let in."""
    try:
        with connect(served.url.replace("http", "ws") + path, **given):  # type: ignore[arg-type]
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_every_path_but_the_two_probes_needs_a_token(shared: Served) -> None:
    paths = document()["paths"]
    assert isinstance(paths, dict)
    for path, methods in paths.items():
        for method in methods:
            answer = ask(shared, method.upper(), path.replace("{run}", "demo").replace("{uuid}", "x"))
            if path in OPEN:
                assert answer.status_code == 200, path
            else:
                assert answer.status_code == 401, path
                assert answer.headers["content-type"] == "application/problem+json"
                assert "WWW-Authenticate" in answer.headers
    for path in ("/api/v1/events", "/api/v1/actor", "/ws/message/"):
        assert handshake(shared, path) == 401


def test_a_token_opens_what_its_scope_says_and_no_more(shared: Served) -> None:
    new = {"command": "save_checkpoint"}
    assert ask(shared, "POST", "/api/v1/commands", shared.tokens.read, json=new).status_code == 403
    assert ask(shared, "POST", "/api/v1/commands", shared.tokens.ingest, json=new).status_code == 403
    assert ask(shared, "POST", "/api/v1/commands", shared.tokens.operate, json=new).status_code in (200, 202)
    assert ask(shared, "GET", "/api/v1/runs", shared.tokens.read).status_code == 200
    assert ask(shared, "GET", "/api/v1/runs", shared.tokens.operate).status_code == 200
    assert ask(shared, "GET", "/api/v1/runs", shared.tokens.ingest).status_code == 403
    assert (
        ask(shared, "POST", "/api/v1/runs/demo/desired", shared.tokens.read, json={"state": "stopped"}).status_code
        == 403
    )
    assert ask(shared, "POST", "/api/command/", shared.tokens.read, json=new).status_code == 403
    reading = {"additional_headers": {"Authorization": f"Bearer {shared.tokens.read}"}}
    assert handshake(shared, "/api/v1/actor", **reading) == 403
    assert handshake(shared, "/api/v1/events", **reading) == 101


def test_a_token_in_the_address_opens_nothing(shared: Served) -> None:
    assert ask(shared, "GET", f"/api/v1/runs?token={shared.tokens.read}").status_code == 401
    assert handshake(shared, f"/api/v1/events?token={shared.tokens.read}") == 401


def test_a_page_shows_its_token_as_a_subprotocol_and_it_is_not_sent_back(shared: Served) -> None:
    offered = ["stovetop", f"stovetop.token.{shared.tokens.read}"]
    with connect(shared.url.replace("http", "ws") + "/api/v1/events", subprotocols=offered) as line:  # type: ignore[arg-type]
        assert line.subprotocol == "stovetop"
        assert json.loads(line.recv(timeout=5))["type"] == "welcome"
    wrong = ["stovetop", "stovetop.token.stv_wrong"]
    assert handshake(shared, "/api/v1/events", subprotocols=wrong) == 401


def test_pages_of_foreign_origins_are_refused_and_the_servers_own_are_not(shared: Served) -> None:
    token, port = shared.tokens.operate, shared.url.rsplit(":", 1)[1]
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"http://127.0.0.1.evil.example:{port}"):
        answer = ask(shared, "GET", "/api/v1/runs", token, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:stovetop:problem:foreign-origin")
        assert "access-control-allow-origin" not in answer.headers
        headers = {"Authorization": f"Bearer {token}"}
        assert handshake(shared, "/api/v1/events", origin=origin, additional_headers=headers) == 403
    for origin in (shared.url, f"http://localhost:{port}"):
        assert ask(shared, "GET", "/api/v1/runs", token, headers={"Origin": origin}).status_code == 200
        headers = {"Authorization": f"Bearer {token}"}
        assert handshake(shared, "/api/v1/events", origin=origin, additional_headers=headers) == 101


def test_a_preflight_of_a_foreign_page_gets_no_permission(shared: Served) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = ask(shared, "OPTIONS", "/api/v1/commands", headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_pages_that_the_settings_name_may_call(serve: Serve) -> None:
    served = serve(origins=("https://Ops.example",))
    headers = {"Origin": "https://ops.example", "Access-Control-Request-Method": "POST"}
    answer = ask(served, "OPTIONS", "/api/v1/commands", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://ops.example"


def test_anything_else_under_api_is_a_problem_and_never_a_page(shared: Served) -> None:
    for method, path in (
        ("GET", "/api"), ("GET", "/api/"), ("GET", "/api/get_inf/"), ("POST", "/api/v1/comands"),
        ("GET", "/api/v2/runs"),
        ("DELETE", "/api/v1/runs"), ("GET", "/api/get_info"), ("GET", "/ws/message/"), ("GET", "/ws/other"),
    ):  # fmt: skip
        answer = ask(shared, method, path, shared.tokens.operate)
        assert answer.status_code in (404, 405), path
        assert answer.headers["content-type"] == "application/problem+json", path


def test_what_cannot_be_read_is_refused_with_where_and_why(shared: Served) -> None:
    def post(body: str | bytes) -> httpx.Response:
        given = {"content": body, "headers": {"Content-Type": "application/json"}}
        return ask(shared, "POST", "/api/v1/commands", shared.tokens.operate, **given)

    assert post("{").status_code == 400
    assert post('{"command": ""}').status_code == 400
    assert post('{"command": "x", "author_": "me"}').status_code == 400
    assert post('{"command": "x", "arguments": {"a":' + "[" * 5000 + "]" * 5000 + "}}").status_code == 400
    assert post('{"command": "x", "arguments": {"a": ' + '{"a": ' * 100 + "1" + "}" * 100 + "}}").status_code == 400
    assert post(b'{"command": "x\xff"}').status_code == 400
    assert post('{"command": "x", "arguments": {"a": 1e999, "b": NaN, "c": ' + "9" * 400 + "}}").status_code == 200
    assert post('{"command": "\\ud800", "arguments": {}}').status_code == 400
    odd = '{"command": "x", "arguments": {"\\ud800": "\\ud800", "n": 123456789012345678901234567890}}'
    assert post(odd).status_code == 200
    assert ask(shared, "GET", "/api/v1/commands", shared.tokens.operate).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve: Serve) -> None:
    served = serve(request_bytes=2000)
    large = {"command": "x", "arguments": {"x": "y" * 2000}}
    assert ask(served, "POST", "/api/v1/commands", served.tokens.operate, json=large).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"y" * 100

    answer = ask(served, "POST", "/api/v1/commands", served.tokens.operate, content=pieces())
    assert answer.status_code == 413


def test_names_that_could_be_paths_are_no_runs(shared: Served) -> None:
    for name in ("..", "%2e%2e%2fetc", "a%2fb", "-x", "x" * 65):
        assert ask(shared, "GET", f"/api/v1/runs/{name}", shared.tokens.read).status_code in (400, 404), name


def test_a_reporter_with_an_ingest_token_tells_figures_and_nothing_that_steers(served: Served) -> None:
    app = ControlClient(served.url, served.tokens.ingest)
    app.report(
        ReportedEvent(run="demo", type=EventType.PIPELINE, body={"component": "gateway", "steps_per_second": 12.5}),
        ReportedEvent(run="demo", type=EventType.FOLLOWER, body={"follower": "web-1", "version": 7}),
    )
    assert served.client.run("demo").pipeline["gateway"]["steps_per_second"] == 12.5
    [follower] = served.client.followers("demo").followers
    assert (follower.follower, follower.version) == ("web-1", 7)
    for kind in (EventType.METRICS, EventType.VERSION, EventType.COMMAND, EventType.RUN):
        with pytest.raises(Refused) as caught:
            app.report(ReportedEvent(run="demo", type=kind))
        assert caught.value.status == 403
    with pytest.raises(Refused):
        served.client.report(ReportedEvent(run="demo", type=EventType.COMMAND))
    served.client.report(ReportedEvent(run="demo", type=EventType.METRICS, step=3, body={"loss": 0.5}))
    assert served.client.run("demo").step == 3
    with pytest.raises(Refused):
        ControlClient(served.url, served.tokens.read).report(ReportedEvent(run="demo", type=EventType.LOG))
    app.close()


def test_a_reporter_cannot_want_something_of_a_run(served: Served) -> None:
    with pytest.raises(Refused):
        served.client.report(ReportedEvent(run="demo", type=EventType.RUN, body={"desired": "stopped"}))


def test_a_port_that_was_set_and_is_taken_is_a_clear_error(shared: Served, tmp_path: Path) -> None:
    port = int(shared.url.rsplit(":", 1)[1])
    settings = ControlSettings(port=port, data=tmp_path)
    with pytest.raises(PortTaken, match=f"port {port} is in use"):
        ControlThread(settings, Tokens(tmp_path / "t.json").store).start()


def test_without_a_port_the_next_free_one_is_taken(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "t.json")
    with (
        ControlThread(ControlSettings(data=tmp_path / "a"), tokens.store) as first,
        ControlThread(ControlSettings(data=tmp_path / "b"), tokens.store) as second,
    ):
        assert first.url != second.url
        assert HTTP.get(second.url + "/livez").status_code == 200


def test_a_second_server_on_one_folder_is_refused(served: Served) -> None:
    with pytest.raises(StoreLocked, match="another control server has it"):
        ControlThread(served.settings.model_copy(update={"port": 0}), served.tokens.store).start()


def test_settings_refuse_what_would_open_the_door_to_strangers() -> None:
    with pytest.raises(ValueError, match="paper_clients lets in without a token"):
        ControlSettings(paper_clients=True, host="0.0.0.0")
    with pytest.raises(ValueError, match="is not an origin"):
        ControlSettings(origins=("*",))


def test_a_refused_websocket_is_no_error_in_the_log(shared: Served, caplog: pytest.LogCaptureFixture) -> None:
    filters = logging.getLogger("uvicorn.error").filters
    held = [item for item in filters if isinstance(item, NoFalseAlarm)]
    with caplog.at_level(logging.ERROR):
        for item in held:
            filters.remove(item)
        try:
            handshake(shared, "/api/v1/events")
            until(lambda: caplog.messages)  # when this waits in vain, NoFalseAlarm is needed no more
        finally:
            filters.extend(held)
        caplog.clear()
        for _ in range(3):
            handshake(shared, "/api/v1/events")
        assert caplog.messages == []


def test_the_page_says_how_to_build_the_dashboard_or_is_the_dashboard(tmp_path: Path, shared: Served) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from control.server.pages import page_routes

    app = FastAPI()
    app.include_router(page_routes(tmp_path / "dist"))
    page = TestClient(app)
    assert "make setup" in page.get("/").text
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<title>the dashboard</title>")
    (tmp_path / "dist" / "assets" / "main-abc.js").write_text("1")
    (tmp_path / "secret.txt").write_text("the key to everything")
    for path in ("/", "/runs/demo", "/index.html"):
        answer = page.get(path)
        assert "the dashboard" in answer.text
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "immutable" in page.get("/assets/main-abc.js").headers["cache-control"]
    packed = page.get("/assets/main-abc.js", headers={"Accept-Encoding": "gzip"})
    assert (packed.text, packed.headers["content-encoding"]) == ("1", "gzip")
    plain = page.get("/assets/main-abc.js", headers={"Accept-Encoding": "identity"})
    assert (plain.text, plain.headers.get("content-encoding")) == ("1", None)
    assert page.get("/assets/gone.js").status_code == 404
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt"):
        assert "the key" not in page.get(path).text


def test_metrics_are_prometheus_and_need_a_token(shared: Served) -> None:
    answer = ask(shared, "GET", "/metrics", shared.tokens.read)
    assert "stovetop_control_actors 1.0" in answer.text
    assert "stovetop_control_events_total" in answer.text
