"""The dashboard for everyone: by keyboard alone, read aloud, in both themes, on a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from control import EventType, RunStatus
from control.bodies import RunBody
from tests.browser.pictures import film
from tests.browser.pretend import PretendTrainer
from tests.browser.pretend_service import PretendService
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
Picture = Callable[[Seat, str], Path]


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


Examine = Callable[[Seat, str], None]


def test_axe_finds_nothing_on_any_panel_in_either_theme(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str, examine: Examine
) -> None:
    for version in (1, 2):
        server.client.send("publish_checkpoint", run=run)
        server.client.show_samples(run, version, {"Opening the browser": film(version)})
    for scheme in ("dark", "light"):
        seat = visit(color_scheme=scheme)
        seat.passes(trainer.step)
        for tab in ("Mixture", "Optimizer", "Model", "Checkpoints", "Versions", "Agents", "More", "Events", "Commands"):
            seat.tab(tab)
            examine(seat, f"{scheme}, {tab}")


def test_axe_finds_nothing_in_any_dialog(visit: Visit, trainer: PretendTrainer, examine: Examine) -> None:
    seat = visit()
    seat.press("Save")
    expect(seat.command("save_checkpoint")).to_contain_text("done")
    seat.tab("Checkpoints")
    for name in (r"^Publish$", r"^Stop$", r"^Load the checkpoint", r"^Charts ", r"^Values of Loss as", r"^Keyboard"):
        seat.page.get_by_role("button", name=re.compile(name)).first.click()
        expect(seat.page.get_by_role("dialog")).to_be_visible()
        examine(seat, name)
        seat.page.keyboard.press("Escape")
        expect(seat.page.get_by_role("dialog")).to_have_count(0)


def test_axe_finds_nothing_at_the_gate_on_an_empty_server_and_on_a_run_that_crashed(
    visit: Visit, mortal_server: ServedProcess, examine: Examine
) -> None:
    gate = visit(token="", url=mortal_server.url)
    expect(gate.page.get_by_label("Token")).to_be_visible()
    examine(gate, "the gate")
    seat = visit(token=mortal_server.tokens.operate, url=mortal_server.url)
    expect(seat.page.get_by_role("heading", name="No run yet")).to_be_visible()
    examine(seat, "no run")
    trainer = PretendTrainer(mortal_server.url, mortal_server.tokens.operate).start(history=20)
    seat.status("training")
    trainer.line.tell(EventType.RUN, RunBody(status=RunStatus.CRASHED, reason="CUDA out of memory"))
    seat.status("crashed")
    expect(seat.page.get_by_text("CUDA out of memory")).to_be_visible()
    examine(seat, "crashed")
    trainer.close()


def test_on_a_phone_nothing_is_cut_off_and_each_view_is_one_touch_away(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, picture: Picture, examine: Examine
) -> None:
    other = PretendTrainer(server.url, server.tokens.operate, "another-run-with-a-long-name").start()
    seat = visit(viewport={"width": 360, "height": 780}, has_touch=True, is_mobile=True, device_scale_factor=2)
    seat.passes(trainer.step)
    expect(seat.page.get_by_role("combobox", name="Run")).to_be_visible()
    for view in ("Charts", "Knobs", "Log"):
        seat.page.get_by_role("button", name=view, exact=True).tap()
        wide = seat.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{view} is {wide} pixels wide"
        examine(seat, f"phone, {view}")
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
