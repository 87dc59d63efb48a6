"""A built dashboard, a server, a trainer to steer and a browser to look through."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from control.server.pages import DIST
from tests.browser.pretend import PretendTrainer
from tests.browser.seat import Seat
from tests.control.servers import ServedProcess

DASHBOARD = DIST.parent
SCREENSHOTS = Path(__file__).parent / "screenshots"
CHROMIUM = os.environ.get("STOVETOP_CHROMIUM", "/usr/bin/chromium")
BUILD_SECONDS = 300
PATIENCE = 60_000  # milliseconds: for machines with more to do than this
expect.set_options(timeout=PATIENCE)

# What a browser says of requests that fail, which is what some tests are about.
EXPECTED = re.compile(r"Failed to load resource|WebSocket connection to .* failed|ERR_CONNECTION")


@pytest.fixture(scope="session")
def dashboard() -> Path:
    """The built page, built anew where a source is younger. Without Node there is nothing to test, and that fails."""
    sources = [*(DASHBOARD / "src").rglob("*"), DASHBOARD / "index.html", DASHBOARD / "package-lock.json"]
    newest = max(path.stat().st_mtime for path in sources if path.is_file())
    index = DIST / "index.html"
    if index.is_file() and index.stat().st_mtime >= newest:
        return DIST
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail(f"{DIST} is not built, or older than its sources, and there is no npm to build it: install Node 20")
    if not (DASHBOARD / "node_modules").is_dir():
        _npm(npm, "ci")
    _npm(npm, "run", "build")
    return DIST


def _npm(npm: str, *arguments: str) -> None:
    done = subprocess.run([npm, *arguments], cwd=DASHBOARD, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if done.returncode != 0:
        pytest.fail(f"npm {' '.join(arguments)} in {DASHBOARD} failed:\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium without a screen, and gone with the module: Playwright keeps an event loop running in this
    thread, beside which nobody else's `asyncio.run` would work."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"no Chromium at {CHROMIUM}: install one, or set STOVETOP_CHROMIUM to its path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server(dashboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    """A control server as a process of its own; each test has its own run on it."""
    process = ServedProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.close()


@pytest.fixture
def mortal_server(dashboard: Path, tmp_path: Path) -> Iterator[ServedProcess]:
    """A server of the test's own, to be killed."""
    process = ServedProcess(tmp_path)
    yield process
    process.close()


@pytest.fixture
def run() -> str:
    """The name of this test's run."""
    return f"run-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def trainer(server: ServedProcess, run: str) -> Iterator[PretendTrainer]:
    """A trainer that has done 60 steps and goes on."""
    started = PretendTrainer(server.url, server.tokens.operate, run).start(history=60)
    yield started
    started.close()


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest, run: str) -> Iterator[Callable[..., Seat]]:
    """Opens the dashboard in a browser of its own. At the end, no page may have complained or called elsewhere."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(page: Page, home: str) -> None:
        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not EXPECTED.search(message.text):
                complaints.append(message.text)

        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: _stays_home(asked.url, home, complaints))

    def open_page(token: str | None = None, url: str | None = None, **options: Any) -> Seat:
        if url is None or token is None:
            server = request.getfixturevalue("server")
            url, token = url or server.url, server.tokens.operate if token is None else token
        context = browser.new_context(**({"viewport": {"width": 1440, "height": 1000}} | options))
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        listen(page, url)
        seat = Seat(page, url, run)
        seat.enter(token)
        return seat

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _stays_home(url: str, home: str, complaints: list[str]) -> None:
    own = (home, home.replace("http", "ws", 1), "data:", "blob:")
    if not url.startswith(own):
        complaints.append(f"the page called {url}")


@pytest.fixture
def picture() -> Callable[[Seat, str], Path]:
    """Keeps a screenshot, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)

    def take(seat: Seat, name: str) -> Path:
        path = SCREENSHOTS / f"{name}.png"
        seat.page.screenshot(path=path, animations="disabled")
        return path

    return take


EXAMINE = """async () => {
  const passing = document.getAnimations().filter(each => isFinite(each.effect.getComputedTiming().endTime))
  await Promise.allSettled(passing.map(each => each.finished))  // a colour on its way to another has no contrast yet
  return (await axe.run(document)).violations
}"""


@pytest.fixture
def examine(dashboard: Path) -> Callable[[Seat, str], None]:
    """Lets axe look at what a page shows now; it may find nothing."""
    axe = (dashboard.parent / "node_modules" / "axe-core" / "axe.min.js").read_text()

    def look(seat: Seat, where: str) -> None:
        if not seat.page.evaluate("'axe' in window"):
            seat.page.evaluate(axe)
        violations = seat.page.evaluate(EXAMINE)
        found = [
            f"{each['id']}: {each['nodes'][0]['html']}\n{each['nodes'][0]['failureSummary']}" for each in violations
        ]
        assert found == [], where

    return look
