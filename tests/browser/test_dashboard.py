"""The dashboard in a real browser, against a real server in a process of its own, steering a pretend trainer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from control import CommandName, EventType, RunStatus
from tests.browser.pretend import PretendTrainer
from tests.browser.pretend_service import PretendService
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
Picture = Callable[[Seat, str], Path]


# Coming in


def test_a_token_in_the_link_is_taken_out_of_the_address_and_kept_for_the_tab(
    visit: Visit, trainer: PretendTrainer
) -> None:
    seat = visit()
    seat.connection("connected")
    assert "stv_" not in seat.page.url
    seat.page.reload()
    seat.connection("connected")


def test_without_a_token_it_is_asked_for_and_a_wrong_one_is_refused_with_the_reason(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess
) -> None:
    seat = visit(token="")
    field = seat.page.get_by_label("Token")
    field.fill("stv_wrong")
    seat.press("Enter")
    expect(seat.page.get_by_role("alert")).to_contain_text("unknown or was revoked")
    field.fill(server.tokens.read)
    seat.press("Enter")
    seat.connection("connected")


def test_a_token_that_is_revoked_while_the_page_is_open_is_asked_for_anew(
    visit: Visit, mortal_server: ServedProcess
) -> None:
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start()
    seat = visit(token=mortal_server.tokens.read, url=mortal_server.url)
    seat.connection("connected")
    mortal_server.tokens.store.revoke("eyes")
    mortal_server.kill()
    mortal_server.start()
    expect(seat.page.get_by_role("alert")).to_contain_text("not accepted any more")
    trainer.close()


def test_a_server_without_runs_says_how_to_start_one(visit: Visit, mortal_server: ServedProcess) -> None:
    seat = visit(token=mortal_server.tokens.operate, url=mortal_server.url)
    expect(seat.page.get_by_role("heading", name="No run yet")).to_be_visible()
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start()
    seat.status("training")  # it shows by itself
    trainer.close()


# Watching


def test_the_way_of_one_click_shows_where_it_is_broken_and_what_to_do(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str
) -> None:
    service = PretendService(server.client, run)
    seat = visit()
    way = seat.page.get_by_role("region", name="The way of one click")
    gateway = way.locator('[data-link="gateway"]')
    expect(gateway).to_have_attribute("data-flow", "flows")
    expect(gateway).to_contain_text("steps/s")
    expect(way.locator('[data-link="served"]')).to_contain_text("1 server")
    service.roles["gateway"] = {"state": "waiting", "pid": None, "status": -9, "again_at": time.time() + 600}
    expect(gateway).to_have_attribute("data-flow", "broken")
    expect(way.get_by_role("status")).to_contain_text("Gateway: The gateway was killed by SIGKILL.")
    expect(way.get_by_role("status")).to_contain_text("data/logs/gateway.log says why")
    expect(way.locator('[data-flow="broken"]')).to_have_count(1)
    service.roles.clear()
    expect(gateway).to_have_attribute("data-flow", "flows")
    expect(way.get_by_role("status")).to_be_empty()
    service.close()


def test_metrics_stream_into_charts(visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str) -> None:
    seat = visit()
    seat.connection("connected")
    seat.passes(trainer.step)
    seat.until(lambda: seat.is_drawn("Loss"))
    points = seat.points("Loss")
    assert points.whole()
    told = server.client.series(run, metrics=["loss"]).series[0]
    expected = dict(zip(told.steps, told.mean, strict=True))
    for step, (value,) in points.newest:
        assert value == pytest.approx(expected[step], rel=1e-3)
    assert [len(values) for _, values in seat.points("Loss by source").newest[-1:]] == [3]


def test_a_reload_shows_the_whole_history_at_once(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.connection("connected")
    seat.press("Save")
    expect(seat.command("save_checkpoint")).to_contain_text("done")
    before = seat.step()
    seat.page.reload()
    seat.connection("connected")
    points = seat.points("Loss")
    assert points.whole()
    assert points.count >= before
    expect(seat.command("save_checkpoint")).to_contain_text("done")


def test_a_killed_server_is_returned_to_without_losing_or_doubling_a_point(
    visit: Visit, mortal_server: ServedProcess
) -> None:
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start(history=60)
    seat = visit(token=mortal_server.tokens.operate, url=mortal_server.url)
    seat.connection("connected")
    mortal_server.kill()
    seat.connection("reconnecting")
    step = trainer.step
    seat.until(lambda: trainer.step > step + 20)  # training goes on meanwhile
    mortal_server.start()
    seat.connection("connected")
    seat.passes(trainer.step)
    points = seat.points("Loss")
    assert points.whole()
    assert points.count > step + 20
    trainer.close()


def test_numbers_that_are_not_finite_are_counted_and_break_nothing(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.connection("connected")
    for value in (float("nan"), float("inf")):
        trainer.line.tell(EventType.METRICS, {"strange": value}, step=trainer.step, branch="main")
    trainer.line.tell(EventType.METRICS, {"strange": 1.5}, step=trainer.step + 1, branch="main")
    seat.page.get_by_role("button", name=re.compile("^Charts ")).click()
    dialog = seat.page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Done").click()
    expect(seat.chart("Strange")).to_contain_text("not finite")
    seat.passes(seat.step())


def test_dragging_over_a_chart_zooms_all_of_them_and_a_double_click_shows_everything(
    visit: Visit, trainer: PretendTrainer
) -> None:
    seat = visit()
    seat.connection("connected")
    over = seat.chart("Loss").locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    seat.page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    seat.page.mouse.down()
    seat.page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    seat.page.mouse.up()
    back = seat.page.get_by_role("button", name=re.compile("show all"))
    expect(back).to_be_visible()
    over.dblclick()
    expect(back).to_be_hidden()


# Steering


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
    seat.tab("Optimizer")
    seat.page.get_by_label("New learning rate").fill("2e-4")
    seat.press("Send lr → 2e-4")
    receipt = seat.page.locator(".receipt")
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
    seat.page.get_by_role("button", name="Version 2: details").click()
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


def test_a_token_that_may_only_read_is_told_so_when_it_steers(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess
) -> None:
    seat = visit(token=server.tokens.read)
    seat.press("Pause")
    expect(seat.page.locator(".toast")).to_contain_text("needs 'operate'")
    assert trainer.status is RunStatus.RUNNING


def test_a_trainer_that_goes_away_is_said_to_be_away(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.status("training")
    trainer.close()
    seat.status("trainer away")
    expect(seat.page.get_by_text("commands wait until it is back")).to_be_visible()


def test_runs_are_chosen_and_compared_on_the_same_charts(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str
) -> None:
    other = PretendTrainer(server.url, server.tokens.operate, f"other-{run}").start(history=90)
    seat = visit()
    seat.press("Compare")
    seat.page.get_by_label(re.compile(f"^other-{run}")).check()
    seat.press("Done")
    legend = seat.chart("Loss").locator(".chart-legend")
    expect(legend).to_contain_text(f"other-{run}")
    seat.until(lambda: len(seat.points("Loss").newest[-1][1]) == 2)
    told = server.client.series(f"other-{run}", metrics=["loss"]).series[0]
    theirs = dict(zip(told.steps, told.mean, strict=True))
    column = {step: values[0] for step, values in seat.points("Loss").newest if step <= 90}
    assert all(value == pytest.approx(theirs[step], rel=1e-3) for step, value in column.items())
    seat.page.reload()  # the choice is kept
    expect(legend).to_contain_text(f"other-{run}")
    seat.page.get_by_role("combobox", name="Run").select_option(f"other-{run}")
    expect(seat.page.get_by_role("heading", name=f"other-{run}")).to_be_visible()
    other.close()


# For everyone


def test_the_keyboard_alone_pauses_sets_a_rate_and_resumes(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.status("training")
    keyboard = seat.page.keyboard
    keyboard.press("p")
    seat.status("paused")
    keyboard.press("2")
    seat.page.get_by_role("tab", name="Optimizer").focus()
    rate = seat.page.get_by_label("New learning rate")
    for _ in range(6):
        keyboard.press("Tab")
        if rate.evaluate("element => element === document.activeElement"):
            break
    keyboard.type("3e-4")
    keyboard.press("Enter")
    expect(seat.command("update_optimizer")).to_contain_text("lr → 3e-4")
    assert trainer.status is RunStatus.PAUSED  # a "p" in a field would have been typed, not obeyed
    seat.page.get_by_role("tab", name="Optimizer").focus()
    keyboard.press("p")
    seat.status("training")
    chart = seat.chart("Loss").get_by_role("group")
    chart.focus()
    keyboard.press("ArrowLeft")
    expect(seat.chart("Loss")).to_contain_text(re.compile(r"step [\d,]+"))


def test_axe_finds_nothing_in_either_theme(visit: Visit, trainer: PretendTrainer, dashboard: Path) -> None:
    axe = (dashboard.parent / "node_modules" / "axe-core" / "axe.min.js").read_text()
    for scheme in ("dark", "light"):
        seat = visit(color_scheme=scheme)
        seat.passes(trainer.step)
        seat.page.evaluate(axe)
        for tab in ("Mixture", "Optimizer", "Model", "Checkpoints", "Versions", "Agents", "More"):
            seat.tab(tab)
            violations = seat.page.evaluate("async () => (await axe.run(document)).violations")
            found = [f"{entry['id']}: {entry['nodes'][0]['html']}" for entry in violations]
            assert found == [], f"{scheme}, {tab}"


def test_on_a_phone_nothing_is_cut_off_and_each_view_is_one_touch_away(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, picture: Picture
) -> None:
    other = PretendTrainer(server.url, server.tokens.operate, "another-run-with-a-long-name").start()
    seat = visit(viewport={"width": 360, "height": 780}, has_touch=True, is_mobile=True, device_scale_factor=2)
    seat.passes(trainer.step)
    expect(seat.page.get_by_role("combobox", name="Run")).to_be_visible()
    for view in ("Charts", "Knobs", "Log"):
        seat.page.get_by_role("button", name=view, exact=True).tap()
        wide = seat.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{view} is {wide} pixels wide"
        picture(seat, f"phone-{view.lower()}")
    seat.page.get_by_role("button", name="Pause", exact=True).tap()
    seat.status("paused")
    other.close()


def test_pictures_of_a_busy_run(visit: Visit, server: ServedProcess, run: str, picture: Picture) -> None:
    trainer = PretendTrainer(server.url, server.tokens.operate, run).start(history=400)
    client = server.client
    client.send("save_checkpoint", run=run)
    client.send("publish_checkpoint", run=run)
    client.send("update_optimizer", {"lr": {"value": 3e-4}}, run=run, note="the curve flattens")
    seat = visit(color_scheme="dark")
    seat.passes(trainer.step + 60)
    weights = {"weights": {"live": 0.6, "base": 0.25, "history": 0.15}}
    client.send("update_dataset_runtime_hyperparameters", weights, run=run, note="the browser is opened a lot")
    client.send("publish_checkpoint", run=run)
    client.send("do_evaluate", run=run)
    service = PretendService(client, run, version=2)
    trainer.warn("grad_norm is 3 times its median")
    seat.passes(trainer.step + 60)
    picture(seat, "dark")
    light = visit(color_scheme="light")
    light.passes(trainer.step)
    light.tab("Optimizer")
    picture(light, "light")
    service.roles["pipeline"] = {"state": "waiting", "pid": None, "status": 1, "again_at": time.time() + 8}
    trainer.close()
    seat.status("trainer away")
    picture(seat, "away")
    service.close()
