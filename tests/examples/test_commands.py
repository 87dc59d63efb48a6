"""The app's own command changes the diffusion loss while it trains, and shows wherever the built-in ones do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from typer.testing import CliRunner

import examples.desktop.commands as app_commands
from auth import TokenStore
from control import CommandKind, ControlClient, ControlSettings, Outcome
from control.server import ControlThread
from stovetop import cli
from stovetop.doors import Doors
from stovetop.secrets import Holder, local_token
from stovetop.settings import load_settings
from tests.trainer.test_diffusion import Squares, scheduler, unet
from tests.trainer.trainings import Run
from tests.waiting import until
from trainer import DiffusionTrainer

Training = Callable[..., Run]


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return lambda **given: Run(
        given.pop("folder", tmp_path / "run"),
        trainer_class=DiffusionTrainer,
        model=unet(),
        train_dataset=Squares(),
        trainer={"noise_scheduler": scheduler()},
        remove_unused_columns=False,
        lr_scheduler_type="constant",
        **given,
    )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Path, ControlClient, str]]:
    """A control server where `stovetop` finds it: the settings file, a client and a token."""
    config = tmp_path / "stovetop.toml"
    config.write_text('data = "data"\nrun = "desktop"\n')
    settings = load_settings(config)
    secret = local_token(settings, Holder.OPERATOR)
    place = ControlSettings(port=0, data=settings.control.data)
    with ControlThread(place, TokenStore(settings.tokens)) as server, ControlClient(server.url, secret) as client:
        Doors(0, "", server.url, "", "stable", "").write(settings.doors)
        yield config, client, secret


def test_the_loss_changes_at_the_next_step_and_a_load_takes_it_back(training: Training) -> None:
    whole = training()
    whole.train()
    run = training(folder=whole.trainer.steering.folder.path.parent / "other")
    save = run.send_at(3, "save_checkpoint")
    sent = run.send_at(5, "change_pixel_loss", kind="huber", delta=0.01)
    wrong = run.send_at(5, "change_pixel_loss", kind="cubed")
    run.at(
        7,
        lambda: run.link.send(
            "load_checkpoint", uuid=run.report(save).after["uuid"], branch_name="again", save_first=False
        ),
    )
    run.train()
    report = run.report(sent)
    assert (report.outcome, report.before, report.after["kind"]) == (Outcome.SUCCESS, "squared_error", "huber")
    assert run.report(wrong).outcome is Outcome.REJECTED
    before, after = whole.metric("loss"), run.metric("loss", "main")
    assert {step: before[step] for step in range(1, 6)} == {step: after[step] for step in range(1, 6)}
    assert after[6] < 0.1 * before[6]
    assert run.metric("loss", "again") == {step: loss for step, loss in before.items() if step > 3}


def test_a_loss_is_kept_over_checkpoints(training: Training) -> None:
    run = training()
    run.send_at(2, "change_pixel_loss", kind="absolute")
    save = run.send_at(4, "save_checkpoint")
    run.train()
    other = training(folder=run.trainer.steering.folder.path.parent / "other")
    other.train(run.report(save).after["path"])
    assert other.metric("loss") == {step: loss for step, loss in run.metric("loss").items() if step > 4}


@pytest.mark.parametrize("kind", list(app_commands.Kind))
def test_each_loss_is_zero_where_nothing_is_wrong_and_has_a_gradient_elsewhere(kind: app_commands.Kind) -> None:
    loss = app_commands.pixel_loss(app_commands.PixelLossArguments(kind=kind))
    wrong = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    assert float(loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).sum()) == 0
    loss(wrong, torch.zeros(1, 1, 2, 2)).sum().backward()
    assert wrong.grad is not None
    assert bool((wrong.grad > 0).all())


def test_it_shows_in_server_schema_and_dashboards_list_and_is_sent_from_the_command_line(
    training: Training, service: tuple[Path, ControlClient, str]
) -> None:
    config, client, secret = service
    run = training(
        max_steps=100_000, settings={"url": client.url, "token": secret, "run": "desktop", "health": {"enabled": False}}
    )
    steering = run.trainer.steering
    run.trainer._given_link = None
    thread = run.in_background()
    until(lambda: bool(client.runs().runs) and (client.run("desktop").step or 0) > 1)
    # what the dashboard lists, and with which form
    (shown,) = [each for each in client.run("desktop").commands if each.spec.name == "change_pixel_loss"]
    assert (shown.actor, shown.available, shown.spec.kind) == ("trainer", True, CommandKind.SETTING)
    assert shown.spec.arguments["$defs"]["Kind"]["enum"] == ["squared", "absolute", "huber"]
    assert shown.spec.arguments["properties"]["delta"]["exclusiveMinimum"] == 0

    def stovetop(*words: str) -> Any:
        return CliRunner().invoke(cli.app, [*words, "--config", str(config)])

    sent = stovetop("send", "change_pixel_loss", '{"kind": "huber", "delta": 0.1}')
    assert sent.exit_code == 0, sent.output
    assert "success change_pixel_loss" in sent.output
    refused = stovetop("send", "change_pixel_loss", '{"kind": "cubed"}')
    assert refused.exit_code == 1
    assert "'cubed' is not one of ['squared', 'absolute', 'huber']" in refused.output
    assert "did you mean 'change_pixel_loss'?" in stovetop("send", "change_pixel_los", "{}").output
    headers = {"Authorization": f"Bearer {secret}"}
    paper = httpx.post(
        f"{client.url}/api/command/",
        headers=headers,
        json={"command": "change_pixel_loss", "args": '{"kind": "squared"}', "uuid": "u", "time": 0, "status": ""},
        trust_env=False,
    )
    assert paper.json()["status"] == "success"
    until(lambda: next(e.outcome for e in client.audit("desktop").entries) is Outcome.SUCCESS)
    assert steering.trainer.pixel_loss.__name__ == "squared_error"
    assert client.send("stop_training", {"save": False}, run="desktop").outcome is Outcome.SUCCESS
    thread.join(30)
    assert not thread.is_alive()
