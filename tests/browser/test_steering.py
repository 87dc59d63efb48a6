"""Steering from the dashboard: what is clicked reaches the trainer, and is done only when that says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from control import CommandName, RunStatus
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
Picture = Callable[[Seat, str], Path]


def test_a_mixture_reaches_the_trainer_and_is_done_only_with_the_step_that_shows_it(
    visit: Visit, trainer: PretendTrainer
) -> None:
    seat = visit()
    seat.connection("connected")
    send = seat.page.get_by_role("button", name="Send mixture")
    expect(send).to_have_attribute("aria-disabled", "true")  # nothing was moved yet
    seat.page.get_by_label("Share of live in percent").fill("65")
    expect(seat.page.get_by_text("sum 100.0 %")).to_be_visible()
    expect(seat.page.get_by_role("slider", name="Share of base")).to_have_value("25")  # 50 to 20, in what is left
    seat.page.get_by_label("Why").fill("users open the browser")
    send.click()
    live = seat.page.get_by_role("listitem").filter(has=seat.page.get_by_role("slider", name="Share of live"))
    for figure in ("asked", "drawn", "loss", "samples/s", "age"):
        expect(live.get_by_text(figure, exact=True)).to_be_visible()
    line = seat.command("update_dataset_runtime_hyperparameters")
    expect(line).to_contain_text("done")
    assert trainer.received(CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS) == [
        {"weights": {"base": 0.25, "history": 0.1, "live": 0.65}}
    ]
    command = trainer.obeyed[-1]
    assert (command.author, command.note) == ("ops", "users open the browser")
    expect(line).to_contain_text("users open the browser")
    expect(seat.page.locator(".receipt")).to_contain_text(re.compile(r"done at [\d,]+"))
    expect(seat.page.get_by_role("slider", name="Share of live")).to_have_value("65")


def test_everything_works_while_paused_and_waits_for_its_step(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.press("Pause")
    seat.status("paused")
    assert trainer.status is RunStatus.PAUSED
    receipt = seat.set_rate("2e-4")
    expect(receipt).to_contain_text(f"from step {trainer.step + 1}")
    expect(seat.page.locator(".effective")).to_contain_text("2e-4")
    seat.press("Resume")
    seat.status("training")
    expect(receipt).to_contain_text("done at")
    assert trainer.received(CommandName.UPDATE_OPTIMIZER) == [{"lr": {"value": 2e-4}}]


def test_what_is_typed_wrong_is_said_and_not_sent(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.tab("Optimizer")
    rate = seat.page.get_by_label("New learning rate")
    for text, problem in (("1,5", "is not a number"), ("2", "At most 1."), ("0", "More than 0.")):
        rate.fill(text)
        expect(seat.page.locator(".rate .problem")).to_contain_text(problem)
        rate.press("Enter")
    assert rate.input_value() == "0"  # never changed behind one's back
    rate.fill("0.5e-3")
    rate.press("Enter")
    expect(seat.command("update_optimizer")).to_contain_text("done")
    assert trainer.received(CommandName.UPDATE_OPTIMIZER) == [{"lr": {"value": 5e-4}}]


def test_a_command_that_fails_says_why(visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str) -> None:
    seat = visit()
    seat.connection("connected")
    server.client.send("load_checkpoint", {"uuid": "nowhere"}, run=run)
    line = seat.command("load_checkpoint")
    expect(line).to_contain_text("rejected")
    expect(line).to_contain_text("no checkpoint has the uuid 'nowhere'")
    seat.page.get_by_role("searchbox", name="Filter commands").fill("nowhere rejected")
    expect(seat.page.locator("[data-command]")).to_have_count(1)


def test_stopping_asks_first_and_saves_first(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.press("Stop")
    seat.press("Keep training")
    assert trainer.status is RunStatus.RUNNING
    seat.press("Stop")
    seat.press("Save, then stop")
    expect(seat.page.get_by_text(re.compile(r"Saved at step"))).to_be_visible()
    assert trainer.status is RunStatus.RUNNING
    seat.press("Stop now")
    seat.status("stopped")
    assert [command.command for command in trainer.obeyed] == ["save_checkpoint", "stop_training"]
    expect(seat.page.get_by_role("button", name="Start", exact=True)).to_be_visible()


def test_going_back_to_a_checkpoint_makes_a_branch_with_a_curve_of_its_own(
    visit: Visit, trainer: PretendTrainer, picture: Picture
) -> None:
    seat = visit()
    seat.press("Save")
    expect(seat.command("save_checkpoint")).to_contain_text("done")
    seat.passes(trainer.step + 20)
    seat.tab("Checkpoints")
    seat.page.get_by_role("button", name=re.compile("^Load the checkpoint")).click()
    name = seat.page.get_by_label("Name of the new branch")
    name.fill("../escape")
    expect(seat.page.get_by_role("dialog")).to_contain_text("Letters, digits, dots")
    name.fill("calmer")
    seat.press("Load as a new branch")
    expect(seat.command("load_checkpoint")).to_contain_text("done")
    branches = seat.page.get_by_role("region", name="Branches")
    expect(branches).to_contain_text("calmer in training")
    expect(branches).to_contain_text(re.compile(r"from \d+"))
    legend = seat.chart("Loss").locator(".chart-legend")
    expect(legend).to_contain_text("calmer")
    expect(legend).to_contain_text("main")
    seat.passes(trainer.step)
    picture(seat, "branches")


def test_publishing_moves_a_channel_and_a_rollback_holds_it(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess
) -> None:
    seat = visit()
    for _ in range(2):
        seat.press("Publish")
        seat.page.get_by_role("dialog").get_by_role("button", name="Publish", exact=True).click()
        expect(seat.page.get_by_role("dialog")).to_be_hidden()
    seat.tab("Versions")
    channels = seat.page.get_by_role("region", name="Channels")
    expect(channels).to_contain_text("v2")
    seat.page.get_by_role("button", name="Roll back stable").click()
    seat.press("Roll back")
    expect(channels).to_contain_text("v1")
    expect(channels).to_contain_text("held")
    seat.page.get_by_role("button", name="Release stable").click()
    seat.press("Release")
    expect(channels.get_by_text("held")).to_have_count(0)
    seat.page.get_by_role("button", name="Hold stable").click()
    seat.press("Hold")
    expect(channels).to_contain_text("held")
    seat.page.get_by_role("button", name="v2: details").click()
    expect(seat.page.locator(".version-details")).to_contain_text("v1")
    expect(seat.page.locator(".version-details")).to_contain_text("eval loss")


def test_a_command_of_a_users_package_is_a_form_that_is_checked_before_it_is_sent(
    visit: Visit, trainer: PretendTrainer
) -> None:
    seat = visit()
    seat.tab("More")
    seat.page.get_by_role("button", name="shake weights").click()
    form = seat.page.get_by_role("form", name="shake weights")
    form.get_by_role("button", name="Send", exact=True).click()
    expect(form).to_contain_text("This one is needed.")
    form.get_by_label("Strength").fill("2")
    expect(form).to_contain_text("At most 1.")
    form.get_by_label("Strength").fill("0.25")
    form.get_by_label("Mode").select_option("hard")
    form.get_by_label("Layers").fill('["head"]')
    form.get_by_role("button", name="Try", exact=True).click()
    expect(form.locator(".receipt")).to_contain_text("would do")
    form.get_by_role("button", name="Send", exact=True).click()
    expect(form.locator(".receipt")).to_contain_text("done at")
    wanted = {"strength": 0.25, "mode": "hard", "layers": ["head"]}
    assert [(command.dry_run, dict(command.arguments)) for command in trainer.obeyed] == [
        (True, wanted),
        (False, wanted),
    ]


def test_a_layer_is_found_with_its_health_and_changed(visit: Visit, trainer: PretendTrainer) -> None:
    trainer.suspect("blocks.1.attention")
    seat = visit()
    seat.tab("Model")
    layers = seat.page.get_by_role("list", name="Layers")
    expect(layers).to_contain_text("1 below")
    seat.page.get_by_role("searchbox", name="Find layers").fill("1 attention")
    row = layers.locator('[data-layer="blocks.1.attention"]')
    expect(row).to_contain_text("dead units")
    row.get_by_role("button", name="Change blocks.1.attention").click()
    expect(row).to_contain_text("40 % of blocks.1.attention never fire")
    row.get_by_role("button", name="Freeze", exact=True).click()
    expect(seat.command("model_layer_operation")).to_contain_text("done")
    row.get_by_role("button", name="reset parameters").click()
    seat.press("Do it")
    seat.until(lambda: len(trainer.received("model_layer_operation")) == 2)
    freeze, reset = trainer.received("model_layer_operation")
    assert freeze["params"] == {"requires_grad": False}
    assert (reset["layer_name"], reset["operation_name"]) == ("blocks.1.attention", "reset_parameters")


def test_two_operators_see_what_the_other_does(visit: Visit, trainer: PretendTrainer) -> None:
    one, other = visit(), visit()
    other.connection("connected")
    one.press("Pause")
    other.status("paused")
    expect(other.command("pause_training")).to_contain_text("ops")
    other.press("Resume")
    one.status("training")
