"""A run repeated: its segments in their order, each with what was done to it after the same steps.

What has to be there is read from the run's folder alone: the tree of segments and what was done to each. A segment that
began at a checkpoint begins, in the replay, at one that the replay has saved at that step, so a load, a resume after a
crash and new data all come to the same state. The losses are the same where the data can be read again in the same order
(datasets, shards; not what a live source happened to have) and the layout (ranks, batches, workers of the paper's form) is.

Left out is what changes no weight (pauses, stops, publishing, deletions), and of a segment's end what nothing goes on
from: a stretch that a death has undone is not trained again.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field

from control import Command, CommandKind, CommandName, Delivery, Event, Outcome, Report
from trainer.checkpoints import Checkpoint, Checkpoints, Start
from trainer.command import Arguments, Later, Plan, register_command
from trainer.errors import CheckpointMissing, CommandRejected, TrainerError
from trainer.interventions import Intervention, interventions
from trainer.link import Link
from trainer.segments import Fork, RunFolder, Segment, StartReason
from trainer.steering import Departure, Leave, Steering

if TYPE_CHECKING:
    from collections.abc import Iterable

AUTHOR = "replay"
GO_BACK = "go_back"
SAVE, DATA = CommandName.SAVE_CHECKPOINT, CommandName.UPDATE_DATASET
LEFT_OUT = frozenset(
    {
        SAVE,  # saved is what something goes on from
        CommandName.LOAD_CHECKPOINT,  # segments tell where each began
        CommandName.PAUSE_TRAINING,
        CommandName.RESUME_TRAINING,
        CommandName.STOP_TRAINING,
        CommandName.PUBLISH_CHECKPOINT,
        CommandName.DELETE_BRANCH,
    }
)
LEADS_ON = {DATA.value: "new data", CommandName.UPDATE_TRAINING.value: "further steps"}
"""Commands after which a segment of that note begins without anybody's load."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cue:
    """A command that is given after a completed step. `keeps`: its checkpoint is what a later segment begins at."""

    step: int
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keeps: bool = False


@dataclass(frozen=True)
class Part:
    """One segment: where it begins (None: as the whole does), what is done to it, and up to which step it is trained
    (None: to the Trainer's last). `led_to`: the part before it leads here by itself."""

    segment: Segment
    begins: tuple[str, int] | None
    cues: tuple[Cue, ...]
    until: int | None
    led_to: bool


@dataclass(frozen=True)
class Score:
    """What a replay follows. `first` is the checkpoint of another run that all begins at."""

    run: str
    parts: tuple[Part, ...]
    first: Path | None = None


def read_score(folder: RunFolder, until: int | None = None) -> Score:
    """What the run in this folder was. `until` is the last step of its last segment, where that was not the Trainer's own.

    Raises `CheckpointMissing` where the folder holds no run, or one that was begun from nothing more than once.
    """
    segments = folder.segments()
    if not segments:
        raise CheckpointMissing(f"{folder.path}: no run lies here; give the folder of one that was trained")
    # one that died before it saved anything was begun anew by another, and nothing goes on from it
    kept = [each for each in segments if not any(_anew(other, each) for other in segments)]
    begins = {each.id: _beginning(each, segments) for each in kept}
    done = {each.id: interventions(folder.folder_of(each.id)) for each in kept}
    known = {checkpoint.card.uuid: checkpoint for checkpoint in Checkpoints(folder).all()}
    led_to = {each.id: _led_to(each, before, done[before.id]) for before, each in pairwise(kept)}
    parts = []
    for number, segment in enumerate(kept):
        if number and begins[segment.id] is None:
            raise CheckpointMissing(
                f"{folder.path}: segment {segment.id} was begun from nothing, after others; give each such run a folder"
            )
        forks = [
            each.parent
            for each in kept
            if each.parent is not None and not led_to.get(each.id) and begins[each.id] == (segment.id, each.parent.step)
        ]
        leads = number + 1 < len(kept) and led_to[kept[number + 1].id]
        cues = _cues(done[segment.id], forks, known, leads)
        last = max([segment.first_step, *(cue.step for cue in cues), *(each.step for each in done[segment.id])])
        ends = until if number + 1 == len(kept) else last
        parts.append(Part(segment, begins[segment.id], cues, ends, led_to.get(segment.id, False)))
    root = kept[0].parent
    first = Path(root.path) if root is not None and root.segment is None and root.path else None
    return Score(kept[0].run, tuple(parts), first)


_Script: TypeAlias = Generator[Delivery | None, None, None]


class ReplayLink:
    """A link on which a score's commands come in at their steps, beside those of the link that it wraps.

    Training is paused where something is done, so that each command has its outcome before the next one is given.
    """

    def __init__(self, inner: Link, score: Score, steering: Steering) -> None:
        self._inner, self._score, self._steering = inner, score, steering
        self._script: _Script = self._play()
        self._own: set[str] = set()
        self._reports: dict[str, Report] = {}
        self._saved: dict[tuple[str, int], str] = {}
        self.failed: list[tuple[Command, Report]] = []
        """What of the score did not come off."""

    @property
    def revision(self) -> int:
        """Of the link that it wraps."""
        return self._inner.revision

    @revision.setter
    def revision(self, value: int) -> None:
        self._inner.revision = value

    def commands(self) -> Sequence[Delivery]:
        """See `Link`."""
        return [*self._due(), *self._inner.commands()]

    def wait(self, timeout: float) -> Sequence[Delivery]:
        """See `Link`."""
        return self._due() or self._inner.wait(timeout)

    def report(self, report: Report) -> None:
        """See `Link`; what is said of a replayed command is kept here, as nobody sent it."""
        if report.uuid not in self._own:
            self._inner.report(report)
        elif report.outcome is not None:
            self._reports[report.uuid] = report

    def say(self, *events: Event) -> None:
        """See `Link`."""
        self._inner.say(*events)

    def set_state(self, **state: Any) -> None:
        """See `Link`."""
        self._inner.set_state(**state)

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """See `Link`."""
        return self._inner.close(reason, timeout)

    # Within

    def _due(self) -> list[Delivery]:
        delivery = next(self._script, None)
        return [] if delivery is None else [delivery]

    def _play(self) -> _Script:
        """Gives one command at a time; None while there is nothing to be done."""
        for number, part in enumerate(self._score.parts):
            if number and not part.led_to:
                yield from self._go_back(part)
            for cue in part.cues:
                yield from self._reach(cue.step)
                yield from self._do(CommandName.PAUSE_TRAINING, {})
                report = yield from self._do(cue.command, cue.arguments)
                if cue.keeps and report.outcome is Outcome.SUCCESS:
                    self._saved[part.segment.id, cue.step] = report.after["uuid"]
            if number + 1 < len(self._score.parts):
                yield from self._reach(part.until or 0)
        if self._score.parts[-1].until is None:
            yield from self._do(CommandName.RESUME_TRAINING, {})
            return
        yield from self._reach(self._score.parts[-1].until)
        yield from self._do(CommandName.STOP_TRAINING, {"save": False})

    def _go_back(self, part: Part) -> _Script:
        if part.begins is None or part.begins not in self._saved:
            raise CheckpointMissing(f"segment {part.segment.id} begins at {part.begins}, which the replay did not save")
        arguments = {
            "uuid": self._saved[part.begins],
            "branch": part.segment.branch,
            "reason": part.segment.reason.value,
        }
        yield from self._do(GO_BACK, arguments)

    def _reach(self, step: int) -> _Script:
        if self._steering.step < step:
            yield from self._do(CommandName.RESUME_TRAINING, {})
        while self._steering.step < step:
            yield None

    def _do(self, name: str, arguments: Mapping[str, Any]) -> Generator[Delivery | None, None, Report]:
        command = Command(command=name, arguments=dict(arguments), author=AUTHOR)
        self._own.add(command.uuid)
        yield Delivery(command, 0)
        while command.uuid not in self._reports:
            yield None
        report = self._reports.pop(command.uuid)
        if report.outcome is not Outcome.SUCCESS:
            self.failed.append((command, report))
            logger.error("replay: %s was %s: %s", name, report.outcome, report.reason)
        return report


class GoBackArguments(Arguments):
    """A checkpoint of this run, and the branch and reason of the segment that begins there."""

    uuid: str = Field(max_length=128)
    branch: str = Field(max_length=64)
    reason: StartReason = StartReason.RESUME


def go_back(steering: Steering, arguments: GoBackArguments) -> Plan:
    """Go on from a checkpoint, on a branch that may be there already, as after a death."""
    try:
        checkpoint = steering.checkpoints.find(arguments.uuid)
    except TrainerError as error:
        raise CommandRejected(str(error)) from error

    def apply() -> Later:
        start = Start.at(checkpoint, arguments.reason, arguments.branch)
        steering.leave(Departure(Leave.ELSEWHERE, f"went to step {checkpoint.card.step}", start))
        return Later()

    return Plan(apply, after={"branch": arguments.branch, "step": checkpoint.card.step})


def register() -> None:
    """Let trainers that replay take what only a replay needs."""
    register_command(GO_BACK, GoBackArguments, go_back, summary="Go on from a checkpoint", kind=CommandKind.RESTORE)


def _anew(later: Segment, segment: Segment) -> bool:
    return later.parent is not None and later.parent.segment == segment.id and not later.parent.checkpoint


def _beginning(segment: Segment, segments: Iterable[Segment]) -> tuple[str, int] | None:
    """The segment and step whose state this one begins with; None: nothing, or a checkpoint of another run."""
    by_id = {each.id: each for each in segments}
    fork = segment.parent
    while fork is not None and fork.segment is not None and not fork.checkpoint:
        fork = by_id[fork.segment].parent
    return None if fork is None or fork.segment is None else (fork.segment, fork.step)


def _led_to(segment: Segment, before: Segment, done: Sequence[Intervention]) -> bool:
    """Whether the last thing that was done to `before` began this segment."""
    parent = segment.parent
    follows = parent is not None and parent.segment == before.id
    return follows and bool(done) and LEADS_ON.get(done[-1].command) == segment.note


def _cues(
    done: Sequence[Intervention], forks: Sequence[Fork], known: Mapping[str, Checkpoint], leads_on: bool
) -> tuple[Cue, ...]:
    """What is done to a segment, with a save where others begin: after the commands that its state held, before the
    others of that step."""
    cues: list[Cue] = []
    wanted = {fork.step: fork for fork in forks}
    for number, each in enumerate(done):
        fork = wanted.get(each.step)
        for step in sorted(step for step in wanted if step < each.step):
            cues.append(Cue(step, SAVE, keeps=True))
            del wanted[step]
        if fork is not None and each.step in wanted and _comes_after(each, known.get(fork.checkpoint)):
            cues.append(Cue(each.step, SAVE, keeps=True))
            del wanted[each.step]
        failed = each.command == DATA and not (leads_on and number == len(done) - 1)
        if each.command not in LEFT_OUT and not failed:
            cues.append(Cue(each.step, each.command, each.arguments))
    return (*cues, *(Cue(step, SAVE, keeps=True) for step in sorted(wanted)))


def _comes_after(done: Intervention, saved: Checkpoint | None) -> bool:
    """Whether a command was carried out after a checkpoint of its step was saved."""
    if saved is not None:
        return done.number > saved.card.revision
    return True  # one that retention has deleted was most likely saved by itself, which comes first
