"""A trainer that trains nothing: it speaks the whole protocol of one, and its losses fall as losses do.

The browser tests steer it. Figures depend on what it was told (the loss on the learning rate, the shares on the
weights), so that a page on which they move shows that commands arrived.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from control import (
    ActorConnection,
    ActorKind,
    Command,
    CommandName,
    Delivery,
    EventType,
    Outcome,
    Report,
    RunStatus,
    Status,
)
from control.bodies import (
    BranchBody,
    CheckpointBody,
    HealthBody,
    LogBody,
    MixtureBody,
    MixtureSource,
    RunBody,
    StateKey,
    VersionBody,
)
from tests.browser.pretend_commands import MODEL, SHAKE, specs

BATCH = 32
MIXTURE_EVERY = 5
SHOWS_AFTER = 3
"""Steps from a change of the mixture to the batch that shows it."""


@dataclass
class Knobs:
    """What can be turned."""

    lr: float = 1e-3
    optimizer: dict[str, Any] = field(
        default_factory=lambda: {"betas": [0.9, 0.999], "weight_decay": 0.01, "eps": 1e-8, "max_grad_norm": 1.0}
    )
    weights: dict[str, float] = field(default_factory=lambda: {"base": 0.5, "history": 0.2, "live": 0.3})
    weights_version: int = 0


@dataclass(frozen=True)
class Saved:
    """A checkpoint."""

    uuid: str
    step: int
    branch: str
    segment: str
    skill: float


class PretendTrainer:
    """Trains at `pace` seconds a step in a thread of its own, until it is stopped or closed."""

    def __init__(self, url: str, token: str, run: str = "desktop", pace: float = 0.08) -> None:
        self.pace = pace
        self.knobs = Knobs()
        self.step = 0
        self.status = RunStatus.STARTING
        self.obeyed: list[Command] = []
        self.branch, self._segment = "main", "s1"
        self._skill = 0.0
        self._versions = 0
        self._saved: dict[str, Saved] = {}
        self._later: list[tuple[int, Command, Any, Any]] = []
        self._random = random.Random(7)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._train, name="pretend trainer", daemon=True)
        self.line = ActorConnection(
            url,
            token,
            run=run,
            actor="trainer",
            kind=ActorKind.TRAINER.value,
            commands=specs(),
            state={
                StateKey.INFO.value: {"run_name": run, "start_time": time.time()},
                StateKey.OPTIMIZER.value: self._optimizer(),
                StateKey.MODEL.value: MODEL,
            },
        )

    def start(self, history: int = 0) -> PretendTrainer:
        """Connect and train; `history` steps are done at once, before the first one at its pace."""
        self.line.start(wait=10)
        self.line.tell(EventType.BRANCH, BranchBody(segment=self._segment, reason="fresh"))
        self._become(RunStatus.RUNNING)
        for _ in range(history):
            self._one_step()
        self._thread.start()
        return self

    def close(self) -> None:
        """Go away."""
        self._ending.set()
        self._thread.join(5)
        self.line.close("the test is over")

    def warn(self, message: str) -> None:
        """A warning of training."""
        self.line.tell(
            EventType.HEALTH,
            HealthBody(check="spike", message=message),
            step=self.step,
            branch=self.branch,
            level="warning",
        )

    def suspect(self, layer: str) -> None:
        """A finding about one layer."""
        content = HealthBody(check="dead_units", message=f"40 % of {layer} never fire", layer=layer, value=0.4)
        self.line.tell(EventType.HEALTH, content, step=self.step, branch=self.branch, level="warning")

    def received(self, name: str) -> list[dict[str, Any]]:
        """The arguments of the commands of that name that arrived."""
        return [dict(command.arguments) for command in self.obeyed if command.command == name]

    # The loop

    def _train(self) -> None:
        while not self._ending.is_set():
            paused = self.status is not RunStatus.RUNNING
            for delivery in self.line.wait(0.05) if paused else self.line.commands():
                self._obey(delivery)
            if self.status is RunStatus.RUNNING:
                self._one_step()
                self._ending.wait(self.pace)

    def _one_step(self) -> None:
        self.step += 1
        self._skill += min(self.knobs.lr, 0.01) * 4
        noise = self._random.gauss(0, 0.06)
        loss = (0.08 + 2.4 * math.exp(-self._skill)) * math.exp(noise)
        hardness = {"base": 0.8, "history": 1.0, "live": 1.45}
        numbers = {
            "loss": loss,
            "learning_rate": self.knobs.lr,
            "grad_norm": 0.3 + loss * abs(1 + 2 * noise),
            "step_seconds": self.pace * math.exp(noise),
            "samples": BATCH,
        }
        numbers |= {
            f"loss/{s}": loss * hardness.get(s, 1.0) * (1 + self._random.gauss(0, 0.05)) for s in self.knobs.weights
        }
        self.line.tell(EventType.METRICS, numbers, step=self.step, branch=self.branch)
        if self.step % MIXTURE_EVERY == 0:
            self._tell_mixture()
        due = [entry for entry in self._later if entry[0] <= self.step]
        self._later = [entry for entry in self._later if entry[0] > self.step]
        for _, command, before, after in due:
            self._done(command, before, after, takes_effect_at=self.step)

    def _tell_mixture(self) -> None:
        total = sum(self.knobs.weights.values()) or 1.0
        sources = {}
        for name, weight in self.knobs.weights.items():
            share = weight / total
            seen = max(0.0, share + self._random.gauss(0, 0.012)) if share else 0.0
            sources[name] = MixtureSource(
                weight=weight,
                share=share,
                seen=seen,
                samples=round(seen * 2000),
                lag_seconds=self._random.uniform(4, 7) if name == "live" else None,
                dry=False,
                samples_per_second=seen * BATCH / self.pace,
                repeats=self.step // 9 if name != "live" else 0,
                lag=self._random.randint(0, 40) if name == "live" else -1,
            )
        self.line.tell(
            EventType.MIXTURE,
            MixtureBody(version=self.knobs.weights_version, sources=sources),
            step=self.step,
            branch=self.branch,
        )

    # Commands

    def _obey(self, delivery: Delivery) -> None:
        command = delivery.command
        self.obeyed.append(command)
        if command.dry_run:
            self._done(command, None, None)
            return
        self.line.report(Report(uuid=command.uuid, status=Status.RUNNING, step=self.step))
        handlers: dict[str, Callable[[Command], None]] = {
            CommandName.UPDATE_OPTIMIZER: self._turn_optimizer,
            CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS: self._turn_mixture,
            CommandName.SAVE_CHECKPOINT: self._save,
            CommandName.LOAD_CHECKPOINT: self._load,
            CommandName.DO_EVALUATE: self._evaluate,
            CommandName.PUBLISH_CHECKPOINT: self._publish,
            CommandName.PROMOTE_VERSION: self._move,
            CommandName.ROLLBACK_VERSION: self._move,
            CommandName.PIN_VERSION: self._move,
            CommandName.RELEASE_CHANNEL: self._move,
            CommandName.MODEL_LAYER_OPERATION: lambda command: self._done(command, None, None),
            SHAKE: lambda command: self._done(command, None, None),
        }
        becomes: dict[str, RunStatus] = {
            CommandName.PAUSE_TRAINING: RunStatus.PAUSED,
            CommandName.RESUME_TRAINING: RunStatus.RUNNING,
            CommandName.STOP_TRAINING: RunStatus.STOPPED,
        }
        status = becomes.get(command.command)
        if status is not None:
            before = self.status.value
            self._become(status)
            self._done(command, before, status.value)
        else:
            handlers[command.command](command)

    def _turn_optimizer(self, command: Command) -> None:
        before = self._optimizer()
        for name, value in command.arguments.items():
            if name == "lr":
                self.knobs.lr = value.get("value") or self.knobs.lr * value["scale"]
            else:
                self.knobs.optimizer[name] = value
        self.line.set_state(optimizer=self._optimizer())
        self._done(command, before, self._optimizer(), takes_effect_at=self.step + 1)

    def _turn_mixture(self, command: Command) -> None:
        before = {"weights": dict(self.knobs.weights)}
        self.knobs.weights |= command.arguments["weights"]
        self.knobs.weights_version += 1
        after = {"weights": dict(self.knobs.weights)}
        if self.status is RunStatus.RUNNING:
            self._later.append((self.step + SHOWS_AFTER, command, before, after))
            return
        self._tell_mixture()
        self._done(command, before, after, takes_effect_at=self.step + 1)

    def _save(self, command: Command) -> None:
        saved = Saved(
            f"c{len(self._saved) + 1:03d}-{self._segment}", self.step, self.branch, self._segment, self._skill
        )
        self._saved[saved.uuid] = saved
        content = CheckpointBody(
            uuid=saved.uuid, segment=saved.segment, path=f"/run/{saved.uuid}", bytes=21_600_000, reason="command"
        )
        self.line.tell(EventType.CHECKPOINT, content, step=self.step, branch=self.branch)
        self._done(command, None, {"uuid": saved.uuid, "step": saved.step})

    def _load(self, command: Command) -> None:
        saved = self._saved.get(command.arguments["uuid"])
        if saved is None:
            reason = f"no checkpoint has the uuid {command.arguments['uuid']!r}"
            self.line.report(Report(uuid=command.uuid, status=Status.FAILED, outcome=Outcome.REJECTED, reason=reason))
            return
        self.step, self._skill = saved.step, saved.skill
        self.branch = command.arguments.get("branch_name") or f"{saved.branch}-{len(self._saved)}"
        self._segment = f"{self._segment}+"
        content = BranchBody(
            segment=self._segment, parent=saved.segment, forked_at=saved.step, checkpoint=saved.uuid, reason="load"
        )
        self.line.tell(EventType.BRANCH, content, branch=self.branch)
        self._done(command, None, {"branch": self.branch, "step": saved.step}, takes_effect_at=saved.step + 1)

    def _evaluate(self, command: Command) -> None:
        loss = 0.07 + 2.2 * math.exp(-self._skill)
        self.line.tell(EventType.EVALUATION, {"eval/loss": loss}, step=self.step, branch=self.branch)
        self._done(command, None, {"eval/loss": loss})

    def _publish(self, command: Command) -> None:
        self._versions += 1
        channel = command.arguments.get("channel") or "stable"
        content = VersionBody(
            version=self._versions,
            action="published",
            channel=channel,
            segment=self._segment,
            bytes=7_300_000,
            parent=self._versions - 1 or None,
            evaluation={"eval_loss": 0.07 + 2.2 * math.exp(-self._skill)},
        )
        self.line.tell(EventType.VERSION, content, step=self.step, branch=self.branch)
        self._done(command, None, {"version": self._versions})

    def _move(self, command: Command) -> None:
        back = command.command == CommandName.ROLLBACK_VERSION
        version = command.arguments.get("version") or (max(1, self._versions - 1) if back else self._versions)
        actions: dict[str, Any] = {
            CommandName.PROMOTE_VERSION: "promoted",
            CommandName.ROLLBACK_VERSION: "rolled_back",
            CommandName.PIN_VERSION: "pinned",
            CommandName.RELEASE_CHANNEL: "released",
        }
        content = VersionBody(
            version=version,
            action=actions[command.command],
            channel=command.arguments.get("channel", "stable"),
            held=back or command.command == CommandName.PIN_VERSION,
        )
        self.line.tell(EventType.VERSION, content, branch=self.branch)
        self._done(command, None, {"version": version})

    # What it says

    def _become(self, status: RunStatus) -> None:
        self.status = status
        self.line.tell(EventType.RUN, RunBody(status=status), step=self.step, branch=self.branch)
        self.line.tell(EventType.LOG, LogBody(message=f"now {status.value}"), step=self.step, branch=self.branch)

    def _done(self, command: Command, before: Any, after: Any, takes_effect_at: int | None = None) -> None:
        self.line.report(
            Report(
                uuid=command.uuid,
                status=Status.SUCCESS,
                outcome=Outcome.SUCCESS,
                step=self.step,
                takes_effect_at=takes_effect_at,
                before=before,
                after=after,
            )
        )

    def _optimizer(self) -> dict[str, Any]:
        return {"lr": self.knobs.lr, "lr_scale": 1.0, **copied(self.knobs.optimizer)}


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that later changes do not reach."""
    return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()}
