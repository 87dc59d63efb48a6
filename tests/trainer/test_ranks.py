"""Two ranks over gloo: commands act on both at the same step, and neither waits for a rank without data."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback

from control import ControlClient, Outcome, RunStatus
from ingest import LogWriter
from tests.forks import Forked
from tests.trainer.livedata import key, mixture, open_log, post
from tests.trainer.lives import PRELOAD
from tests.trainer.trainings import Sentences, arguments, gpt2
from tests.waiting import until
from trainer import Checkpoints, EmaSettings, InteractiveSettings, RunFolder, make_interactive, trained_along


class Remembers(TrainerCallback):
    """Writes down what this rank has done."""

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.rates[state.global_step + 1] = given["optimizer"].param_groups[0]["lr"]


def train(rank: int, world: int, port: int, folder: Path, log: Path, given: Mapping[str, Any]) -> None:
    """What one rank does."""
    import torch.distributed as dist

    sys.stdout = sys.stderr = (folder / f"rank-{rank}.txt").open("a")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update(address | {name: str(value) for name, value in ranks.items()} if world > 1 else {})
    more = {"ddp_backend": "gloo", "gradient_accumulation_steps": 2} if world > 1 else {}
    remembers = Remembers()
    model = gpt2(dropout=0.0)
    trainer = make_interactive(Trainer)(
        model=model,
        args=arguments(folder, lr_scheduler_type="constant", **({"max_steps": 100_000} | more)),
        train_dataset=mixture(open_log(log), given.get("weights")),
        eval_dataset=Sentences(8),
        callbacks=[remembers],
        control=InteractiveSettings(
            folder=folder / "run", run="ranks", serve=False, ema=EmaSettings(), **given.get("settings", {})
        ),
    )
    trainer.train(resume_from_checkpoint=bool(given.get("resume")))
    total = float(sum(parameter.detach().double().sum() for parameter in model.parameters()))
    told = {"step": trainer.state.global_step, "rates": remembers.rates, "total": total}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()  # else the interpreter may abort at exit, with the work done


class Ranks:
    """Several ranks of one training, as processes."""

    def __init__(self, folder: Path, log: Path, world: int = 2, **given: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self._world = folder, world
        folder.mkdir(exist_ok=True)
        self._processes = [Forked(PRELOAD, train, rank, world, port, folder, log, given) for rank in range(world)]
        for process in self._processes:
            process.start()

    def end(self) -> list[dict[str, Any]]:
        """Wait for all; what each has told."""
        for process in self._processes:
            process.join(100)
        said = [(self.folder / f"rank-{rank}.txt").read_text()[-3000:] for rank in range(self._world)]
        assert [process.exitcode for process in self._processes] == [0] * self._world, "\n".join(said)
        return [json.loads((self.folder / f"told-{rank}.json").read_text()) for rank in range(self._world)]

    def close(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogWriter]:
    writer = open_log(tmp_path / "log").writer("annotator")
    yield writer
    writer.close()


@pytest.fixture
def ranks(tmp_path: Path, client: ControlClient) -> Iterator[Callable[..., Ranks]]:
    started: list[Ranks] = []

    def start(**given: Any) -> Ranks:
        settings = {"url": client.url, "token": client._token, **given.pop("settings", {})}
        started.append(Ranks(tmp_path / "ranks", tmp_path / "log", settings=settings, **given))
        return started[-1]

    yield start
    for each in started:
        each.close()


def at_least(client: ControlClient, step: int) -> Callable[[], bool]:
    """Whether the run has come so far."""

    def come() -> bool:
        runs = client.runs().runs
        return bool(runs) and (runs[0].step or 0) >= step

    return come


@pytest.mark.timeout(300)
def test_commands_act_on_both_ranks_at_the_same_step(
    client: ControlClient, ranks: Callable[..., Ranks], writer: LogWriter, tmp_path: Path
) -> None:
    post(writer, range(20_000))
    both = ranks()
    until(at_least(client, 2))

    def done(command: str, **arguments: Any) -> Any:
        record = client.send(command, arguments, run="ranks")
        assert record.outcome is Outcome.SUCCESS, record
        return record

    slowed = done("update_optimizer", lr={"scale": 0.5})
    mixed = done("update_dataset_runtime_hyperparameters", weights={"base": 3})
    assert mixed.step == mixed.takes_effect_at
    paused = done("pause_training")
    saved = done("save_checkpoint")
    assert done("do_evaluate").after["eval_loss"] > 0
    assert client.send("load_checkpoint", {"uuid": "nobody"}, run="ranks").outcome is Outcome.REJECTED
    assert client.run("ranks").step == paused.step == saved.after["step"]
    done("load_checkpoint", uuid=saved.after["uuid"], branch_name="b", save_first=False)
    done("resume_training")
    until(at_least(client, paused.step + 3))
    done("stop_training", save=True)

    first, second = both.end()
    assert first["step"] == second["step"]
    assert first["rates"] == second["rates"]
    assert first["total"] == second["total"]
    rates = {int(step): rate for step, rate in first["rates"].items()}
    assert next(step for step, rate in rates.items() if rate == 5e-4) == slowed.takes_effect_at
    # each live sample was read by one rank, once along the branch, and each step is whole on both
    folder = RunFolder(tmp_path / "ranks" / "run")
    keys = [each for _, entry in trained_along(folder) for each in entry.keys.get("live", [])]
    assert len(keys) == len(set(keys)) > 0
    newest = Checkpoints(folder).latest()
    assert newest is not None
    assert newest.checkpoint is not None
    assert len(newest.checkpoint.mixtures()) == 2
    assert {"rng_state_0.pth", "rng_state_1.pth", "ema.safetensors"} <= set(newest.checkpoint.card.files)


@pytest.mark.timeout(300)
def test_a_rank_without_data_does_not_hang_the_other_and_one_rank_goes_on_alone(
    client: ControlClient, ranks: Callable[..., Ranks], writer: LogWriter, tmp_path: Path
) -> None:
    # both partitions have data for two steps; then only one has more
    post(writer, range(32))
    post(writer, range(33, 80, 2))
    both = ranks(weights={"live": 1, "base": 0})
    until(at_least(client, 2))
    slowed = client.send("update_optimizer", {"lr": {"scale": 0.5}}, run="ranks")
    assert (slowed.outcome, slowed.step) == (Outcome.SUCCESS, 2)
    paused = client.send("pause_training", run="ranks")
    assert paused.outcome is Outcome.SUCCESS
    assert client.run("ranks").status is RunStatus.PAUSED
    assert client.send("resume_training", run="ranks").outcome is Outcome.SUCCESS
    change = client.send("update_dataset_runtime_hyperparameters", {"weights": {"base": 1, "live": 0}}, run="ranks")
    # the rank with data holds a batch of step 3 on the old weights, and is believed only when none was left
    assert (change.outcome, change.step) == (Outcome.SUCCESS, 4)
    assert client.send("stop_training", {"save": True}, run="ranks").outcome is Outcome.SUCCESS
    first, second = both.end()
    assert first["step"] == second["step"]
    assert first["total"] == second["total"]

    post(writer, range(100, 400))
    alone = ranks(world=1, resume=True, weights={"live": 1, "base": 0})
    step = first["step"]
    until(at_least(client, step + 1))
    weights = {"weights": {"base": 0, "live": 1}}
    sent = client.send("update_dataset_runtime_hyperparameters", weights, run="ranks")
    assert sent.outcome is Outcome.SUCCESS
    until(at_least(client, step + 20))
    assert client.send("stop_training", {"save": True}, run="ranks").outcome is Outcome.SUCCESS
    alone.end()
    keys = [
        each for _, entry in trained_along(RunFolder(tmp_path / "ranks" / "run")) for each in entry.keys.get("live", [])
    ]
    assert len(keys) == len(set(keys))
    assert {key(number) for number in range(32)} <= set(keys)
    assert {key(number) for number in range(33, 80, 2)} <= set(keys)
