"""A trainer with forked workers that is killed is gone at once, and its successor finds everything free."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from control import ControlSettings
from control.server import ControlThread
from tests.control.servers import Served, Tokens, end, python
from tests.waiting import until

WORKER = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "from auth.tokens import TokenStore\n"
    "from control import ActorConnection, ControlSettings\n"
    "from control.server import ControlThread\n"
    "line = ActorConnection(sys.argv[1], sys.argv[2], run='demo', actor='trainer', kind='trainer')\n"
    "assert line.start(10)\n"
    "server = ControlThread(ControlSettings(port=0, data=Path(sys.argv[3])), TokenStore(Path(sys.argv[4]))).start()\n"
    "worker = os.fork()\n"
    "if worker == 0:\n"
    "    time.sleep(60)\n"
    "print(server.url, worker, flush=True)\n"
    "time.sleep(60)\n"
)


def test_a_forked_worker_keeps_neither_the_line_nor_the_folder_nor_the_port(served: Served, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "t.json")
    program = tmp_path / "program.py"
    program.write_text(WORKER)
    process = python(program, served.url, served.tokens.operate, str(tmp_path / "data"), str(tokens.path))
    worker = 0
    try:
        assert process.stdout is not None
        url, number = process.stdout.readline().split()
        worker = int(number)
        until(lambda: served.client.run("demo").actors[0].connected)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        until(lambda: not served.client.run("demo").actors[0].connected)
        os.kill(worker, 0)  # it lives
        port = int(url.rsplit(":", 1)[1])
        with ControlThread(ControlSettings(port=port, data=tmp_path / "data"), tokens.store) as successor:
            assert successor.url == url
    finally:
        end(process)
        if worker:
            os.kill(worker, signal.SIGKILL)
