"""One arm of a study: a training on a control server, with an agent beside it or without."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from auth import Scope, TokenStore
from control import ControlClient, ControlSettings, EventType
from control.agents import Agents, AgentSettings, Policy
from control.server import ControlThread
from examples.studies.language import model, rows
from trainer import InteractiveSettings, make_interactive
from trainer.settings import Every

PATIENCE = 1800.0
"""Seconds that a training waits for an agent that is to look at a step, before it goes on without."""


@dataclass(frozen=True)
class Arm:
    """How a training is set up. `pace`: every so many steps it waits until the agent has looked (the paper: each)."""

    name: str
    rate: float
    schedule: str
    policy: Policy | None = None
    settings: AgentSettings = field(default_factory=AgentSettings)
    pace: int | None = None


@dataclass(frozen=True)
class Intervention:
    """A command that an agent sent."""

    step: int
    author: str
    command: str
    arguments: dict[str, Any]
    outcome: str
    why: str


@dataclass(frozen=True)
class Course:
    """What became of one arm with one seed. Losses and rates by step, validation losses every `evaluate_every` steps."""

    arm: str
    seed: int
    losses: tuple[tuple[int, float | None], ...]
    rates: tuple[tuple[int, float | None], ...]
    validation: tuple[tuple[int, float | None], ...]
    interventions: tuple[Intervention, ...]
    answers: tuple[dict[str, Any], ...]
    seconds: float

    @property
    def final(self) -> float:
        """The last validation loss; infinite where training fell apart."""
        value = self.validation[-1][1] if self.validation else None
        return float("inf") if value is None else value


class Bench:
    """A control server on which all arms of a study are runs."""

    def __init__(self, folder: Path, steps: int, batch: int, evaluate_every: int = 20) -> None:
        self.steps, self._batch, self._every = steps, batch, evaluate_every
        self._folder = folder
        tokens = TokenStore(folder / "tokens.json")
        self._token = tokens.mint("study", [Scope.OPERATE])
        self._server = ControlThread(ControlSettings(port=0, data=folder / "control"), tokens).start()
        self._client = ControlClient(self._server.url, self._token)
        self._train, self._validate = rows()

    def close(self) -> None:
        """End the server."""
        self._client.close()
        self._server.stop()

    def run(self, arm: Arm, seed: int) -> Course:
        """Train one arm."""
        name = f"{arm.name}-{seed}".replace(" ", "-")
        trainer = self._trainer(arm, seed, name)
        began = time.monotonic()
        agents = None
        if arm.policy is not None:
            agents = Agents(self._server.url, self._token, name, {"agent": (arm.policy, arm.settings)})
            agents.start()
            if arm.pace is not None:
                trainer.add_callback(Pace(agents, arm.pace))
        try:
            trainer.train()
        finally:
            if agents is not None:
                agents.close()
        return self._course(arm, seed, name, time.monotonic() - began)

    def _trainer(self, arm: Arm, seed: int, name: str) -> Any:
        arguments = TrainingArguments(
            output_dir=str(self._folder / name),
            max_steps=self.steps,
            per_device_train_batch_size=self._batch,
            per_device_eval_batch_size=64,
            learning_rate=arm.rate,
            lr_scheduler_type=arm.schedule,
            eval_strategy="steps",
            eval_steps=self._every,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
            data_seed=seed,
        )
        trainer = make_interactive(Trainer)(
            model=model(seed),
            args=arguments,
            train_dataset=self._train,
            eval_dataset=self._validate,
            control=InteractiveSettings(
                url=self._server.url, token=SecretStr(self._token), run=name, checkpoint=Every(steps=100)
            ),
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _course(self, arm: Arm, seed: int, name: str, seconds: float) -> Course:
        """From the server's record, as anybody could have it."""
        branch = self._client.run(name).branch
        pages = self._client.series(name, ["loss", "learning_rate", "eval_loss"], points=5_000, lineage=True).series
        series = {
            page.metric: tuple(zip(page.steps, page.mean, strict=True)) for page in pages if page.branch == branch
        }
        sent = reversed(self._client.commands(name, limit=500).commands)
        interventions = tuple(
            Intervention(
                record.takes_effect_at or record.step or 0,
                record.author,
                record.command,
                dict(record.arguments),
                record.outcome.value if record.outcome else "open",
                record.note,
            )
            for record in sent
            if not record.dry_run and ":" in record.author
        )
        told = self._client.history(run=name, types=[EventType.AGENT], limit=500).events
        return Course(
            arm.name,
            seed,
            series.get("loss", ()),
            series.get("learning_rate", ()),
            series.get("eval_loss", ()),
            interventions,
            tuple({"step": event.step, **event.body} for event in told),
            seconds,
        )


class Pace(TrainerCallback):
    """Lets training wait for its agent, as the paper's does at each step; a bounded time.

    Where the agent waits for a command of its own, training goes on, and it is asked again after the next step.
    """

    def __init__(self, agents: Agents, every: int) -> None:
        self._agents, self._every = agents, every
        self._due = every

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until the agent has looked at this step."""
        step = state.global_step
        if step >= self._due and self._agents.look("agent", step, PATIENCE):
            self._due = step + self._every


@contextmanager
def bench(steps: int, batch: int) -> Iterator[Bench]:
    """A bench in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="stovetop-study-") as folder:
        made = Bench(Path(folder), steps, batch)
        try:
            yield made
        finally:
            made.close()
