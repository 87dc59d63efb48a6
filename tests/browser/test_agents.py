"""The agents in the operator's seat: what they say, what they suggest, and the switches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from control.agents import Agents, AgentSettings, Limits, Line, Mode, Script
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
Picture = Callable[[Seat, str], Path]


@pytest.fixture
def agents(server: ServedProcess, trainer: PretendTrainer, run: str) -> Iterator[Agents]:
    """One agent, which wants half the rate."""
    line = Line(step=1, command="update_optimizer", arguments={"lr": {"scale": 0.5}}, why="the curve is noisy")
    settings = AgentSettings(
        mode=Mode.SUGGEST, every=1, limits=Limits(budget=9, max_lr=0.01, shares={"live": (0, 0.5)})
    )
    started = Agents(server.url, server.tokens.operate, run, {"expert": (Script([line]), settings)}).start()
    yield started
    started.close()


def test_a_suggestion_is_read_and_accepted_with_one_click(
    visit: Visit, trainer: PretendTrainer, agents: Agents, picture: Picture
) -> None:
    seat = visit()
    seat.tab("Agents")
    suggestion = seat.page.get_by_role("region", name="Suggestion of script:expert")
    expect(suggestion).to_contain_text("the curve is noisy")
    expect(suggestion).to_contain_text("lr × 0.5")
    picture(seat, "agents")
    seat.press("Accept")
    expect(suggestion).to_have_count(0)
    expect(seat.command("accept_suggestion")).to_contain_text("done")
    expect(seat.command("update_optimizer").first).to_contain_text("done")


def test_agents_are_switched_from_the_seat(visit: Visit, trainer: PretendTrainer, agents: Agents) -> None:
    seat = visit()
    seat.tab("Agents")
    listed = seat.page.get_by_role("list", name="Agents")
    expect(listed).to_contain_text("suggests")
    seat.press("Let it act: expert")
    expect(listed).to_contain_text("acts")
    expect(seat.command("update_optimizer").first).to_contain_text("done")
    seat.press("Switch all off")
    expect(seat.page.get_by_text("All agents are switched off.")).to_be_visible()
    expect(listed).to_contain_text("off")


def test_every_limit_of_an_agent_is_set_from_the_seat_and_handed_back_to_its_file(
    visit: Visit, trainer: PretendTrainer, agents: Agents, picture: Picture, examine: Callable[[Seat, str], None]
) -> None:
    def limits() -> dict[str, Any]:
        return dict(agents.state()["expert"]["limits"])

    seat = visit()
    page = seat.page
    seat.tab("Agents")
    page.get_by_text("What it saw, and its bounds").click()
    bounds = page.get_by_role("list", name="Bounds of expert")
    expect(bounds).to_contain_text("lr from 0 to 0.01")
    expect(bounds).to_contain_text("live from 0.0 % to 50.0 %")
    listed = page.get_by_role("list", name="Agents")
    expect(listed).to_contain_text("of 9 commands sent")

    page.get_by_text("Set its bounds").click()
    form = page.get_by_role("form", name="Limits of expert")
    send = form.get_by_role("button", name="Set limits of expert")
    expect(send).to_have_attribute("title", "Change a limit first: these are the ones in force.")
    form.get_by_label("Commands in this run", exact=True).fill("1.5")
    expect(form).to_contain_text("A whole number.")
    expect(send).to_have_attribute("title", re.compile("cannot be sent"))
    form.get_by_label("Commands in this run", exact=True).fill("30")
    form.get_by_label("Steps between two looks", exact=True).fill("4")
    form.get_by_label("Largest learning rate", exact=True).fill("none")
    form.get_by_label("A share moves at once by, in %", exact=True).fill("10")
    form.get_by_label("Largest share of live in percent").fill("40")
    form.get_by_label("do evaluate").uncheck()
    form.get_by_label("Why").fill("it is new here")
    picture(seat, "agent-limits")
    send.click()
    expect(form.locator(".receipt")).to_contain_text("done")
    expect(form.locator(".receipt")).to_contain_text("it is new here")
    expect(listed).to_contain_text("of 30 commands sent")
    assert limits() | {"budget": 30, "max_lr": None, "share_move": 0.1, "shares": {"live": [0, 0.4]}} == limits()
    assert agents.state()["expert"]["every"] == 4
    assert "update_optimizer" in limits()["commands"]
    assert "do_evaluate" not in limits()["commands"]
    examine(seat, "the limits of an agent")

    form.get_by_label("Least learning rate", exact=True).fill("0.5")
    form.get_by_label("Largest learning rate", exact=True).fill("0.1")
    send.click()
    expect(form.locator(".receipt .problem")).to_contain_text("max_lr: it is 0.1, below min_lr, which is 0.5; raise it")
    assert limits()["min_lr"] == 0

    expect(form).to_contain_text("the file says 9")
    form.get_by_role("button", name="Commands in this run: as in the file").click()
    send.click()
    expect(listed).to_contain_text("of 9 commands sent")
    assert limits()["max_lr"] is None  # the others stay
