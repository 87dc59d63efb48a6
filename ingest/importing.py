"""Reads NeuralOS's own interaction logs, to be posted like any other session.

    interaction_logs/session_{id}.jsonl               a JSON object a line
    interaction_logs/frames_{id}/{timestamp:.6f}.png  the frame of the line of that time, where one was kept

A line is `{"timestamp", "session_id" or "client_id", "is_eos", "is_reset", "type"?, "inputs": null | {…}}`. Sessions
without an end, several sessions in one file (lines that follow an end) and lines that cannot be read are what there is;
a bad line is named and left out, and the lines after it go on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ingest.conversation import RESERVED

FILE = re.compile(r"session_(.+)\.jsonl")
MAX_LINE = 1 << 20
LATEST = 1e11
"""Unix seconds, in the year 5138: more are milliseconds."""
_OWN = frozenset({"timestamp", "session_id", "client_id", "is_eos", "is_reset", "inputs"})
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class BadLine(msgspec.Struct, frozen=True):
    """A line that was left out, and why."""

    file: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.reason}"


class LoggedStep(msgspec.Struct, frozen=True):
    """A line as a step: when, what, and the frame's file, where there is one."""

    time: float
    inputs: Mapping[str, Any] | None
    is_reset: bool
    is_eos: bool
    extra: Mapping[str, Any]
    frame: Path | None

    def members(self) -> dict[str, bytes]:
        """Its frame, if there is one."""
        return {} if self.frame is None else {"png": self.frame.read_bytes()}


class LoggedSession(msgspec.Struct, frozen=True):
    """One session of a file. `part` counts those in the file: each is-eos ends one. `ended` tells whether it has one."""

    file: Path
    logged_id: str
    part: int
    steps: tuple[LoggedStep, ...]
    ended: bool

    @property
    def session_id(self) -> str:
        """The id to post it under, always the same: its own, or a digest of it where that is no session id."""
        name = f"neuralos-{self.logged_id}" + (f"-{self.part}" if self.part else "")
        if _SESSION_ID.fullmatch(name):
            return name
        return f"neuralos-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class LogFile:
    """One file: `sessions` to post, and `bad` lines, once `read` was called. `unused` frames belong to no line."""

    def __init__(self, path: Path) -> None:
        match = FILE.fullmatch(path.name)
        self.path = path
        self.logged_id = match[1] if match else path.stem
        self.sessions: list[LoggedSession] = []
        self.bad: list[BadLine] = []
        self.frames = self._frames()
        self.unused = 0

    def read(self) -> LogFile:
        """Read it all; itself."""
        steps: list[LoggedStep] = []
        for number, line in enumerate(self._lines(), 1):
            try:
                step = self._step(line)
            except ValueError as error:
                self.bad.append(BadLine(self.path, number, str(error)))
                continue
            if step is None:
                continue
            steps.append(step)
            if step.is_eos:
                self._close(steps, ended=True)
                steps = []
        if steps:
            self._close(steps, ended=False)
        used = {step.frame for session in self.sessions for step in session.steps}
        self.unused = len(set(self.frames.values()) - used)
        return self

    def _close(self, steps: list[LoggedStep], ended: bool) -> None:
        self.sessions.append(LoggedSession(self.path, self.logged_id, len(self.sessions), tuple(steps), ended))

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                while not line.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
                    line = line[: MAX_LINE + 1] + (b"\n" if rest.endswith(b"\n") else b"")
                yield line

    def _frames(self) -> dict[str, Path]:
        """The frames of this file, by their time in microseconds."""
        folder = self.path.with_name(f"frames_{self.logged_id}")
        return {path.stem: path for path in folder.glob("*.png")} if folder.is_dir() else {}

    def _step(self, line: bytes) -> LoggedStep | None:
        if not line.strip():
            return None
        whole = line.endswith(b"\n")
        if len(line) > MAX_LINE:
            raise ValueError(f"more than {MAX_LINE} bytes, which is no step")
        try:
            said = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})" if whole else "half-written: the last line has no end") from None
        if not isinstance(said, dict):
            raise ValueError(f"a {type(said).__name__}, but a line is a JSON object")
        named = said.get("session_id", said.get("client_id"))
        if named is not None and str(named) != self.logged_id:
            raise ValueError(f"of session {named!r}, but the file is of {self.logged_id!r}")
        time = said.get("timestamp")
        if not isinstance(time, (int, float)) or isinstance(time, bool) or not 0 <= time < LATEST:
            raise ValueError(f"timestamp is {time!r}, but it is a time in Unix seconds")
        inputs = said.get("inputs")
        if inputs is not None and not isinstance(inputs, dict):
            raise ValueError(f"inputs is a {type(inputs).__name__}, but it is an object or null")
        flags = []
        for name in ("is_reset", "is_eos"):
            flag = said.get(name)
            if flag not in (None, True, False):
                raise ValueError(f"{name} is {flag!r}, but it is true or false")
            flags.append(bool(flag))
        extra = {name: value for name, value in said.items() if name not in _OWN | RESERVED}
        try:
            msgspec.msgpack.encode((inputs, extra))
        except OverflowError:
            raise ValueError("an integer of more than 64 bits") from None
        return LoggedStep(float(time), inputs, flags[0], flags[1], extra, self.frames.get(f"{time:.6f}"))


def log_files(path: Path) -> list[Path]:
    """The log files at a path: itself, or all `session_*.jsonl` below a folder, in order."""
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("session_*.jsonl") if each.is_file())
