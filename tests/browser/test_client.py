"""The JavaScript client in a real browser, on a page of another origin, against a real gateway that dies in between."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from ingest.sqlite import SqliteLog
from ingest.types import Step, StepsAppended
from tests.ingest.gateways import INGEST, seqs, shape, stored, tokens_in
from tests.waiting import until

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "ingest" / "programs" / "run_gateway.py"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module">
import {{ SessionClient, newSessionId }} from "{url}/v1/client.js";
window.rejected = []; window.failures = [];
window.begin = (options) => {{
  window.session = new SessionClient({{
    url: "{url}", firstPause: 30, longestPause: 300,
    onRejected: (seq, fault) => window.rejected.push([seq, fault]),
    onFailure: (error) => window.failures.push(`${{error.constructor.name}}: ${{error.message}}`),
    ...options,
  }});
}};
window.postMany = async (count, wait, size = 0) => {{
  for (let n = 0; n < count; n++) {{
    const members = size ? {{ bin: n % 2 ? new Blob([new Uint8Array(size).fill(n)]) : new Uint8Array(size).fill(n) }} : {{}};
    window.session.post({{ x: n % 32, y: 7 }}, {{ members }});
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  }}
}};
window.newSessionId = newSessionId;
window.loaded = true;
</script>"""


class Gateway:
    """A gateway in a process of its own, always on the same port, to be killed and started again."""

    def __init__(self, folder: Path, page: str) -> None:
        tokens_in(folder)
        self.folder, self.port = folder, _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = SqliteLog(folder / "log")
        schema = folder / "schema.json"
        schema.write_text('{"properties":{"inputs":{"properties":{"x":{"maximum":31}}}}}')
        self._settings = {"port": self.port, "cors_origins": [page], "schemas": {"desktop": str(schema)}}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), pickle.dumps(self.folder).hex(), json.dumps(self._settings)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert int(self._process.stdout.readline()) == self.port

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=30)

    def open(self) -> tuple[str, str]:
        """As an app's server does: open a session, and hand its token to the page."""
        reply = httpx.post(
            f"{self.url}/v1/sessions", json={"app": "desktop"}, headers={"Authorization": f"Bearer {INGEST}"}
        ).json()
        return reply["session_id"], reply["append_token"]["token"]

    def steps(self, session_id: str) -> list[Step]:
        return [
            step
            for record in stored(self.log, session_id)
            if isinstance(record, StepsAppended)
            for step in record.steps
        ]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server of another origin, for the page."""
    (tmp_path / "site").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def gateway(tmp_path: Path, site: str) -> Iterator[Gateway]:
    made = Gateway(tmp_path, site)
    (tmp_path / "site" / "index.html").write_text(PAGE.format(url=made.url))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def visit(browser: Browser, site: str, gateway: Gateway) -> Iterator[Callable[[], Page]]:
    context = browser.new_context()
    complaints: list[str] = []

    def go() -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(site)
        page.wait_for_function("window.loaded")
        return page

    yield go
    context.close()
    assert complaints == []


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_steps_with_members_come_in_and_the_session_ends(
    visit: Callable[[], Page], gateway: Gateway, transport: str
) -> None:
    page, (session_id, token) = visit(), gateway.open()
    page.evaluate("(options) => begin(options)", {"token": token, "sessionId": session_id, "transport": transport})
    page.evaluate("postMany(40, 0, 3000)")
    page.evaluate(
        "session.post({ x: 99, y: 1 }, { isReset: true, modelVersion: '000042', time: 5, extra: { mood: 'é' } })"
    )
    page.evaluate("session.flush()")
    assert page.evaluate("[session.nextSeq, session.durableThrough]") == [41, 40]
    page.evaluate("session.post({ x: 1, y: 1 }, { isEos: true })")
    page.evaluate("session.end()")
    steps = gateway.steps(session_id)
    assert [step.seq for step in steps] == list(range(42))
    assert [step.members for step in steps[:40]] == [{"bin": bytes([seq]) * 3000} for seq in range(40)]
    odd = steps[40]
    assert (odd.is_reset, odd.model_version, odd.time, odd.extra) == (True, "000042", 5.0, {"mood": "é"})
    assert odd.rejected is not None
    ((seq, fault),) = page.evaluate("rejected")
    assert (seq, fault["pointer"], fault["schema"]) == (40, "/inputs/x", "desktop/1")
    assert page.evaluate("failures") == []
    assert shape(gateway.log, session_id)[-1] == "ended:eos"


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_a_gateway_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    visit: Callable[[], Page], gateway: Gateway, transport: str
) -> None:
    page, (session_id, token) = visit(), gateway.open()
    page.evaluate("(options) => begin(options)", {"token": token, "sessionId": session_id, "transport": transport})
    page.evaluate("() => { window.posting = (async () => { while (!window.enough) await postMany(1, 15, 500); })(); }")
    for number in (signal.SIGKILL, signal.SIGTERM):
        reached = len(seqs(gateway.log, session_id))
        until(lambda reached=reached: len(seqs(gateway.log, session_id)) > reached, "steps come in")  # type: ignore[misc]
        gateway.kill(number)
        page.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
        gateway.start()
    page.evaluate("() => { window.enough = true; return window.posting; }")
    page.evaluate("session.end()")
    assert page.evaluate("failures") == []
    steps = gateway.steps(session_id)
    assert [step.seq for step in steps] == list(range(page.evaluate("session.nextSeq")))
    assert all(step.members == {"bin": bytes(500)} for step in steps)
    assert shape(gateway.log, session_id)[-1] == "ended:client"


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_what_is_buffered_when_the_page_is_closed_still_comes_in(
    visit: Callable[[], Page], gateway: Gateway, transport: str
) -> None:
    page, (session_id, token) = visit(), gateway.open()
    options = {"token": token, "sessionId": session_id, "transport": transport, "maxDelay": 60_000}
    page.evaluate("(options) => begin(options)", options)
    page.evaluate("session.open()")
    page.evaluate("postMany(30, 0)")
    page.close(run_before_unload=False)
    until(lambda: seqs(gateway.log, session_id) == list(range(30)), "the last steps are in")


def test_a_page_that_is_left_and_come_back_to_goes_on(visit: Callable[[], Page], gateway: Gateway, site: str) -> None:
    page, (session_id, token) = visit(), gateway.open()
    page.evaluate("(options) => begin(options)", {"token": token, "sessionId": session_id, "maxDelay": 60_000})
    page.evaluate("session.open()")
    page.evaluate("postMany(5, 0)")
    page.goto(f"{site}/index.html?elsewhere")
    page.wait_for_function("window.loaded")
    until(lambda: len(seqs(gateway.log, session_id)) == 5, "what was buffered is in")
    page.evaluate("(options) => begin(options)", {"token": token, "sessionId": session_id})
    assert page.evaluate("session.open()") == 5, "it resumes"
    page.evaluate("postMany(3, 0)")
    page.evaluate("session.end()")
    assert seqs(gateway.log, session_id) == list(range(8))


def test_a_page_with_the_apps_key_opens_its_own_session(visit: Callable[[], Page], gateway: Gateway) -> None:
    page = visit()
    page.evaluate("(token) => begin({ token, app: 'desktop', metadata: { fps: 15 } })", INGEST)
    page.evaluate("postMany(3, 0)")
    page.evaluate("session.end()")
    session_id = page.evaluate("session.sessionId")
    assert len(session_id) == 32
    assert session_id[12] == "7"
    assert shape(gateway.log, session_id) == ["opened", "steps", "ended:client"]


def test_refusals_are_told_and_a_token_that_has_ended_is_fetched_anew(
    visit: Callable[[], Page], gateway: Gateway
) -> None:
    page, (session_id, token) = visit(), gateway.open()
    told = page.evaluate(
        "async (sessionId) => { begin({ token: 'wrong', sessionId }); return session.open().catch(String); }",
        session_id,
    )
    assert "401 invalid-token" in told
    assert "Refused" in page.evaluate("failures[0]")
    page.evaluate(
        "([sessionId, token]) => { let asked = 0; begin({ token: () => (asked++ ? token : 'ended'), sessionId }); }",
        [session_id, token],
    )
    page.evaluate("postMany(2, 0)")
    page.evaluate("session.end()")
    assert seqs(gateway.log, session_id) == [0, 1]
    mistakes = page.evaluate(
        """(sessionId) => {
            const told = [];
            const attempt = (act) => { try { act(); } catch (error) { told.push(error.constructor.name); } };
            attempt(() => begin({ token: 'x', sessionId: 'other-session', url: 'ftp://x' }));
            begin({ token: 'x', sessionId, bufferBytes: 5000 });
            attempt(() => session.post({}, { extra: { seq: 1 } }));
            attempt(() => session.post({}, { members: { PNG: new Uint8Array(1) } }));
            attempt(() => session.post({}, { members: { png: new Uint8Array(1e6) } }));
            for (let n = 0; n < 20; n++) attempt(() => session.post({}));
            session.close();
            attempt(() => session.post({}));
            return [...new Set(told)];
        }""",
        session_id,
    )
    assert mistakes == ["TypeError", "StepTooLarge", "BufferFull", "Error"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
