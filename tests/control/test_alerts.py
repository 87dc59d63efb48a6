"""Webhooks: what should not wait until somebody looks is posted, again where it fails, and holds nothing up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from control import ControlSettings, EventType
from control.api import ReportedEvent
from tests.control.conftest import Serve
from tests.control.servers import Served
from tests.waiting import until


class Hook:
    """A real server that is posted to; `answers` are its next statuses, 200 once they are used up."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/services/secret"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


def finding(check: str, level: Any = "warning", run: str = "demo", **more: Any) -> ReportedEvent:
    body = {"check": check, "message": f"{check} it is", **more}
    return ReportedEvent(run=run, type=EventType.HEALTH, level=level, step=7, body=body)


def lines(served: Served) -> list[str]:
    events = served.client.history(0, types=[EventType.LOG]).events
    return [event.body["message"] for event in events]


def test_a_warning_is_posted_once_in_a_while_and_smaller_things_are_not(serve: Serve, hook: Hook) -> None:
    served = serve(alerts=[{"url": hook.url}])
    served.client.report(finding("loss_spike", suggest=[{"command": "pause_training", "arguments": {}}]))
    served.client.report(finding("small", "info"), finding("loss_spike"), finding("loss_spike", run="other"))
    until(lambda: len(hook.got) == 2)
    first, second = hook.got
    assert (first["run"], first["step"], first["level"], first["check"]) == ("demo", 7, "warning", "loss_spike")
    assert first["text"] == "[warning] demo, step 7: loss_spike: loss_spike it is"
    assert first["suggest"] == [{"command": "pause_training", "arguments": {}}]
    assert second["run"] == "other"


def test_what_fails_is_tried_again_and_what_is_refused_is_given_up_with_a_line(serve: Serve, hook: Hook) -> None:
    served = serve(alerts=[{"url": hook.url, "attempts": 3, "patience": 0.01, "quiet_seconds": 0}])
    hook.answers = [500, 429]
    served.client.report(finding("late"))
    until(lambda: len(hook.got) == 3)
    assert [each["check"] for each in hook.got] == ["late"] * 3
    hook.answers = [400]
    served.client.report(finding("refused"))
    (line,) = until(lambda: lines(served))
    assert "(refused) could not be delivered to 127.0.0.1:" in line
    assert "it answered 400" in line
    assert "secret" not in line


def test_a_hook_that_nobody_answers_holds_nothing_up_and_its_queue_is_bounded(serve: Serve, hook: Hook) -> None:
    gone = hook.url
    hook.close()
    served = serve(alerts=[{"url": gone, "attempts": 2, "patience": 0.2, "quiet_seconds": 0}])
    for start in range(0, 1000, 500):
        served.client.report(*(finding(f"check-{number}") for number in range(start, start + 500)))
    assert served.client.runs().runs[0].run == "demo"
    until(lambda: any("could not be delivered" in line for line in lines(served)))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not an address to post to"):
        ControlSettings.model_validate({"alerts": [{"url": "file:///etc/passwd"}]})
