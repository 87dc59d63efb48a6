"""The run as a tree of segments, kept in a folder of small files that are whole or absent.

    run.json                      what the run is called and where it stands
    segments/s000001/segment.json which branch, from which parent, forked at which step
    segments/s000001/checkpoint-…  its checkpoints (see checkpoints.py)
    segments/s000001/trained/      which samples entered a backward pass (see journal.py)
    segments/s000001/commands.jsonl what was done to it from outside (see interventions.py)
    pins/…                         checkpoints that other runs begin at
    branches.json                  branches that were deleted

Every start opens a segment: a fresh one, a resume after a crash, a load. Its folder is its own, and nothing overwrites
it. A branch is a name for a chain of segments.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from control.api import NAME_PATTERN
from control.protocol import RunStatus
from publish.durable import make_folder, replace_file
from trainer.errors import BranchError, CheckpointForeign, RunLocked

FORMAT = 1
MAIN = "main"


Record = TypeVar("Record", bound=msgspec.Struct)


class StartReason(StrEnum):
    """Why a segment began."""

    FRESH = "fresh"
    RESUME = "resume"
    LOAD = "load"


class Fork(msgspec.Struct, frozen=True):
    """Where a segment goes on from: a step of its parent, through a checkpoint (its uuid, and its path when it was read).

    `segment` is None for a checkpoint that no segment of this run saved; `run` and `origin` then say whose it is, where
    that is known.
    """

    segment: str | None
    step: int
    checkpoint: str
    path: str
    run: str = ""
    origin: str = ""


class Segment(msgspec.Struct, frozen=True):
    """One uninterrupted stretch of training. `number` orders the segments of a run by their beginning."""

    format: int
    id: str
    number: int
    run: str
    branch: str
    reason: StartReason
    created_at: float
    parent: Fork | None = None
    note: str = ""

    @property
    def first_step(self) -> int:
        """The step that it goes on from; its own first one is the next."""
        return self.parent.step if self.parent else 0


class Stretch(msgspec.Struct, frozen=True):
    """A segment as part of a chain: only its steps up to and including `until` count (None: all of them)."""

    segment: Segment
    until: int | None


class RunRecord(msgspec.Struct, frozen=True):
    """What is known of a run without asking anybody."""

    format: int
    run: str
    status: RunStatus
    time: float
    reason: str = ""


class BranchRecord(msgspec.Struct, frozen=True):
    """What is known of branches beside their segments."""

    format: int
    deleted: tuple[str, ...]


class RunFolder:
    """One run's folder. Written by one trainer at a time (see `lock`), read by anybody."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only trainer of this run. Raises `RunLocked`, naming the process that is."""
        make_folder(self.path)
        with (self.path / "run.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise RunLocked(
                    f"{self.path}: process {holder} trains this run; stop it, or give this one a folder of its own"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    # The record

    def record(self) -> RunRecord | None:
        """The run's record, None before its first start."""
        return read_record(self.path / "run.json", RunRecord)

    def set_status(self, run: str, status: RunStatus, reason: str = "") -> None:
        """Say where the run stands, durably."""
        make_folder(self.path)
        record = RunRecord(FORMAT, run, status, time.time(), reason)
        replace_file(self.path / "run.json", msgspec.json.encode(record))

    # The tree

    def folder_of(self, segment: str) -> Path:
        """The folder of one segment."""
        return self.path / "segments" / segment

    def segments(self) -> list[Segment]:
        """All segments, in the order in which they began."""
        found = []
        for path in sorted((self.path / "segments").glob("s*/segment.json")):
            segment = read_record(path, Segment)
            if segment is not None:
                found.append(segment)
        return sorted(found, key=lambda segment: segment.number)

    def branches(self) -> list[str]:
        """The names of all branches, in the order in which they began."""
        return list(dict.fromkeys(segment.branch for segment in self.segments()))

    def new_branch(self, name: str | None) -> str:
        """A name for a new branch: the one that is asked for, or one that is made. Raises `BranchError`."""
        taken = {branch.casefold() for branch in self.branches()}
        if name is None:
            number = len(taken) + 1
            while f"branch-{number}" in taken:
                number += 1
            return f"branch-{number}"
        if not re.fullmatch(NAME_PATTERN, name):
            raise BranchError(
                f"branch_name: {name!r} cannot be a branch; use up to 64 letters, digits, '.', '_' and '-', "
                "beginning with a letter or digit"
            )
        if name.casefold() in taken:
            raise BranchError(f"branch_name: {name!r} exists; the branches are {', '.join(self.branches())}")
        return name

    def open_segment(self, run: str, branch: str, reason: StartReason, parent: Fork | None, note: str = "") -> Segment:
        """Begin a segment in a folder that nothing else ever had."""
        make_folder(self.path / "segments")
        known = [int(path.name[1:]) for path in (self.path / "segments").glob("s[0-9]*")]
        number = max(known, default=0) + 1
        identity = f"s{number:06d}"
        self.folder_of(identity).mkdir()
        segment = Segment(FORMAT, identity, number, run, branch, reason, time.time(), parent, note)
        replace_file(self.folder_of(identity) / "segment.json", msgspec.json.encode(segment))
        return segment

    # What others need

    def pin(self, checkpoint: str, by: str) -> None:
        """Keep a checkpoint of this run for as long as the run `by`, which began at it, has a folder."""
        make_folder(self.path / "pins")
        replace_file(self.path / "pins" / f"{checkpoint}.{by}", by.encode())

    def unpin(self, checkpoint: str, by: str) -> None:
        """The run `by` needs it no longer."""
        (self.path / "pins" / f"{checkpoint}.{by}").unlink(missing_ok=True)

    def pinned(self) -> dict[str, list[str]]:
        """The checkpoints that other runs begin at, and which runs."""
        found: dict[str, list[str]] = {}
        for path in sorted((self.path / "pins").glob("*.*")):
            checkpoint, _, by = path.name.partition(".")
            if checkpoint:  # else a file that is being written
                found.setdefault(checkpoint, []).append(by)
        return found

    # Branches that are gone

    def deleted_branches(self) -> list[str]:
        """The names of branches that were deleted; their names stay taken."""
        known = read_record(self.path / "branches.json", BranchRecord)
        return list(known.deleted) if known else []

    def mark_deleted(self, branch: str) -> None:
        """Remember that a branch was deleted."""
        deleted = (*self.deleted_branches(), branch)
        replace_file(self.path / "branches.json", msgspec.json.encode(BranchRecord(FORMAT, deleted)))

    def chain(self, segment: str) -> list[Stretch]:
        """The segments that lead to one, the root first, each cut at the step where the next forks."""
        by_id = {known.id: known for known in self.segments()}
        stretches: list[Stretch] = []
        at: str | None = segment
        until: int | None = None
        while at is not None and at in by_id:
            stretches.append(Stretch(by_id[at], until))
            parent = by_id[at].parent
            at, until = (parent.segment, parent.step) if parent else (None, None)
        return stretches[::-1]


def read_record(path: Path, kind: type[Record], known: int = FORMAT) -> Record | None:
    """A small stored file, None where there is none. Raises `CheckpointForeign` for one of another format."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = msgspec.json.decode(stored, type=kind)
    except msgspec.DecodeError as error:
        raise CheckpointForeign(f"{path}: not a {kind.__name__} ({error}); move the run's folder away") from error
    stored_format: int = value.format  # type: ignore[attr-defined]
    if stored_format != known:
        raise CheckpointForeign(f"{path}: format {stored_format}, only {known} is known here")
    return value
