"""A run of a hundred thousand steps on one chart: drawn whole, with the one step that sticks out, and read on live."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from control import ActorConnection, EventType
from control.protocol import Event
from control.store import Store
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

RUN = "long"
STEPS, BATCH = 100_000, 5_000
SPIKE_AT, SPIKE = 31_416, 40.0

TOPS = """canvas => {
    // The columns in which something of the curve's colour is in the upper half, as parts of the whole width.
    const wanted = getComputedStyle(document.documentElement).getPropertyValue("--series-1").trim();
    const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const probe = copy.getContext("2d", { willReadFrequently: true });
    probe.fillStyle = wanted;
    probe.fillRect(0, 0, 1, 1);
    const colour = probe.getImageData(0, 0, 1, 1).data;
    const { width, height } = canvas;
    probe.clearRect(0, 0, 1, 1);
    probe.drawImage(canvas, 0, 0);
    const over = canvas.closest(".uplot").querySelector(".u-over");
    const ratio = devicePixelRatio;
    const [left, top] = [over.offsetLeft * ratio, over.offsetTop * ratio];
    const [wide, high] = [over.offsetWidth * ratio, over.offsetHeight * ratio];
    const { data } = probe.getImageData(left, top, wide, Math.floor(high / 2));
    const found = new Set();
    for (let at = 0; at < data.length; at += 4) {
        const near = [0, 1, 2].every(part => Math.abs(data[at + part] - colour[part]) < 24);
        if (near && data[at + 3] > 16) found.add(((at / 4) % wide) / wide);
    }
    return [...found].sort((one, other) => one - other);
}"""


@pytest.fixture
def run() -> str:
    return RUN


@pytest.fixture
def long_server(dashboard: Path, tmp_path: Path) -> Iterator[ServedProcess]:
    """A server with the history of the run."""
    chance = random.Random(5)
    store = Store(tmp_path / "control")
    for first in range(1, STEPS + 1, BATCH):
        store.append([_event(step, chance) for step in range(first, first + BATCH)])
    store.close()
    process = ServedProcess(tmp_path)
    yield process
    process.close()


def _event(step: int, chance: random.Random) -> Event:
    loss = SPIKE if step == SPIKE_AT else (1 + 3 * math.exp(-step / 9_000)) * chance.uniform(0.9, 1.1)
    return Event(
        time=1_800_000_000 + step, run=RUN, type=EventType.METRICS, branch="main", step=step, body={"loss": loss}
    )


def test_a_hundred_thousand_steps_are_drawn_with_the_one_that_sticks_out_and_go_on(
    visit: Callable[..., Seat], long_server: ServedProcess, picture: Callable[[Seat, str], Path]
) -> None:
    line = ActorConnection(
        long_server.url, long_server.tokens.operate, run=RUN, actor="trainer", kind="trainer", revision=0
    )
    line.start(10)
    seat = visit(token=long_server.tokens.operate, url=long_server.url)
    canvas = seat.chart("Loss").locator("canvas")
    # One step in a hundred thousand: a mean over its neighbours would leave nothing of it in the upper half.
    seat.until(lambda: bool(canvas.evaluate(TOPS)))
    tops = canvas.evaluate(TOPS)
    assert tops[0] == pytest.approx(SPIKE_AT / STEPS, abs=0.02)
    assert tops[-1] == pytest.approx(SPIKE_AT / STEPS, abs=0.02)
    points = seat.points("Loss")
    assert points.steps[-1] == STEPS
    assert points.count <= 2_000  # what is sent is what can be seen

    for step in range(STEPS + 1, STEPS + 301):
        line.tell(EventType.METRICS, {"loss": 2.5}, step=step, branch="main")
    seat.passes(STEPS + 299)
    seat.until(lambda: seat.points("Loss").newest[-1] == (STEPS + 300, [2.5]))
    assert canvas.evaluate(TOPS)
    picture(seat, "long-run")

    # Around it, the same chart in detail.
    over = seat.chart("Loss").locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    middle, at = box["y"] + box["height"] / 2, box["x"] + box["width"] * SPIKE_AT / STEPS
    seat.page.mouse.move(at - 30, middle)
    seat.page.mouse.down()
    seat.page.mouse.move(at + 30, middle, steps=4)
    seat.page.mouse.up()
    expect(seat.page.get_by_role("button", name=re.compile("show all"))).to_be_visible()
    seat.until(lambda: 0.3 < canvas.evaluate(TOPS)[0] < 0.7)
    line.close("the test is over")
