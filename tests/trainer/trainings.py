"""Small real trainings that the tests of this room steer."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from control import Command, EventType, Report
from tests.trainer.sentences import LENGTH, WORDS, Sentences
from tests.waiting import until
from trainer import InteractiveSettings, MemoryLink, make_interactive

torch.set_num_threads(1)
gc.freeze()  # each train() collects garbage, and would look at everything that was imported each time


def gpt2(dropout: float = 0.1) -> GPT2LMHeadModel:
    """A tiny GPT-2 with weights that are always the same, and dropout, so that randomness matters."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
        loss_type="ForCausalLM",
    )
    return GPT2LMHeadModel(config)


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
    """Does something once, when a step has ended for the first time, before the trainer looks for commands."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action, self.done = step, action, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step and not self.done:
            self.done = True
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
        # ours is the last callback; what a test does comes before it, in the order in which it was asked for
        self.handler = self.trainer.callback_handler
        self._acts = 0

    def at(self, step: int, action: Callable[[], object]) -> None:
        """Do something at the end of a step, just before commands are looked for."""
        self.handler.callbacks.insert(self._acts, At(step, action))
        self._acts += 1

    def on(self, event: str, action: Callable[[int], object]) -> None:
        """Do something with the step at every event of a kind, after the trainer has dealt with it."""
        callback = TrainerCallback()
        setattr(callback, event, lambda args, state, control, **_: action(state.global_step) and None)
        self.handler.callbacks.append(callback)

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

    def paused_after(self, step: int) -> threading.Thread:
        """Train in a thread until it stands paused after a step."""
        sent = self.send_at(step, "pause_training")
        thread = self.in_background()
        until(lambda: bool(sent) and bool(self.link.outcomes(sent[0])))
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
