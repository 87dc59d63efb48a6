"""Takes the pictures of the dashboard for the README, of the desktop's real service in training.

    python -m examples.screenshot [--out docs/images] [--steps 250]

Visitors use the desktop, its model trains on what they do, an operator turns some knobs, and a browser without a screen
looks at it, in dark and in light. Needs the built dashboard and a Chromium (STOVETOP_CHROMIUM, else /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, TimeoutError, ViewportSize, sync_playwright
from rich.console import Console

from control import ClientError, CommandName, ControlClient
from examples.desktop.base_data import write_base_shards
from examples.desktop.demo import BEGINNING, CONFIG, LATER, Plan, app_roles, await_app, end_on_sigterm
from stovetop.errors import StovetopError
from stovetop.secrets import Holder, local_token
from stovetop.settings import load_settings
from stovetop.up import Service

CHROMIUM = os.environ.get("STOVETOP_CHROMIUM", "/usr/bin/chromium")
VIEW = ViewportSize(width=1440, height=1330)
LARGEST = 400_000
"""Bytes of one picture: a README is read over slow lines, too."""

COLOURS = 192
BASE_SAMPLES = 2_000
SEATS, PACE = 2, 3.0
"""Visitors, and what each does in a second: little enough that a slow machine trains on it as it comes."""

PUBLISH_SECONDS = 20
PATIENCE = 900.0
SETTLING = 60_000
"""Milliseconds in which a link that lags behind may catch up before it is shown as it is."""

NAMES = {"dark": "dashboard.png", "light": "dashboard-light.png"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Take the pictures of the dashboard.")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--steps", type=int, default=250, help="optimizer steps before the pictures are taken")
    given = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        for name, data in take(Path(folder), given.steps).items():
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / name).write_bytes(data)
            Console().print(f"{given.out / name}: {len(data):,} bytes", highlight=False)


def take(folder: Path, steps: int) -> dict[str, bytes]:
    """The pictures by name, of a service that has trained for so many steps."""
    plan = Plan(folder, seed=1, minutes=0, seats=SEATS, pace=PACE)
    plan.data.mkdir(parents=True)
    write_base_shards(plan.data / "base", BASE_SAMPLES)
    settings = load_settings(CONFIG, data=plan.data)
    environment = {
        "STOVETOP_APP__BASE_SHARDS": str(plan.data / "base"),
        "STOVETOP_TRAIN__PUBLISH_SECONDS": str(PUBLISH_SECONDS),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    service = Service(settings, CONFIG, environment, lambda doors: app_roles(plan, settings, doors))
    try:
        service.start()
        await_app(service)
        token = local_token(settings, Holder.OPERATOR)
        with ControlClient(service.doors.control, token) as client:
            operate(client, settings.run, steps)
            return pictures(f"{service.doors.control}/#run={settings.run}&token={token}")
    finally:
        service.close()


def operate(client: ControlClient, run: str, steps: int) -> None:
    """What an operator does in the course of a day, in a few minutes."""
    mixture, optimizer = CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS, CommandName.UPDATE_OPTIMIZER
    reaches(client, run, 1)
    client.send(mixture, {"weights": BEGINNING}, run=run, author="maria", note="nothing in the archive yet")
    reaches(client, run, steps // 3)
    client.send(optimizer, {"lr": {"scale": 0.5}}, run=run, author="maria", note="the curve flattens")
    reaches(client, run, 2 * steps // 3)
    client.send(mixture, {"weights": LATER}, run=run, author="ken", note="there is a history by now: repeat some of it")
    client.send(CommandName.SAVE_CHECKPOINT, {}, run=run, author="ken")
    reaches(client, run, steps)


def reaches(client: ControlClient, run: str, step: int) -> None:
    """Wait until training has come so far."""

    def there() -> bool:
        try:
            known = {found.run: found for found in client.runs().runs}
        except ClientError:  # too busy to answer, or on its way up again
            return False
        return run in known and (known[run].step or 0) >= step

    until(there, f"step {step} of {run}")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true. Raises StovetopError where it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise StovetopError(f"{what} did not come about within {PATIENCE:.0f} s")
        time.sleep(0.5)


def pictures(address: str) -> dict[str, bytes]:
    """The page in both colour schemes."""
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme, name in NAMES.items():
            context = browser.new_context(viewport=VIEW, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(address)
            await_whole(page)
            found[name] = small(page.screenshot(animations="disabled"))
            context.close()
        browser.close()
    return found


def await_whole(page: Page) -> None:
    """Wait until the page is connected, has its curves, and every link of the way is whole."""
    page.set_default_timeout(PATIENCE * 1000)
    page.locator('[data-testid="connection"][data-state="connected"]').wait_for()
    page.locator('[data-link="served"][data-flow="flows"]').wait_for()
    page.locator('[data-flow="broken"], [data-flow="absent"]').first.wait_for(state="detached")
    page.locator(".source").first.wait_for()
    with suppress(TimeoutError):
        page.locator('[data-flow="behind"]').first.wait_for(state="detached", timeout=SETTLING)
    page.wait_for_timeout(1_500)


def small(picture: bytes) -> bytes:
    """The same with a palette, where it is too large without."""
    if len(picture) <= LARGEST:
        return picture
    packed = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main()
