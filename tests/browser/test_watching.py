"""What the dashboard shows of a run, over reloads, a killed server, and beside other runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from control import EventType
from tests.browser.pretend import PretendTrainer
from tests.browser.pretend_service import PretendService
from tests.browser.seat import Seat, number
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]


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
    first, last = steps_in_view(back)
    seat.page.get_by_role("button", name="Earlier steps").click()
    moved = steps_in_view(back)
    assert moved[0] < first
    assert moved[1] - moved[0] == last - first  # it pans, it does not zoom
    over.hover()
    seat.page.mouse.wheel(box["width"] / 2, 0)
    seat.until(lambda: steps_in_view(back)[0] > moved[0])
    over.dblclick()
    expect(back).to_be_hidden()


def steps_in_view(button: Locator) -> tuple[int, int]:
    """The first and the last step that the charts show, as the button beside them says."""
    found = re.search(r"([\d,]+)–([\d,]+)", button.inner_text())
    assert found is not None
    return int(number(found[1])), int(number(found[2]))


def test_a_pinned_chart_comes_first_and_does_so_after_a_reload(visit: Visit, trainer: PretendTrainer) -> None:
    seat = visit()
    seat.connection("connected")
    titles = seat.page.get_by_role("region", name="Charts").get_by_role("heading")
    expect(titles.first).to_have_text("Loss")
    seat.press("Pin Gradient norm")
    expect(titles.first).to_have_text("Gradient norm")
    seat.press("Pin Loss by source")
    seat.page.reload()
    expect(titles.first).to_have_text("Gradient norm")
    expect(titles.nth(1)).to_have_text("Loss by source")
    seat.press("Hide Gradient norm")  # a chart that is not shown is not pinned either
    expect(titles.first).to_have_text("Loss by source")
    seat.press("Pin Loss by source")
    expect(titles.first).to_have_text("Loss")


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
