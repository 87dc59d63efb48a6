"""What it costs a training to be steered and watched, and how soon a command shows.

A step of an `InteractiveTrainer` (control server in a process of its own on another core, health on, one dashboard's
WebSocket connected and reading) by a step of the plain Trainer: the same small GPT-2, the same data, one torch thread,
measured in turns. The allocator keeps what is freed: left to itself it hands the top of the heap back after a step and
takes it again in the next, hundreds of page faults that come and go with whatever lies there. What the imports made is
hidden from the garbage collector, which would look at it in one training and not in the next. Beside the time of a step
stands what the process did in it (processor time, page faults): on a machine that others use too, this is what is its own.

Pairs add up: with `--keep FILE`, those that earlier calls put there count too.

A command's delay runs from the client's request to the optimizer step that first used its value; the
step that was under way at the request cannot show it, so the best there is is the next one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from auth import Scope, TokenStore
from benchmarks.pairs import ratio
from benchmarks.result import Result, Target
from control import ControlClient, ControlSettings, Outcome
from control.server import ControlThread
from trainer import InteractiveSettings, make_interactive

TARGETS = (
    Target("step_time_ratio", "<=", 1.01),
    Target("command_steps_p50", "<=", 1),
)
KINDS = ("plain", "interactive")
WARM_UP = 10
WORDS, LENGTH = 256, 64


class Words(Dataset[dict[str, torch.Tensor]]):
    """Rows of made-up words, without an end that matters."""

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(LENGTH) * (index % 61 + 1)) % WORDS
        return {"input_ids": words, "labels": words}


@dataclass(frozen=True)
class Cost:
    """What a step took on average: seconds, those of the processor in all threads of the process, and page faults."""

    seconds: float
    processor: float
    faults: float


Pair = Mapping[str, Cost]
"""What was measured side by side, by kind."""


class Watch(TrainerCallback):
    """When each step began, and at which rate it was taken."""

    def __init__(self) -> None:
        self.begins: list[tuple[float, float, int]] = []
        self.rates: list[tuple[int, float, float]] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.rates.append((state.global_step + 1, given["optimizer"].param_groups[0]["lr"], time.perf_counter()))

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self.begins.append((time.perf_counter(), time.process_time(), faults))

    @property
    def cost(self) -> Cost:
        """A step's, from the begin of one to the begin of the next, the first ones left out."""
        return Cost(*(float(mean) for mean in np.diff(self.begins[WARM_UP:], axis=0).mean(axis=0)))


def model() -> GPT2LMHeadModel:
    """Steps of some dozens of milliseconds on one core."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_positions=LENGTH,
            n_embd=128,
            n_layer=4,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
            loss_type="ForCausalLM",
        )
    )


def arguments(folder: Path, steps: int) -> TrainingArguments:
    """The same for both; the plain Trainer logs nothing meanwhile."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )


def serve(folder: Path, answers: Connection) -> None:
    """The server's process, with a dashboard that reads everything."""
    _stay_on(1)
    tokens = TokenStore(folder / "tokens.json")
    secret = tokens.mint("bench", [Scope.OPERATE])
    with ControlThread(ControlSettings(port=0, data=folder / "control", commands_per_minute=100_000), tokens) as server:
        answers.send((server.url, secret))
        client = ControlClient(server.url, secret)
        seen = 0

        def look() -> None:
            nonlocal seen
            for _ in client.events(0):
                seen += 1

        threading.Thread(target=look, daemon=True).start()
        answers.recv()
        answers.send(seen)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, str, Connection]]:
    """A server in a process of its own; yields its address, a token and the line to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, theirs), daemon=True)
    process.start()
    url, secret = ours.recv()
    try:
        yield url, secret, ours
    finally:
        process.terminate()
        process.join()


def run(rounds: int, steps: int, commands: int, keep: Path | None = None) -> Result:
    """Both parts."""
    result = Result("trainer", TARGETS)
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    _keep_memory()
    pairs = _kept(keep) if keep is not None and keep.exists() else []
    with tempfile.TemporaryDirectory() as place, server(Path(place)) as (url, secret, line):
        folder = Path(place)
        for number in range(rounds + 1):
            order = KINDS if number % 2 else KINDS[::-1]
            long = steps if number else 2 * WARM_UP  # the first round warms up what is imported and compiled late
            costs = {kind: _train(kind, folder / f"{kind}-{number}", long, url, secret).cost for kind in order}
            if not number:
                gc.freeze()
                continue
            pairs.append(costs)
            if keep is not None:
                keep.write_text(json.dumps([{kind: asdict(cost) for kind, cost in pair.items()} for pair in pairs]))
        if pairs:
            _compare(result, pairs)
        if commands:
            _delays(result, folder, commands, url, secret)
        line.send(None)
        result.note(events_seen_by_dashboard=float(line.recv()))
    result.remark(step_time_ratio=f"{len(pairs)} pairs of {steps - WARM_UP} steps each, 95 % interval by bootstrap")
    return result


def _kept(file: Path) -> list[Pair]:
    """The pairs of earlier calls."""
    return [{kind: Cost(**cost) for kind, cost in pair.items()} for pair in json.loads(file.read_text())]


def _compare(result: Result, pairs: Sequence[Pair]) -> None:
    """The cost of steps by kind, and their ratios."""
    costs = {kind: [pair[kind] for pair in pairs] for kind in KINDS}
    for kind, found in costs.items():
        middle = {name: float(np.median([getattr(cost, name) for cost in found])) for name in Cost.__annotations__}
        result.note(
            **{
                f"{kind}_step_ms": 1e3 * middle["seconds"],
                f"{kind}_step_processor_ms": 1e3 * middle["processor"],
                f"{kind}_step_page_faults": middle["faults"],
            }
        )
    for name, field in (("step_time_ratio", "seconds"), ("step_processor_ratio", "processor")):
        compared = ratio(*([getattr(cost, field) for cost in costs[kind]] for kind in reversed(KINDS)))
        result.note(**{name: compared.mean, f"{name}_low": compared.low, f"{name}_high": compared.high})


def _train(kind: str, folder: Path, steps: int, url: str, secret: str) -> Watch:
    watch = Watch()
    given: dict[str, Any] = {
        "model": model(),
        "args": arguments(folder, steps),
        "train_dataset": Words(),
        "callbacks": [watch],
    }
    if kind == "plain":
        trainer: Any = Trainer(**given)
    else:
        control = InteractiveSettings.model_validate({"url": url, "token": secret, "run": folder.name})
        trainer = make_interactive(Trainer)(**given, control=control)
    gc.collect()  # what the one before left is not this one's to clear away
    trainer.train()
    return watch


def _delays(result: Result, folder: Path, commands: int, url: str, secret: str) -> None:
    """Rates set one after the other, each with a value of its own, at moments that no step knows of."""
    watch = Watch()
    control = InteractiveSettings.model_validate({"url": url, "token": secret, "run": "delays"})
    trainer: Any = make_interactive(Trainer)(
        model=model(),
        args=arguments(folder / "delays", 1_000_000),
        train_dataset=Words(),
        callbacks=[watch],
        control=control,
    )
    asked: list[tuple[float, int, float]] = []

    def ask() -> None:
        with ControlClient(url, secret) as client:
            while len(watch.rates) < WARM_UP:
                time.sleep(0.01)
            pauses = np.random.default_rng(0).uniform(0.0, 0.05, commands)
            for number in range(commands):
                value = 1e-4 + 1e-8 * (number + 1)
                asked.append((time.perf_counter(), int(trainer.state.global_step) + 1, value))
                record = client.send("update_optimizer", {"lr": {"value": value}}, run="delays")
                assert record.outcome is Outcome.SUCCESS, record
                time.sleep(pauses[number])
            client.send("stop_training", {"save": False}, run="delays")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    trainer.train()
    asking.join(60)
    steps, seconds = [], []
    for began, under_way, value in asked:
        shown = next(((step, when) for step, rate, when in watch.rates if abs(rate - value) < 1e-10), None)
        if shown is not None:  # the last one may have been followed by the stop
            steps.append(shown[0] - under_way)
            seconds.append(shown[1] - began)
    result.note(
        commands=float(len(steps)),
        command_steps_p50=float(np.quantile(steps, 0.5)),
        command_steps_p99=float(np.quantile(steps, 0.99)),
        command_ms_p50=1e3 * float(np.quantile(seconds, 0.5)),
        command_ms_p99=1e3 * float(np.quantile(seconds, 0.99)),
    )


def _keep_memory() -> None:
    """Let no step pay for pages that the one before gave back (glibc's `mallopt`; elsewhere nothing is done)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_max, 0)


def _stay_on(core: int) -> None:
    """Keep this process to one core; the training has one torch thread and goes where the system puts it."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of trainings")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--commands", type=int, default=100, help="of which the delay is taken; 0: none")
    parser.add_argument("--keep", type=Path, help="a file of pairs, to which those of this call are added")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    run(given.rounds, given.steps, given.commands, given.keep).show(as_json=given.json)


if __name__ == "__main__":
    main()
