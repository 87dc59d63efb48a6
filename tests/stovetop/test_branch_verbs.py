"""`branch`, `compare`, `fork` and `replay` against a real server, with a small real training as the app's recipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer
from typer.testing import CliRunner, Result

from auth import TokenStore
from control import ControlClient, ControlSettings, Outcome
from control.server import ControlThread
from stovetop import cli
from stovetop.doors import Doors
from stovetop.roles.train import interactive, made
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings, load_settings
from stovetop.verbs.beside import beside
from tests.trainer.trainings import At, Sentences, arguments, gpt2
from trainer import make_interactive
from trainer.recipe import TrainingContext


def recipe(context: TrainingContext) -> Any:
    """A small language model over data of its own."""
    return make_interactive(Trainer)(
        model=gpt2(),
        args=arguments(context.folder, lr_scheduler_type="constant"),
        train_dataset=Sentences(),
        control=context.control,
    )


class Place:
    """A data folder with a server, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "stovetop.toml"
        self.config.write_text(f'data = "data"\nrun = "first"\napp.recipe = "{__name__}:recipe"\n')
        self.settings: Settings = load_settings(self.config)
        secret = local_token(self.settings, Holder.OPERATOR)
        server = ControlSettings(port=0, data=self.settings.control.data)
        self.server = ControlThread(server, TokenStore(self.settings.tokens)).start()
        Doors(0, "", self.server.url, "", "stable", "").write(self.settings.doors)
        self.client = ControlClient(self.server.url, secret)

    def train(self, *sent: tuple[int, str, dict[str, Any]]) -> None:
        """Train the run; commands come in after a step."""
        settings = beside(self.config, "first")
        trainer = made(settings)[1](interactive(settings).model_copy(update={"starts": True, "outbox": None}))

        def send(name: str, given: dict[str, Any]) -> None:
            if name == "load_checkpoint":
                given = {"uuid": self.client.run("first").checkpoints[-1].uuid, **given}
            record = self.client.send(name, given, run="first", wait=False)
            while self.client.command(record.uuid).command.delivered_to is None:
                time.sleep(0.01)
            time.sleep(0.1)

        for step, name, given in sent:
            act = At(step, lambda name=name, given=given: send(name, given))  # type: ignore[misc]
            trainer.callback_handler.callbacks.insert(0, act)
        trainer.train()

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(cli.app, [*words, "--config", str(self.config)])

    def close(self) -> None:
        self.client.close()
        self.server.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_a_run_is_replayed_compared_and_pruned_from_the_command_line(place: Place) -> None:
    place.train(
        (2, "update_optimizer", {"lr": {"scale": 0.5}}),
        (4, "save_checkpoint", {}),
        (7, "load_checkpoint", {"branch_name": "b", "save_first": False}),
        (9, "update_optimizer", {"max_grad_norm": 0.2}),
    )
    assert all(entry.outcome is Outcome.SUCCESS for entry in place.client.audit("first").entries)
    replayed = place("replay", "first")
    assert replayed.exit_code == 0, replayed.output
    assert "the largest difference of the loss is 0" in replayed.output
    detail = place.client.run("first-replay")
    assert {branch.branch for branch in detail.branches} == {"main", "b"}

    compared = place("compare", "first:b", "first-replay:b")
    assert compared.exit_code == 0
    assert compared.output.count("12") >= 2

    assert place("branch", "rename", "b", "calmer").exit_code == 0
    assert place("branch", "note", "b", "half the rate").exit_code == 0
    listed = place("branch", "list").output
    assert "calmer" in listed
    assert "half the rate" in listed
    kept = place("branch", "delete", "b")
    assert kept.exit_code == 1
    assert "the run goes on from 'b'" in str(kept.exception)


def test_a_fork_is_a_run_of_its_own_beside_the_first(place: Place) -> None:
    place.train((4, "save_checkpoint", {}))
    (saved,) = place.client.run("first").checkpoints
    refused = place("fork", saved.uuid, "--run", "first")
    assert "use `stovetop load`" in str(refused.exception)
    forked = place("fork", saved.uuid, "--run", "second")
    assert forked.exit_code == 0, forked.output
    (branch,) = place.client.run("second").branches
    assert (branch.segments[0].parent_run, branch.forked_at, branch.step) == ("first", 4, 12)
    first, second = place.client.compare(["first", "second"], ["loss"]).runs
    assert second.series[0].mean == first.series[0].mean[4:]
