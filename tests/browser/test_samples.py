"""What versions paint, in the operator's seat: the newest beside the last, and any other when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from control import EventType
from tests.browser.pictures import film
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Seat]
Picture = Callable[[Seat, str], Path]

COLOUR = """image => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    canvas.getContext("2d").drawImage(image, 0, 0, 1, 1, 0, 0, 1, 1);
    return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def drawn(image: Locator) -> list[int]:
    """The colour of the first pixel of a picture that has been decoded."""
    expect(image).to_be_visible()
    image.evaluate("image => image.decode()")
    colour: list[int] = image.evaluate(COLOUR)
    return colour


def test_film_strips_of_a_version_stand_beside_those_of_the_last(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str, picture: Picture
) -> None:
    client, goals = server.client, ("Opening the browser", "Creating a folder")
    for version in (1, 2, 3):
        client.send("publish_checkpoint", run=run)
        if version < 3:
            client.show_samples(run, version, {goal: film(version * 40) for goal in goals})
    seat = visit()
    seat.tab("Versions")
    samples = seat.page.get_by_role("region", name="Samples", exact=True)
    expect(samples).to_contain_text("Samples of v2 beside v1")
    for goal in goals:
        assert drawn(samples.get_by_alt_text(f"{goal}, as version 1 paints it")) == [40, 60, 90]
        assert drawn(samples.get_by_alt_text(f"{goal}, as version 2 paints it")) == [80, 60, 90]
    client.show_samples(run, 3, {goals[0]: film(120)})  # it shows by itself
    expect(samples).to_contain_text("Samples of v3 beside v2")
    assert drawn(samples.get_by_alt_text(f"{goals[0]}, as version 3 paints it")) == [120, 60, 90]
    expect(samples.get_by_role("img")).to_have_count(2)
    seat.page.get_by_role("button", name="v2: details").click()
    older = seat.page.get_by_role("listitem").filter(has=seat.page.get_by_role("button", name="v2: details"))
    assert drawn(older.get_by_alt_text(f"{goals[1]}, as version 1 paints it")) == [40, 60, 90]
    picture(seat, "samples")


def test_a_version_whose_samples_are_not_kept_any_more_says_so(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str
) -> None:
    server.client.send("publish_checkpoint", run=run)
    server.client.show_samples(run, 1, {"Opening the browser": film(40)})
    seat = visit()
    seat.page.route("**/api/v1/samples/*", lambda route: route.abort())
    seat.tab("Versions")
    expect(seat.page.get_by_role("region", name="Samples", exact=True)).to_contain_text(
        "The control server does not answer."
    )


def test_samples_that_came_are_in_the_log_of_events(
    visit: Visit, trainer: PretendTrainer, server: ServedProcess, run: str
) -> None:
    server.client.send("publish_checkpoint", run=run)
    server.client.show_samples(run, 1, {"Opening the browser": film(40)})
    told = server.client.history(run=run, types=[EventType.VERSION]).events
    assert [event.body["action"] for event in told] == ["published", "sampled"]
    seat = visit()
    seat.tab("Events")
    expect(seat.page.get_by_text("v1: its samples are painted")).to_be_visible()
