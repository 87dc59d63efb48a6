"""The server ends when it is told to, whoever is still looking."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidState
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.sync.client import connect

from control import FakeActor
from control.server.compat import CalmWebSocket
from tests.control.servers import ROOT, Served, ServedProcess, end


def open_tabs(served: Served | ServedProcess, count: int) -> list[object]:
    headers = {"Authorization": f"Bearer {served.tokens.read}"}
    address = served.url.replace("http", "ws") + "/api/v1/events?since=0"
    return [connect(address, additional_headers=headers, legacy=True) for _ in range(count)]


def test_a_server_with_open_tabs_ends_within_seconds_and_cleanly(tmp_path: Path) -> None:
    served = ServedProcess(tmp_path)
    try:
        tabs = open_tabs(served, 12)
        with FakeActor(served.url, served.tokens.operate):
            assert served.process is not None
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(60) == 0  # 0.3 s of processor time; the danger is that it never ends
        assert tabs
    finally:
        served.close()


def test_a_script_with_a_server_in_a_thread_and_open_tabs_ends_at_once(tmp_path: Path) -> None:
    program = tmp_path / "script.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from auth.tokens import Scope, TokenStore\n"
        "from control import ControlSettings\n"
        "from control.server import ControlThread\n"
        "folder = Path(sys.argv[1])\n"
        "tokens = TokenStore(folder / 't.json')\n"
        "thread = ControlThread(ControlSettings(port=0, data=folder / 'c'), tokens).start()\n"
        "print(thread.url, tokens.mint('eyes', [Scope.READ]), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        url, token = process.stdout.readline().split()
        address = url.replace("http", "ws") + "/api/v1/events?since=0"
        tabs = [
            connect(address, additional_headers={"Authorization": f"Bearer {token}"}, legacy=True) for _ in range(8)
        ]
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        assert tabs
    finally:
        process.stdin.close() if process.stdin else None
        end(process)


def test_a_thread_that_is_stopped_lets_another_take_its_folder_and_port(served: Served) -> None:
    tabs = open_tabs(served, 4)
    served.restart()
    assert served.client.runs().runs == ()
    assert tabs


def test_one_tab_that_is_just_closing_does_not_break_off_the_shutdown() -> None:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    def closing(kind: type[WebSocketsSansIOProtocol]) -> tuple[WebSocketsSansIOProtocol, list[str]]:
        made = kind.__new__(kind)
        made.ping_timer = made.pong_timer = made.pending_ping_payload = made.close_timer = None
        made.handshake_complete, made.close_sent, made.queue = True, False, asyncio.Queue()
        made.conn = ServerProtocol(state=State.OPEN)
        made.conn.send_close(1000)
        closed: list[str] = []
        made.transport = type("Transport", (), {"close": lambda self: closed.append("closed")})()
        return made, closed

    calm, closed = closing(CalmWebSocket)
    calm.shutdown()
    assert closed == ["closed"]
    broken, _ = closing(WebSocketsSansIOProtocol)
    with pytest.raises(InvalidState):  # when this no longer raises, CalmWebSocket is needed no more
        broken.shutdown()
