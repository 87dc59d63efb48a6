"""Small real trainings that the tests of this room steer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from control import Command, EventType, Report
from trainer import InteractiveSettings, MemoryLink, make_interactive

torch.set_num_threads(1)
WORDS = 32
LENGTH = 8


def gpt2(dropout: float = 0.1) -> GPT2LMHeadModel:
    """A tiny GPT-2 with random weights and dropout, so that randomness matters."""
    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return GPT2LMHeadModel(config)


class Sentences(Dataset[dict[str, torch.Tensor]]):
    """Rows of made-up words, each always the same."""

    def __init__(self, count: int = 64, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(LENGTH) * (index + self.first + 1)) % WORDS
        return {"input_ids": words, "labels": words}


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Arguments of a quiet training on the CPU."""
    settled: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
    }
    return TrainingArguments(**(settled | changes))


class At(TrainerCallback):
    """Does something when a step has ended, before the trainer looks for commands."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            self.action()


class Run:
    """A training with a link in memory, and what it said."""

    def __init__(
        self,
        folder: Path,
        *,
        trainer_class: type = Trainer,
        model: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        settings: dict[str, Any] | None = None,
        trainer: dict[str, Any] | None = None,
        link: Any = None,
        **changes: Any,
    ) -> None:
        self.link = link or MemoryLink()
        self.trainer = make_interactive(trainer_class)(
            model=model if model is not None else gpt2(),
            args=arguments(folder, **changes),
            train_dataset=train_dataset if train_dataset is not None else Sentences(),
            eval_dataset=eval_dataset,
            control=InteractiveSettings(**(settings or {})),
            link=self.link,
            **(trainer or {}),
        )
        # ours is the last callback; what a test does comes before it
        self.handler = self.trainer.callback_handler

    def at(self, step: int, action: Callable[[], object]) -> None:
        """Do something at the end of a step, just before commands are looked for."""
        self.handler.callbacks.insert(0, At(step, action))

    def send_at(self, step: int, name: str, **given: Any) -> list[Command]:
        """Send a command at the end of a step; the list holds it once it was sent."""
        sent: list[Command] = []
        self.at(step, lambda: sent.append(self.link.send(name, **given)))
        return sent

    def train(self, resume: Any = None) -> Any:
        """Train to the end."""
        return self.trainer.train(resume_from_checkpoint=resume)

    def in_background(self, resume: Any = None) -> threading.Thread:
        """Train in a thread; an exception fails the test."""
        thread = threading.Thread(target=self.train, args=(resume,), daemon=True)
        thread.start()
        return thread

    def report(self, sent: list[Command]) -> Report:
        """The one final report of a command."""
        assert len(self.link.outcomes(sent[0])) == 1, self.link.reports
        return self.link.outcome(sent[0])

    def bodies(self, kind: EventType) -> list[dict[str, Any]]:
        """The bodies of all events of a kind."""
        return [event.body for event in self.link.events if event.type is kind]

    def metric(self, name: str, branch: str | None = None) -> dict[int, float]:
        """A metric by step; of one branch, if it is named."""
        found: dict[int, float] = {}
        for event in self.link.events:
            if event.type is EventType.METRICS and name in event.body and (branch is None or event.branch == branch):
                found[event.step or 0] = event.body[name]
        return found

    @property
    def step(self) -> int:
        return int(self.trainer.state.global_step)
