"""Checkpoints that are whole or absent, and which of them are kept.

A checkpoint is what the Trainer saves (weights, optimizer, schedule, random states, step) and beside it what the Trainer
does not know: where the data stands, the averaged weights, settings that live outside of the optimizer. It is written
in a staging folder, synced, and becomes visible by one rename; what is listed here is therefore whole.

    checkpoint-120/               the files of transformers, so that a plain Trainer loads it too
    checkpoint-120/checkpoint.json  who and when, and the size of every file
    checkpoint-120/interactive.json what the interactive trainer keeps
    checkpoint-120/mixture-0.json   the state of the data, by rank
    checkpoint-120/ema.safetensors
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from publish.durable import make_folder, remove_tree, sync_folder, sync_tree, write_file
from trainer.errors import BranchError, CheckpointForeign, CheckpointMissing
from trainer.kept import KeptSetting
from trainer.segments import Fork, RunFolder, Segment, StartReason, read_record

FORMAT = 1
CARD = "checkpoint.json"
STATE = "interactive.json"
PREFIX = "checkpoint-"
TRAINER_STATE_NAME = "trainer_state.json"  # transformers' name for it; who only lists checkpoints need not import that

logger = logging.getLogger(__name__)


class Card(msgspec.Struct, frozen=True):
    """What a checkpoint is. `revision` is the number of the newest command that its state holds; `files` are sizes."""

    format: int
    uuid: str
    run: str
    branch: str
    segment: str
    step: int
    created_at: float
    revision: int
    reason: str
    world: int
    files: Mapping[str, int]


class InteractiveState(msgspec.Struct, frozen=True):
    """What the interactive trainer keeps and the Trainer does not save. `construction` and `parameters` are those of the
    dataset, where it has some; a mixture keeps its own. `max_steps` and `scheduled_steps` are set where a command has
    moved the last step; `settings` are those of commands that packages have registered."""

    format: int = FORMAT
    max_grad_norm: float | None = None
    layers: Mapping[str, Mapping[str, Any]] = {}
    newest_sample_time: float | None = None
    max_steps: int | None = None
    scheduled_steps: int | None = None
    settings: tuple[KeptSetting, ...] = ()
    construction: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint and where it lies."""

    path: Path
    card: Card

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.card.files.values())

    @property
    def fork(self) -> Fork:
        """The place where a segment that loads it begins."""
        return Fork(self.card.segment, self.card.step, self.card.uuid, str(self.path))

    def check(self) -> None:
        """Raise `CheckpointForeign` where a file is missing or has another size than it was saved with."""
        for name, size in self.card.files.items():
            try:
                found = (self.path / name).stat().st_size
            except FileNotFoundError:
                raise CheckpointForeign(f"{self.path}: {name} is missing; load another checkpoint") from None
            if found != size:
                raise CheckpointForeign(
                    f"{self.path}: {name} has {found} bytes and was saved with {size}; load another checkpoint"
                )

    def state(self) -> InteractiveState:
        """What the interactive trainer kept."""
        return read_record(self.path / STATE, InteractiveState, FORMAT) or InteractiveState()

    def mixtures(self) -> list[Mapping[str, Any]]:
        """The state of the data of every rank; empty where there was no mixture."""
        return [msgspec.json.decode(path.read_bytes()) for path in sorted(self.path.glob("mixture-*.json"))]


@dataclass(frozen=True)
class Start:
    """How the next segment begins: on which branch, and from what (no path: from nothing; no checkpoint: from one that a
    plain Trainer saved). `construction` makes the dataset anew, with other arguments than the checkpoint was saved with."""

    reason: StartReason
    branch: str
    path: Path | None = None
    checkpoint: Checkpoint | None = None
    parent: Fork | None = None
    note: str = ""
    construction: Mapping[str, Any] | None = None

    @classmethod
    def at(cls, checkpoint: Checkpoint, reason: StartReason, branch: str, note: str = "") -> Start:
        """A start from a whole checkpoint."""
        return cls(reason, branch, checkpoint.path, checkpoint, checkpoint.fork, note)


class _Progress(msgspec.Struct, frozen=True):
    global_step: int


_decode_progress = msgspec.json.Decoder(_Progress).decode


class Checkpoints:
    """All whole checkpoints of a run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def of(self, segment: str) -> list[Checkpoint]:
        """Those of one segment, in the order in which they were saved."""
        found = []
        for path in self._folder.folder_of(segment).glob(f"{PREFIX}*"):
            card = read_record(path / CARD, Card, FORMAT)
            if card is not None:
                found.append(Checkpoint(path, card))
        return sorted(found, key=lambda checkpoint: (checkpoint.card.step, checkpoint.card.created_at))

    def all(self) -> list[Checkpoint]:
        """Those of all segments, oldest segment first."""
        return [checkpoint for segment in self._folder.segments() for checkpoint in self.of(segment.id)]

    def find(self, identity: str) -> Checkpoint:
        """The one of this uuid. Raises `CheckpointMissing`."""
        known = self.all()
        for checkpoint in known:
            if checkpoint.card.uuid == identity:
                return checkpoint
        newest = (
            f"; the newest is {known[-1].card.uuid} of step {known[-1].card.step}" if known else "; there is none yet"
        )
        raise CheckpointMissing(f"uuid: no whole checkpoint is called {identity!r}{newest}")

    def latest(self) -> Start | None:
        """How a run that ended in a crash goes on: from the newest whole checkpoint of its newest segment's chain.

        One that is damaged is passed over for the one before. None where the run never began. Raises
        `CheckpointMissing` where there was a checkpoint, and none is left that can be used.
        """
        segments = self._folder.segments()
        if not segments:
            return None
        newest = segments[-1]
        for checkpoint in self._along(newest):
            try:
                checkpoint.check()
            except CheckpointForeign as error:
                logger.error("%s; going back to the one before", error)
                continue
            return Start.at(checkpoint, StartReason.RESUME, newest.branch)
        root = self._folder.chain(newest.id)[0].segment
        if root.parent is not None and root.parent.path and root.parent.segment is None:
            return self.outside(Path(root.parent.path), StartReason.RESUME, newest.branch)
        if newest.parent is not None and newest.parent.path:
            raise CheckpointMissing(
                f"{newest.parent.path}: segment {newest.id} began here, and neither this checkpoint nor one before it "
                "is left"
            )
        again = Fork(newest.id, newest.first_step, "", "")
        return Start(StartReason.RESUME, newest.branch, parent=again)

    def _along(self, segment: Segment) -> Iterator[Checkpoint]:
        """The checkpoints of a segment's chain, newest first; of a parent those up to the fork, the one forked at first."""
        child: Segment | None = None
        for stretch in reversed(self._folder.chain(segment.id)):
            forked_at = child.parent.checkpoint if child is not None and child.parent is not None else None
            counting = [c for c in self.of(stretch.segment.id) if stretch.until is None or c.card.step <= stretch.until]
            yield from sorted(counting, key=lambda each: each.card.uuid == forked_at)[::-1]
            child = stretch.segment

    def outside(self, path: Path, reason: StartReason, branch: str) -> Start:
        """A start from a checkpoint by its path; one that a plain Trainer saved has no card."""
        card = read_record(path / CARD, Card, FORMAT)
        if card is not None:
            checkpoint = Checkpoint(path, card)
            start = Start.at(checkpoint, reason, branch)
            if path.resolve().is_relative_to(self._folder.path.resolve()):
                return start
            # the segments of another run are numbered like ours, so it is named beside
            fork = Fork(None, card.step, card.uuid, str(path), card.run, card.segment)
            return replace(start, parent=fork)
        try:
            step = _decode_progress((path / TRAINER_STATE_NAME).read_bytes()).global_step
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointMissing(
                f"{path}: no checkpoint lies here (it lacks {TRAINER_STATE_NAME}); give the folder of one"
            ) from None
        return Start(reason, branch, path=path, parent=Fork(None, step, "", str(path)))

    # Saving

    def staging(self, segment: str) -> Path:
        """The folder in which the next checkpoint of a segment is prepared."""
        return self._folder.folder_of(segment) / "staging"

    def publish(self, staged: Path, target: Path, card: Card) -> Checkpoint:
        """Make a prepared folder visible: its card is written, all of it synced, and then renamed."""
        sizes = {
            path.relative_to(staged).as_posix(): path.stat().st_size for path in staged.rglob("*") if path.is_file()
        }
        card = msgspec.structs.replace(card, files=sizes)
        write_file(staged / CARD, msgspec.json.format(msgspec.json.encode(card)))
        sync_tree(staged)
        os.rename(staged, target)
        sync_folder(target.parent)
        return Checkpoint(target, card)

    def target(self, card: Card) -> Path:
        """A name that is free: a second checkpoint of one step does not take the place of the first."""
        folder = self._folder.folder_of(card.segment)
        target, count = folder / f"{PREFIX}{card.step}", 1
        while target.exists():
            count += 1
            target = folder / f"{PREFIX}{card.step}-{count}"
        return target

    # Keeping

    def prune(self, keep: int, pinned: str | None = None) -> list[Checkpoint]:
        """Delete all but the newest `keep` of each branch, and those that a later start needs; return the deleted.

        A checkpoint at which another branch begins is never deleted, nor the one that a segment without a checkpoint of
        its own began at, nor the one whose path is `pinned`.
        """
        segments = self._folder.segments()
        needed = self._needed(segments)
        deleted = []
        for branch in dict.fromkeys(segment.branch for segment in segments):
            chain = [c for segment in segments if segment.branch == branch for c in self.of(segment.id)]
            for checkpoint in chain[:-keep]:
                if checkpoint.card.uuid not in needed and str(checkpoint.path) != pinned:
                    self._delete(checkpoint)
                    deleted.append(checkpoint)
        return deleted

    def deletable(self, branch: str) -> list[Checkpoint]:
        """The checkpoints of a branch that can be deleted.

        Raises `BranchError` for one that is not there, that the run goes on from, or that another branch or another run
        begins on.
        """
        segments = self._folder.segments()
        own = {segment.id for segment in segments if segment.branch == branch}
        if not own or branch in self._folder.deleted_branches():
            left = [name for name in self._folder.branches() if name not in self._folder.deleted_branches()]
            raise BranchError(f"branch: there is no {branch!r}; the branches are {', '.join(left)}")
        gone = set(self._folder.deleted_branches())
        for other in segments:
            on_it = other.parent is not None and other.parent.segment in own
            if on_it and other.branch != branch and other.branch not in gone:
                raise BranchError(f"branch: {other.branch!r} begins on {branch!r}; delete that one first")
        if segments[-1].id in own:
            raise BranchError(f"branch: the run goes on from {branch!r}; load a checkpoint of another branch first")
        pinned = self._folder.pinned()
        found = [checkpoint for segment in sorted(own) for checkpoint in self.of(segment)]
        for checkpoint in found:
            if users := pinned.get(checkpoint.card.uuid):
                raise BranchError(f"branch: run {users[0]!r} begins on {branch!r}; delete that run's folder first")
        return found

    def delete_branch(self, branch: str) -> list[Checkpoint]:
        """Delete the checkpoints of a branch and mark it as deleted; return the deleted. Raises as `deletable` does."""
        found = self.deletable(branch)
        self._folder.mark_deleted(branch)
        for checkpoint in found:
            self._delete(checkpoint)
        return found

    def _needed(self, segments: list[Segment]) -> set[str]:
        by_id = {segment.id: segment for segment in segments}
        needed = set(self._folder.pinned())
        for segment in segments:
            if segment.parent is None:
                continue
            parent = by_id.get(segment.parent.segment or "")
            if parent is None or parent.branch != segment.branch or not self.of(segment.id):
                needed.add(segment.parent.checkpoint)
        return needed

    def _delete(self, checkpoint: Checkpoint) -> None:
        bin_ = checkpoint.path.with_name(f"deleted-{uuid.uuid4().hex}")  # no longer listed from here on
        os.rename(checkpoint.path, bin_)
        remove_tree(bin_)
        logger.info("checkpoint %s of step %d was deleted", checkpoint.card.uuid, checkpoint.card.step)


def prepare(staging: Path) -> None:
    """An empty staging folder; what a killed process left there goes."""
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)


def new_card(segment: Segment, step: int, revision: int, reason: str, world: int) -> Card:
    """The card of a checkpoint that is about to be saved."""
    return Card(
        FORMAT,
        uuid.uuid4().hex,
        segment.run,
        segment.branch,
        segment.id,
        step,
        time.time(),
        revision,
        reason,
        world,
        {},
    )
