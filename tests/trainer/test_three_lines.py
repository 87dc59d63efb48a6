"""The paper's three lines as a program of their own, steered through the control server that they start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from control import ControlClient, Outcome, RunStatus
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DOOR = re.compile(r"steer this training at (\S+) with the token (\S+)")


class Script:
    """The example, running."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._said = folder / "said.txt"
        self.folder = folder / "run"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "examples" / "three_lines.py", self.folder, str(steps)],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def client(self) -> ControlClient:
        """A client of the server that it has started."""

        def open_() -> bool:
            assert self.process.poll() is None, self.said
            return DOOR.search(self.said) is not None

        until(open_)
        door = DOOR.search(self.said)
        assert door is not None
        return ControlClient(door[1], door[2])

    def tab(self) -> ClientConnection:
        """A dashboard's line to it, from the first event on."""
        door = DOOR.search(self.said)
        assert door is not None
        address = door[1].replace("http", "ws") + "/api/v1/events?since=0"
        return connect(address, additional_headers={"Authorization": f"Bearer {door[2]}"}, max_queue=1)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path, 1_000_000)
    yield script
    if script.process.poll() is None:
        script.process.kill()
        script.process.wait()


@pytest.mark.timeout(240)
def test_the_papers_three_lines_train_and_obey(script: Script) -> None:
    with script.client() as client:
        until(lambda: any(run.step for run in client.runs().runs))
        (run,) = client.runs().runs
        name = run.run
        assert run.status is RunStatus.RUNNING

        paused = client.send("pause_training", run=name)
        assert paused.outcome is Outcome.SUCCESS
        still = client.run(name)
        assert still.status is RunStatus.PAUSED
        saved = client.send("save_checkpoint", run=name)
        assert saved.outcome is Outcome.SUCCESS
        evaluated = client.send("do_evaluate", run=name)
        assert evaluated.after["eval_loss"] > 0
        slowed = client.send("update_optimizer", {"lr": {"scale": 0.5}}, run=name)
        assert slowed.after["lr_scale"] == 0.5
        wrong = client.send("load_checkpoint", {"uuid": "nobody"}, run=name)
        assert wrong.outcome is Outcome.REJECTED
        assert client.run(name).step == still.step

        loaded = client.send(
            "load_checkpoint", {"uuid": saved.after["uuid"], "branch_name": "again", "save_first": False}, run=name
        )
        assert loaded.outcome is Outcome.SUCCESS
        assert client.send("resume_training", run=name).outcome is Outcome.SUCCESS

        def further() -> bool:
            seen = client.run(name)
            return seen.branch == "again" and (seen.step or 0) > (still.step or 0)

        until(further)
        detail = client.run(name)
        assert {branch.branch for branch in detail.branches} == {"main", "again"}
        assert {spec.spec.name for spec in detail.commands} >= {"update_optimizer", "publish_checkpoint"}
        assert detail.optimizer["lr_scale"] == 1.0  # the checkpoint's own

        tabs = [script.tab() for _ in range(8)]  # and nobody reads what comes
        stopped = client.send("stop_training", {"save": True}, run=name)
        assert stopped.outcome is Outcome.SUCCESS
        assert script.process.wait(60) == 0, script.said
        assert len(tabs) == 8
        uuids = {entry.command for entry in [paused, saved, evaluated, slowed, loaded, stopped]}
        assert len(uuids) == 6
