"""The deployed desktop's own page in a real browser: what a person does on it is painted, and is in the log."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from examples.desktop import screen
from examples.desktop.model import load_base
from ingest.types import Step, StepsAppended
from publish import DirectoryHub, Outbox, Publisher, SigningKey, put
from stovetop.lifeline import LIFELINE
from tests.ingest.gateways import INGEST, RunningGateway, running, stored
from tests.publish.parts import ticket
from tests.waiting import until

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Deployed:
    """The app as a process, the gateway that it posts to, and the folder with the hub that it follows."""

    url: str
    gateway: RunningGateway
    folder: Path


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The desktop with its packaged base model, under a supervisor's lifeline, which is how it is ended."""
    tmp_path = tmp_path_factory.mktemp("desktop")
    key = SigningKey.load_or_create(tmp_path / "publisher.key")
    DirectoryHub(tmp_path / "hub", create=True)
    (tmp_path / "app.token").write_text(INGEST)
    port = _free_port()
    with running(tmp_path) as gateway:
        command = [
            *(sys.executable, "-m", "examples.desktop.app", "--port", str(port), "--gateway", gateway.url),
            *("--token-file", str(tmp_path / "app.token"), "--hub", str(tmp_path / "hub")),
            *("--public-key", str(key.public), "--cache", str(tmp_path / "cache")),
        ]
        read_end, write_end = os.pipe()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", LIFELINE: str(read_end)}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, pass_fds=(read_end,))
        os.close(read_end)
        try:
            yield Deployed(f"http://127.0.0.1:{port}/", gateway, tmp_path)
        finally:
            os.close(write_end)  # as the kernel does when a supervisor is killed
            process.wait(60)


@pytest.fixture
def page(browser: Browser, deployed: Deployed) -> Iterator[Page]:
    """The page, connected; at the end it may have complained of nothing."""
    complaints: list[str] = []
    opened = browser.new_page(viewport={"width": 900, "height": 800})
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    until(lambda: _answers(opened, deployed.url), "the app answers")
    expect(opened.locator("#state")).to_have_text("connected")
    expect(opened.locator("#step")).to_have_text(re.compile(r"\d+"))
    yield opened
    opened.close()
    assert complaints == []


def test_a_window_opens_under_the_mouse_and_every_step_is_in_the_log(page: Page, deployed: Deployed) -> None:
    title = (screen.WINDOW.x + 2, screen.WINDOW.y + 1)
    before = colour(page, *title)
    click(page, screen.NOTES_ICON.x + 2, screen.NOTES_ICON.y + 2)
    until(lambda: colour(page, *title) != before, "the window is painted")
    expect(page.locator("#version")).to_have_text("base")
    page.locator("#reset").click()
    until(lambda: colour(page, *title) == before, "the desk is painted")
    until(
        lambda: any(step.is_reset for steps in posted(deployed).values() for step in steps), "the reset is in the log"
    )
    sessions = posted(deployed)
    assert all([step.seq for step in steps] == list(range(len(steps))) for steps in sessions.values())
    steps = [step for steps in sessions.values() for step in steps]
    clicked = [step for step in steps if step.inputs and step.inputs.get("is_left_click")]
    assert len(clicked) == 1
    assert clicked[0].inputs is not None
    assert screen.NOTES_ICON.holds(clicked[0].inputs["x"], clicked[0].inputs["y"])
    assert clicked[0].model_version == "base"
    assert clicked[0].members


def test_the_page_says_which_version_paints_as_soon_as_one_is_published(page: Page, deployed: Deployed) -> None:
    expect(page.locator("#version")).to_have_text("base")
    key = SigningKey.load_or_create(deployed.folder / "publisher.key")
    outbox = Outbox(deployed.folder / "outbox")
    publisher = Publisher(DirectoryHub(deployed.folder / "hub"), outbox, key, keep=3)
    with outbox.served():
        put(deployed.folder / "outbox", lambda folder: load_base().save_pretrained(folder), ticket(7))
        publisher.step()
    expect(page.locator("#version")).to_have_text("000001")


def click(page: Page, x: int, y: int) -> None:
    """Click in the middle of a pixel of the painted screen."""
    canvas = page.locator("#screen")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(
        position={"x": (x + 0.5) * box["width"] / screen.WIDTH, "y": (y + 0.5) * box["height"] / screen.HEIGHT}
    )


def colour(page: Page, x: int, y: int) -> list[int]:
    """The colour that the canvas shows at a pixel of the painted screen."""
    shown: list[int] = page.evaluate(
        "([x, y]) => [...document.getElementById('screen').getContext('2d').getImageData(x, y, 1, 1).data]", [x, y]
    )
    return shown


def posted(deployed: Deployed) -> dict[str, list[Step]]:
    """All steps in the log, by session, in order."""
    found: dict[str, list[Step]] = {}
    for record in stored(deployed.gateway.log):
        if isinstance(record, StepsAppended):
            found.setdefault(record.session_id, []).extend(record.steps)
    return found


def _answers(page: Page, url: str) -> bool:
    try:
        page.goto(url)
    except Error:  # nobody listens there yet
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
