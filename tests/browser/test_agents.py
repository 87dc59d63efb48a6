"""The agents in the operator's seat: what they say, what they suggest, and the switches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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
    seat.press("Let expert act")
    expect(listed).to_contain_text("acts")
    expect(seat.command("update_optimizer").first).to_contain_text("done")
    seat.press("Switch all off")
    expect(seat.page.get_by_text("All agents are switched off.")).to_be_visible()
    expect(listed).to_contain_text("off")


def test_what_an_agent_may_do_is_shown_and_its_budget_is_set(
    visit: Visit, trainer: PretendTrainer, agents: Agents
) -> None:
    seat = visit()
    seat.tab("Agents")
    seat.page.get_by_text("What it saw, and its bounds").click()
    bounds = seat.page.get_by_role("list", name="Bounds of expert")
    expect(bounds).to_contain_text("lr from 0 to 0.01")
    expect(bounds).to_contain_text("live from 0.0 % to 50.0 %")
    expect(seat.page.get_by_role("list", name="Agents")).to_contain_text("of 9 commands sent")
    field = seat.page.get_by_label("Budget of expert, in commands")
    field.fill("1.5")
    expect(seat.page.get_by_role("button", name="Set", exact=True)).to_have_attribute(
        "title", "A whole number, 0 or more."
    )
    field.fill("30")
    field.press("Enter")
    expect(seat.page.get_by_role("list", name="Agents")).to_contain_text("of 30 commands sent")
    expect(seat.command("set_agents")).to_contain_text("done")
    assert agents.state()["expert"]["limits"]["max_lr"] == 0.01  # the other bounds stay
