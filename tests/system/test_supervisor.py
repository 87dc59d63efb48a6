"""The supervisor, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stovetop.lifeline import RoleLocked, hold_role
from stovetop.supervisor import CONFIGURATION_ERROR, Backoff, Role, RoleState, Supervisor
from tests.waiting import until

SLEEPER = (
    "from stovetop.lifeline import watch_lifeline; import time; "
    "watch_lifeline(1.0); print('up', flush=True); time.sleep(600)"
)
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
QUICK = Backoff(first=0.05, longest=0.2)


def python(code: str, name: str = "sleeper", wanted: Callable[[], bool] = lambda: True) -> Role:
    return Role(name, (sys.executable, "-c", code), wanted=wanted)


def test_a_killed_role_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([python(SLEEPER)], tmp_path, QUICK)
    supervisor.start()
    try:
        until(lambda: "sleeper" in supervisor.processes)
        first = supervisor.processes["sleeper"]
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.processes.get("sleeper") not in (None, first))
    finally:
        supervisor.close()
    assert supervisor.processes == {}


def test_a_configuration_error_is_not_tried_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"import sys; open({str(starts)!r}, 'a').write('x'); sys.exit({CONFIGURATION_ERROR})"
    supervisor = Supervisor([python(code)], tmp_path, QUICK)
    supervisor.run()
    assert supervisor.states == {"sleeper": RoleState.MISCONFIGURED}
    assert starts.read_text() == "x"


def test_a_role_that_is_not_wanted_rests_until_it_is(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    supervisor = Supervisor([python(SLEEPER, wanted=wanted.exists)], tmp_path, QUICK)
    supervisor.start()
    try:
        until(lambda: supervisor.states["sleeper"] is RoleState.STOPPED)
        assert supervisor.processes == {}
        wanted.touch()
        until(lambda: "sleeper" in supervisor.processes)
    finally:
        supervisor.close()


def test_a_role_that_ignores_the_polite_signal_is_ended_by_force(tmp_path: Path) -> None:
    supervisor = Supervisor([python(STUBBORN)], tmp_path, QUICK, grace=1.0)
    supervisor.start()
    until(lambda: (tmp_path / "sleeper.log").exists() and "up" in (tmp_path / "sleeper.log").read_text())
    pid = supervisor.processes["sleeper"]
    supervisor.close()
    assert not psutil.pid_exists(pid)


def test_a_role_that_outlives_the_others_is_ended_last(tmp_path: Path) -> None:
    slow = (
        "import signal, time; from pathlib import Path; end = []; signal.signal(signal.SIGTERM, lambda *_: end.append(1)); "
        "print('up', flush=True)\nwhile not end: time.sleep(0.01)\ntime.sleep({pause}); print('over', time.time())"
    )
    first = Role("first", (sys.executable, "-c", slow.format(pause=0.5)))
    last = Role("last", (sys.executable, "-c", slow.format(pause=0)), outlives=True)
    supervisor = Supervisor([last, first], tmp_path, QUICK)
    supervisor.start()
    logs = [tmp_path / "first.log", tmp_path / "last.log"]
    until(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
    supervisor.close()
    ended = [float(log.read_text().split("over")[1]) for log in logs]
    assert ended == sorted(ended)


@pytest.mark.parametrize("code", [SLEEPER, STUBBORN], ids=["polite", "stubborn"])
def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path, code: str) -> None:
    program = (
        "from pathlib import Path; import sys; from stovetop.supervisor import Role, Supervisor; "
        f"roles = [Role(name, (sys.executable, '-c', {code!r})) for name in 'ab']; "
        f"Supervisor(roles, Path({str(tmp_path)!r})).run()"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    try:
        logs = [tmp_path / "a.log", tmp_path / "b.log"]
        until(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(children) == 2
        supervisor.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    finally:
        supervisor.kill()
        supervisor.wait()


def test_two_processes_cannot_play_one_role_on_the_same_data(tmp_path: Path) -> None:
    with hold_role(tmp_path, "gateway"):
        with pytest.raises(RoleLocked, match=f"gateway already runs on .* \\(process {os.getpid()}\\)"):
            hold_role(tmp_path, "gateway")
        hold_role(tmp_path, "pipeline").close()
    hold_role(tmp_path, "gateway").close()
