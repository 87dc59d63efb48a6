"""Whether the process behind a link lives, by what it said, what its supervisor says of it, and what to do if not."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control.server.beats import SILENT, Beat

SUPERVISOR = "supervisor"
"""The component under which `stovetop up` reports where each of its roles stands."""

STARTS = 120.0
"""Seconds in which a part says its first word. A trainer loads its libraries first, for a minute where the disk is slow."""

SETTLING = 8.0
"""Seconds after the start of this server in which nobody is called silent: they have to find it again first."""


@dataclass(frozen=True)
class Trouble:
    """Why nothing passes, and what to do."""

    problem: str
    advice: str


@dataclass(frozen=True)
class Process:
    """A role as its supervisor sees it. `status` is how the one before ended."""

    role: str
    state: str
    pid: int | None
    status: int | None
    since: float
    again_at: float | None
    log: str

    @property
    def ended(self) -> str:
        """How the last one ended, in words."""
        if self.status is None:
            return "ended"
        if self.status < 0:
            return f"was killed by {_signal(-self.status)}"
        return f"ended with status {self.status}"


@dataclass(frozen=True)
class Processes:
    """The processes of one run: what the supervisor reported last, and what is asked of it. `now` and `started` (of this
    server) are Unix seconds."""

    report: Beat | None
    now: float
    started: float

    def get(self, role: str) -> Process | None:
        """The role's process, where a supervisor keeps it and was heard lately."""
        if self.report is None or self.now - self.report.at > 2 * SILENT:
            return None
        told = self.report.body.get("roles")
        one = told.get(role) if isinstance(told, Mapping) else None
        return None if not isinstance(one, Mapping) else _process(role, one)

    @property
    def settling(self) -> bool:
        """Whether this server was started so lately that not everybody can have found it."""
        return self.now - self.started < SETTLING

    def overdue(self, since: float) -> float | None:
        """For how long a part that was started at `since` owes its first word, where that is too long."""
        waited = self.now - max(since, self.started)
        return waited if waited > STARTS else None

    def silent(self, heard: float) -> bool:
        """Whether what was last heard at `heard` should have been heard since."""
        return self.now - heard > SILENT and not self.settling

    def trouble(self, role: str, what: str, heard: float | None) -> Trouble | None:
        """What is wrong with `what`, a part of `role` that was last heard at `heard`; None where nothing is."""
        process = self.get(role)
        if process is not None and process.state == "misconfigured":
            advice = f"Read the end of {process.log}, correct the setting that it names, and start `stovetop up` again."
            return Trouble(f"The {what} has a configuration error and is not started again.", advice)
        if process is not None and process.state == "waiting" and process.status is not None:
            again = max(0.0, (process.again_at or self.now) - self.now)
            advice = f"It is started again by itself in {again:.0f} s. If it ends again, {process.log} says why."
            return Trouble(f"The {what} {process.ended}.", advice)
        if process is not None and process.pid is not None and process.since > (heard or 0.0):
            waited = self.overdue(process.since)
            if waited is not None:
                advice = f"It hangs before it is ready: {process.log} says how far it came. {anew(process.pid)}"
                said = f"Process {process.pid} of the {what} runs for {duration(waited)} and has said nothing yet."
                return Trouble(said, advice)
        if heard is None or not self.silent(heard):
            return None
        silent = self.now - heard
        if process is not None and process.pid is not None:
            if process.since > heard:
                advice = f"Wait a moment. If it stays so, {process.log} says why."
                return Trouble(f"The {what} {process.ended} and is being started again.", advice)
            advice = f"It hangs or is starved: see {process.log}. {anew(process.pid)}"
            return Trouble(f"Process {process.pid} of the {what} runs, but says nothing for {silent:.0f} s.", advice)
        advice = f"Its process or its network is gone: look at its log, and start it again (`stovetop {role}`)."
        return Trouble(f"The {what} was not heard for {duration(silent)}.", advice)


def _process(role: str, told: Mapping[str, Any]) -> Process:
    return Process(
        role=role,
        state=str(told.get("state", "")),
        pid=told.get("pid"),
        status=told.get("status"),
        since=float(told.get("since") or 0.0),
        again_at=told.get("again_at"),
        log=str(told.get("log") or "its log"),
    )


def anew(pid: int) -> str:
    """What an operator can do with a process that hangs and is supervised."""
    return f"`kill -9 {pid}` has it started anew."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def duration(seconds: float) -> str:
    """In words, to the minute or the hour."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
