"""What stands between two optimizer steps: commands are served, checkpoints saved, weights handed over, training paused or
left. The training loop stays transformers' own."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from pydantic import TypeAdapter

from control import CommandKind, Delivery, RunStatus
from dataset import InteractiveMixture, Receipt
from publish import Courier, Placed
from trainer.checkpoints import Checkpoint, Checkpoints, Start
from trainer.command import CommandType, Plan, StepDone
from trainer.compat import save_checkpoint
from trainer.desk import Desk
from trainer.ema import Ema
from trainer.errors import CheckpointError
from trainer.health import HealthWatch
from trainer.horizon import Horizon
from trainer.interventions import Intervention, note
from trainer.journal import TrainedJournal
from trainer.kept import KeptSettings
from trainer.layers import Layers
from trainer.link import Link, MemoryLink
from trainer.loop import Loop
from trainer.metrics import StepMeter
from trainer.policy import Routine
from trainer.publishing import hand_over
from trainer.randomness import undisturbed
from trainer.ranks import Ranks
from trainer.reporter import Reporter
from trainer.saving import Saver
from trainer.segments import RunFolder, Segment
from trainer.settings import InteractiveSettings

HEARTBEAT = 0.5
"""Seconds between two looks for commands while training is paused; on several ranks also the pace of their heartbeat."""
IDLE_LOOK = 0.02
"""Seconds between two looks for commands while the loader waits for data."""

_DELIVERED = TypeAdapter(list[Delivery])


class Leave(StrEnum):
    """Why the training loop is left before its end."""

    STOPPED = "stopped"  # by a command
    TERMINATED = "terminated"  # the process is to end; the run goes on with the next one
    ELSEWHERE = "elsewhere"  # to begin again at once from another state


@dataclass(frozen=True)
class Departure:
    """A way out of the training loop. `start` is where training begins again, `fallback` where it goes on should that fail.
    `command` is the uuid of the command that asked for it."""

    why: Leave
    reason: str
    start: Start | None = None
    fallback: Start | None = None
    command: str | None = None


class Steering:
    """Steers one trainer. Handlers of commands get it as their first argument.

    They may read `trainer`, `model`, `step`, `paused`, `segment`, `settings`, `folder`, `checkpoints`, `layers`, `ema`;
    and what their plan applies may call `pause`, `resume`, `leave`, `save`, `evaluate` and `publish`.
    """

    ranks: Ranks
    link: Link

    def __init__(self, trainer: Any, settings: InteractiveSettings, folder: RunFolder, run: str) -> None:
        self.trainer, self.settings, self.folder, self.run = trainer, settings, folder, run
        self.ranks, self.link = Ranks(), MemoryLink()
        self.checkpoints = Checkpoints(folder)
        self.layers = Layers(trainer.model, settings.operations, settings.parameters)
        self.loop = Loop(trainer)
        self.horizon = Horizon(self)
        self.kept = KeptSettings(self)
        self.desk = Desk(self)
        self.reporter = Reporter(self)
        self.saver = Saver(self)
        self.meter = StepMeter(lag=0 if trainer.args.device.type == "cpu" else 1)
        self.journal: TrainedJournal | None = None
        self.ema: Ema | None = None
        self.courier: Courier | None = None
        self.segment: Segment | None = None
        self.leaving: Departure | None = None
        self.paused = False
        self.revision = 0
        self.newest_sample_time: float | None = None
        self.last_evaluation: dict[str, Any] = {}
        self._fresh = False
        self._dropped = False
        self._terminating = False
        self._receipts: list[Receipt] = []
        self._backlog: deque[Delivery] = deque()
        self._saved: Checkpoint | None = None
        self._why_save = "strategy"
        self._last_look = 0.0
        self.routine = Routine(self)
        self.health = HealthWatch(self)

    # For handlers

    @property
    def step(self) -> int:
        """The number of completed optimizer steps."""
        return int(self.trainer.state.global_step)

    @property
    def model(self) -> torch.nn.Module:
        """The model, without what wraps it for training."""
        model: torch.nn.Module = self.trainer.model
        return model

    def pause(self) -> None:
        """Take no further step until `resume`; commands go on being served."""
        if not self.paused:
            self.paused = True
            self.status(RunStatus.PAUSED, f"after step {self.step}")

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
            self.status(RunStatus.RUNNING)

    def leave(self, departure: Departure) -> None:
        """Take no further step, and leave the training loop; the command that does this should return `Later`."""
        self.leaving = replace(departure, command=self.desk.current)
        if departure.why is Leave.ELSEWHERE:
            self.loop.stop_to_begin_again()
        else:
            self.loop.stop()

    def save(self, reason: str) -> Checkpoint:
        """Save a checkpoint now. Raises `CheckpointError` where that fails; training is not touched by it."""
        self._why_save, self._saved = reason, None
        try:
            with self.loop.undisturbed():
                save_checkpoint(self.trainer)
        finally:
            self._why_save = "strategy"
            self.meter.restart_clock()
        if self._saved is None:
            raise CheckpointError(
                f"{type(self.trainer).__name__} saves checkpoints in a way of its own, which is not seen"
            )
        return self._saved

    def evaluate(self) -> dict[str, Any]:
        """Evaluate now, with the averaged weights where there are some; training goes on as if it had not been done."""
        with self.loop.undisturbed(), undisturbed():
            metrics: dict[str, Any] = self.trainer.evaluate()
        self.meter.restart_clock()
        return metrics

    def publish(self, channel: str, command: str = "") -> Future[Placed] | None:
        """Hand the weights as they are now to the publisher; what comes of it, on the main rank."""
        try:
            return hand_over(self, channel, command)
        finally:
            self.routine.publishing.done(self.step)
            self.meter.restart_clock()

    # For the desk and the lifecycle

    def applied(self, delivered: Delivery, kind: CommandType[Any], plan: Plan) -> None:
        """A command was carried out: the state holds it from now on."""
        self.revision = max(self.revision, delivered.number)
        command = delivered.command
        self.kept.applied(kind, command.arguments, plan.undo)
        if self.ranks.main and self.segment is not None:
            done = Intervention(
                self.step, delivered.number, command.uuid, command.command, command.arguments, delivered.again
            )
            note(self.folder.folder_of(self.segment.id), done)
        if kind.kind is not CommandKind.ACTION:
            self.reporter.optimizer()
            self.reporter.dataset()

    def status(self, status: RunStatus, reason: str = "") -> None:
        """Say, and keep, where the run stands."""
        if self.ranks.main:
            self.folder.set_status(self.run, status, reason)
        self.reporter.status(status, reason)

    def terminate(self) -> None:
        """The process is to end: save at the next chance and leave. May be called from a signal handler."""
        self._terminating = True

    def segment_began(self) -> None:
        """Everything is loaded; the first thing before the first step is to look for commands."""
        self._fresh = True
        self._receipts = []
        self.routine = Routine(self)
        self.health.begin()
        self.meter.begin()
        self.meter.restart_clock()

    def refuse_waiting(self, reason: str) -> None:
        """End the commands that never had their turn."""
        for delivered in self._backlog:
            self.desk.refuse(delivered, reason)
        self._backlog.clear()

    def checkpoint_wanted(self, trainer_part: Callable[[], None]) -> None:
        """The Trainer, or a command, wants a checkpoint; see `Saver.write`."""
        try:
            self._saved = self.saver.write(trainer_part, self._why_save)
        finally:
            self.routine.saving.done(self.step)
        self.reporter.saved(self._saved)

    # For the training loop

    @property
    def batch_sources(self) -> tuple[str, ...] | None:
        """The source of each row of the batch that is being trained; None where they are unknown."""
        return self._receipts[-1].sources if self._receipts else None

    def before_fetch(self) -> bool:
        """Before the batches of a step are fetched; False: fetch none, the loop is to be left."""
        if self.leaving is None and (self._fresh or self.paused):
            self._fresh = False
            self._serve(self._exchange()[0])
        self._receipts = []
        self.meter.begin()
        if self.leaving is None:
            self.health.step_begins()
        return self.leaving is None

    def idle(self) -> bool:
        """While the loader waits for data: commands act; False gives up waiting."""
        if self.looks_again():
            self._serve(self._exchange()[0])
        return self.leaving is None

    def looks_again(self) -> bool:
        """Whether it is time to look for commands again while data is waited for."""
        now = time.monotonic()
        if now - self._last_look < IDLE_LOOK:
            return False
        self._last_look = now
        self.routine.tell()
        return True

    def agree_ready(self, ready: bool, ended: bool = False) -> tuple[bool, bool]:
        """One round among ranks that wait for each other's data: whether all are ready, and whether any has ended."""
        commands, (ready_ranks, ended_ranks) = self._exchange(numbers=(ready, ended))
        if ready_ranks < self.ranks.world and not ended_ranks:
            self._serve(commands)
        else:
            self._backlog.extend(commands)
        return ready_ranks == self.ranks.world, bool(ended_ranks)

    def saw_grad_norm(self, norm: Any) -> None:
        """The norm of a whole step's gradient. One that is not finite would make every weight so; it is thrown away.

        Half precision has a scaler that does this, and changes its scale.
        """
        self.meter.grad_norm(norm)
        guarded = self.settings.health.drop_not_finite and self.trainer.accelerator.scaler is None
        if guarded and norm is not None and not math.isfinite(float(norm)):
            self._dropped = True
            for parameter in self.model.parameters():
                parameter.grad = None  # an optimizer leaves such a parameter, and what it remembers of it, alone

    def saw_batch(self, receipt: Receipt) -> None:
        """A batch of the mixture goes into a backward pass."""
        self._receipts.append(receipt)

    def step_ended(self) -> None:
        """After every completed optimizer step, on every rank."""
        skipped = bool(self.trainer.accelerator.optimizer_step_was_skipped)
        self.meter.end(self.step, skipped, self._dropped)
        self.health.step_ended()
        self._book(skipped or self._dropped)
        self._dropped = False
        numbers = self.meter.read()
        due = self.routine.due() if self.ranks.main else (False, False)
        commands, (save, publish, loss) = self._exchange(numbers=(*due, numbers[0].loss if numbers else 0.0))
        for entry in numbers:
            whole = replace(entry, loss=loss / self.ranks.world)
            self.reporter.metrics(whole)
            self.health.numbers(whole)
        if self.desk.waits_for_steps:
            oldest = min((receipt.version for receipt in self._receipts), default=-1)
            self.desk.step_done(StepDone(self.step, self.ranks.least(oldest)))
        self.routine.follow(bool(save), bool(publish))
        self._serve(commands)

    # Within

    def _exchange(self, timeout: float = 0.0, numbers: Sequence[float] = ()) -> tuple[list[Delivery], list[float]]:
        """What has arrived at rank 0, on all; and the sums of some numbers over all ranks, in the same collective."""
        come = list(self.link.wait(timeout) if timeout else self.link.commands()) if self.ranks.main else []
        count, terminating, *totals = self.ranks.total([len(come), self._terminating, *numbers])
        if terminating and self.leaving is None:
            self._terminate()
        if not count or self.ranks.world == 1:
            return come, totals
        text = self.ranks.share(_DELIVERED.dump_json(come).decode())
        return _DELIVERED.validate_json(text), totals

    def _serve(self, commands: Sequence[Delivery]) -> None:
        """Carry commands out, and go on doing so for as long as training is paused."""
        self._backlog.extend(commands)
        waited = bool(commands)
        while True:
            while self._backlog and self.leaving is None:
                self.desk.take(self._backlog.popleft())
            if not self.paused or self.leaving is not None:
                break
            waited = True
            self._backlog.extend(self._exchange(HEARTBEAT)[0])
        if waited:
            self.meter.restart_clock()

    def _book(self, skipped: bool) -> None:
        """What the step trained is consumed, remembered and averaged."""
        dataset = self.trainer.train_dataset
        if self._receipts and isinstance(dataset, InteractiveMixture):
            dataset.complete(self._receipts)
        times = [at for receipt in self._receipts for at in receipt.times if at is not None]
        if times:
            self.newest_sample_time = max(self.newest_sample_time or 0.0, *times)
        if self.journal is not None:
            self.journal.write(self.step, self._receipts)
        if self.ema is not None and not skipped:
            self.ema.update()

    def _terminate(self) -> None:
        try:
            self.save("termination")
        except CheckpointError as error:
            self.reporter.health("checkpoint", str(error), level="error")
        self.leave(Departure(Leave.TERMINATED, "the process was told to end"))
