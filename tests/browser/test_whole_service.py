"""The dashboard over a whole service: `stovetop up` with its hub, and a server that follows; every step is a click."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.seat import Seat
from tests.system.crowd import one_visit
from tests.system.service import RUN, Service, packaged
from tests.waiting import until
from trainer.journal import Trained, trained_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SERVER = "window"
SETTINGS = {
    "STOVETOP_TRAIN__PUBLISH_SECONDS": "100000",  # by clicks only
    "STOVETOP_FOLLOW__FOLLOWER": SERVER,
    "STOVETOP_APP__SAMPLES": "thumbnail_pictures:samples",
    "STOVETOP_SAMPLES__EVERY": "0.1",
}

Picture = Callable[[Seat, str], Path]


@pytest.fixture
def run() -> str:
    return RUN


@pytest.fixture(scope="module")
def service(dashboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The tiny desktop's service, in training, with what one visitor did, and a server of its weights beside it."""
    folder = tmp_path_factory.mktemp("whole")
    made = Service(folder / "service", packaged(folder / "thumbnail"), SETTINGS)
    try:
        made.up()
        follower = made.start("follow", str(made.root / "served"))
        one_visit(made.doors.gateway, made.token, seed=5, steps=60)
        until(lambda: made.at_work("train"), "it trains")
        yield made
        follower.kill()
        follower.communicate()
    finally:
        made.close()


def trained(service: Service, branch: str) -> list[Trained]:
    """What was trained in the newest segment, which is of that branch, step by step."""
    segment = service.run.segments()[-1]
    assert segment.branch == branch
    return list(trained_in(service.run.folder_of(segment.id)))


def served(service: Service) -> int:
    """The version that the server has on its disk."""
    return int(json.loads((service.root / "served" / "manifest.json").read_bytes())["version"])


def test_a_live_training_is_paused_set_mixed_saved_branched_resumed_published_and_rolled_back(
    visit: Callable[..., Seat], service: Service, picture: Picture
) -> None:
    seat = visit(token=service.operator, url=service.doors.control)
    seat.status("training")
    seat.passes(20)
    seat.press("Pause")
    seat.status("paused")
    at = seat.step()

    receipt = seat.set_rate("2e-4")
    expect(receipt).to_contain_text(f"from step {at + 1}")

    seat.tab("Mixture")
    for source, share in (("live", "0"), ("history", "75")):
        seat.page.get_by_label(f"Share of {source} in percent").fill(share)
    seat.page.get_by_label("Why").fill("the past only, and a little of the base")
    seat.press("Send mixture")
    expect(receipt).to_contain_text(f"from step {at + 1}")
    expect(receipt).to_contain_text("history 75 %")

    seat.press("Save")
    expect(seat.command("save_checkpoint")).to_contain_text("done")
    assert seat.step() == at  # all of it without a step of training

    seat.tab("Checkpoints")
    seat.page.get_by_role("button", name=re.compile(f"^Load the checkpoint of step {at}")).first.click()
    seat.page.get_by_label("Name of the new branch").fill("calmer")
    seat.press("Load as a new branch")
    expect(seat.command("load_checkpoint")).to_contain_text(f"from step {at + 1}")  # it stays paused
    expect(seat.page.get_by_role("region", name="Branches")).to_contain_text("calmer in training")

    seat.press("Resume")
    seat.status("training")
    expect(seat.command("load_checkpoint")).to_contain_text("done")
    seat.passes(at + 60)
    rates = dict(seat.points("Learning rate").newest)
    assert {values[-1] for step, values in rates.items() if step > at} == {2e-4}
    drawn = [set(entry.keys) for entry in trained(service, "calmer")]
    assert set().union(*drawn) == {"base", "history"}  # live was given nothing
    seat.tab("Mixture")
    expect(seat.page.get_by_role("slider", name="Share of history")).to_have_value("75")

    seat.tab("Versions")
    channels = seat.page.get_by_role("region", name="Channels")
    servers = seat.page.get_by_role("region", name="Served by")
    samples = seat.page.get_by_role("region", name="Samples", exact=True)
    for number in (1, 2):
        seat.press("Publish")
        seat.page.get_by_role("dialog").get_by_role("button", name="Publish", exact=True).click()
        expect(channels).to_contain_text(f"v{number}")
        expect(servers).to_contain_text(re.compile(rf"{SERVER} v{number}\b.*current"))
        assert served(service) == number
        expect(samples.get_by_alt_text(f"its first layer, as version {number} paints it")).to_be_visible()
    expect(seat.command("publish_checkpoint")).to_contain_text("done")
    seat.page.get_by_role("button", name="Roll back stable").click()
    seat.press("Roll back")
    expect(seat.command("rollback_version")).to_contain_text("done")
    expect(channels).to_contain_text(re.compile("v1.*held"))
    expect(servers).to_contain_text(re.compile(rf"{SERVER} v1\b.*current"))
    assert served(service) == 1
    expect(samples).to_contain_text("Samples of v2 beside v1")
    way = seat.page.get_by_role("region", name="The way of one click")
    expect(way.locator('[data-flow="broken"]')).to_have_count(0)
    picture(seat, "whole-service")


def test_two_browsers_a_reload_and_a_killed_server_show_the_same_training(
    visit: Callable[..., Seat], service: Service
) -> None:
    one, other = (visit(token=service.operator, url=service.doors.control) for _ in range(2))
    other.connection("connected")
    one.press("Pause")
    other.status("paused")
    other.press("Resume")
    one.status("training")
    reached = one.step()
    one.page.reload()
    one.passes(reached)
    expect(one.command("resume_training")).to_contain_text("done")
    assert one.points("Loss").steps[-1] >= reached
    control = service.role("control")
    assert control is not None
    control.kill()
    for seat in (one, other):
        seat.connection("reconnecting")
    step = other.step()
    for seat in (one, other):
        seat.connection("connected")
        seat.passes(step)
        newest = seat.points("Loss").steps
        assert newest == sorted(set(newest))  # none twice
        assert step in newest or newest[0] > step
