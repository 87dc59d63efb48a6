"""Starts roles as processes, keeps them running, and takes them down with it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stovetop.lifeline import LIFELINE

CONFIGURATION_ERROR = 78
"""Exit status EX_CONFIG of sysexits.h: the role will fail again until its settings change."""

LAST_GRACE = 3.0
"""Seconds that a role has to stop which outlives others that used up the grace."""

logger = logging.getLogger(__name__)


class RoleState(StrEnum):
    """Where a supervised process stands."""

    RUNNING = "running"
    WAITING = "waiting"  # it died, and is started again after a pause
    STOPPED = "stopped"  # it ended as it should, or was told to
    MISCONFIGURED = "misconfigured"  # a configuration error; not started again


@dataclass(frozen=True)
class Role:
    """A process to keep: its command line, and whether a clean exit (status 0) is final or means "start me again".

    `wanted` is asked before every start; while it says no, the role rests in `stopped`. One that `outlives` is ended only
    when all others have: they have last words for it.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    wanted: Callable[[], bool] = lambda: True
    outlives: bool = False


@dataclass(frozen=True)
class RoleReport:
    """Where a role stands: its process, how the one before ended (None: none did), since when, and when it starts again."""

    state: RoleState
    pid: int | None
    status: int | None
    since: float
    again_at: float | None
    log: Path


@dataclass(frozen=True)
class Backoff:
    """Pauses before a new start, in seconds: doubled with each death, forgotten after `settle` seconds of life."""

    first: float = 0.5
    longest: float = 30.0
    settle: float = 20.0

    def pause(self, deaths: int) -> float:
        """The pause after that many deaths in a row."""
        return min(self.longest, self.first * 2.0 ** max(0, deaths - 1))


class Supervisor:
    """Keeps a set of roles alive. `run` blocks until `stop` is called, from a signal handler or another thread."""

    def __init__(self, roles: Sequence[Role], logs: Path, backoff: Backoff | None = None, grace: float = 20.0) -> None:
        self._logs = logs
        self._backoff = backoff or Backoff()
        self._grace = grace
        self._stop = threading.Event()
        self._read_end, self._write_end = os.pipe()
        self._keepers = [_Keeper(role, self) for role in roles]

    @property
    def processes(self) -> dict[str, int]:
        """The process ids of the roles that run now."""
        return {keeper.role.name: pid for keeper in self._keepers if (pid := keeper.pid) is not None}

    @property
    def states(self) -> dict[str, RoleState]:
        """Where each role stands."""
        return {keeper.role.name: keeper.state for keeper in self._keepers}

    @property
    def reports(self) -> dict[str, RoleReport]:
        """Where each role stands, and what became of its last process."""
        return {keeper.role.name: keeper.report(self._logs) for keeper in self._keepers}

    def start(self) -> None:
        """Start every role; returns at once."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for keeper in self._keepers:
            keeper.start()

    def run(self) -> None:
        """Start every role and block until `stop`; on the way out every role is ended."""
        self.start()
        while not self._stop.wait(0.2):
            if all(state is RoleState.MISCONFIGURED for state in self.states.values()):
                logger.error("every role has a configuration error: giving up")
                break
        self.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def close(self) -> None:
        """End all roles: SIGTERM, then SIGKILL after the grace, and forget them."""
        self._stop.set()
        deadline = time.monotonic() + self._grace
        for outlives in (False, True):
            keepers = [keeper for keeper in self._keepers if keeper.role.outlives is outlives]
            for keeper in keepers:
                keeper.terminate()
            for keeper in keepers:
                keeper.join(max(LAST_GRACE if outlives else 0.0, deadline - time.monotonic()))
        os.close(self._write_end)
        os.close(self._read_end)

    def spawn(self, role: Role) -> subprocess.Popen[bytes]:
        """Start the role's process with the lifeline's read end and its output in a log file of its own."""
        environment = {**os.environ, **role.environment, LIFELINE: str(self._read_end)}
        with (self._logs / f"{role.name}.log").open("ab") as log:
            return subprocess.Popen(
                list(role.command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._read_end,),
                start_new_session=True,  # Ctrl-C reaches the supervisor, which ends the roles in its own way
            )

    @property
    def stopping(self) -> threading.Event:
        """Set once the roles are to end."""
        return self._stop

    @property
    def backoff(self) -> Backoff:
        """The pauses between starts."""
        return self._backoff


class _Keeper(threading.Thread):
    """Keeps one role: starts it, waits for it, starts it again."""

    def __init__(self, role: Role, supervisor: Supervisor) -> None:
        super().__init__(name=f"keeper-{role.name}", daemon=True)
        self.role = role
        self.state = RoleState.WAITING
        self._supervisor = supervisor
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._status: int | None = None
        self._since = time.time()
        self._again_at: float | None = None

    def report(self, logs: Path) -> RoleReport:
        log = logs / f"{self.role.name}.log"
        pid = self.pid if self.state is RoleState.RUNNING else None
        return RoleReport(self.state, pid, self._status, self._since, self._again_at, log)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(self) -> None:
        deaths = 0
        while not self._supervisor.stopping.is_set():
            if not self.role.wanted():
                self.state = RoleState.STOPPED
                self._supervisor.stopping.wait(0.5)
                continue
            born = time.monotonic()
            status = self._live()
            if self._supervisor.stopping.is_set():
                break
            self._status, self._since = status, time.time()
            if status == CONFIGURATION_ERROR:
                self.state = RoleState.MISCONFIGURED
                logger.error("%s: configuration error, see its log; it is not started again", self.role.name)
                return
            lived = time.monotonic() - born
            deaths = 1 if lived > self._supervisor.backoff.settle else deaths + 1
            pause = self._supervisor.backoff.pause(deaths) if status else 0.2
            self._again_at = time.time() + pause
            self.state = RoleState.WAITING if status else RoleState.STOPPED
            if status:
                logger.warning("%s ended with status %s: starting it again in %.1f s", self.role.name, status, pause)
            self._supervisor.stopping.wait(pause)
        self.state = RoleState.STOPPED

    def _live(self) -> int:
        with self._guard:
            if self._supervisor.stopping.is_set():
                return 0
            self._process = self._supervisor.spawn(self.role)
        self._since, self._again_at = time.time(), None
        self.state = RoleState.RUNNING
        logger.info("%s runs as process %d", self.role.name, self._process.pid)
        return self._process.wait()

    def terminate(self) -> None:
        with self._guard:
            if self.pid is not None and self._process is not None:
                self._process.send_signal(signal.SIGTERM)

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if self.is_alive() and self._process is not None and self._process.poll() is None:
            logger.warning("%s did not stop in time: ending it by force", self.role.name)
            self._process.kill()
            super().join(5.0)
