"""What the dashboard costs a browser: the bytes of its first load, the time to its first curve, and its frames.

A real server with a run of 5 branches, 20 metrics and 10,000 steps each, and one of 100,000 steps; a real Chromium
without a screen or a graphics card. Frames are measured in the page, by `requestAnimationFrame`, while steps stream in,
all charts are in view and the pointer moves over them. Before and after each of them the same is measured on an empty
page of the same size on which one thing moves, which is what this machine can do at best then: the ratio of the two is
what the dashboard costs.

    python -m benchmarks.dashboard [--json]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from auth.tokens import Scope, TokenStore
from benchmarks.result import Result, Target
from control import ActorConnection, ControlSettings, EventType
from control.protocol import Event
from control.server import ControlThread
from control.store import Store

CHROMIUM = os.environ.get("STOVETOP_CHROMIUM", "/usr/bin/chromium")
CHARTS, BRANCHES, STEPS = 20, 5, 10_000
LONG = 100_000
BATCH = 2_000
SECONDS = 8.0
BLANK_SECONDS = 3.0
FRAME = 1000 / 60
VIEW = ViewportSize(width=1920, height=2100)
"""All charts at once."""

TARGETS = (
    Target("first_load_gzip_kB", "<=", 200.0),
    Target("frame_p50_ms", "<=", 17.0),
    Target("frame_p95_ms", "<=", 34.0),
    Target("long_frame_p95_ms", "<=", 34.0),
)

BLANK = """<!doctype html><style>
body { margin: 0; height: 100vh; background: #111; }
div { width: 100%; height: 8px; background: #f84; }
</style><div></div><script>
const bar = document.querySelector("div");
const move = now => { bar.style.transform = `translateY(${now / 2 % innerHeight}px)`; requestAnimationFrame(move); };
requestAnimationFrame(move);
</script>"""

COLLECT = """seconds => new Promise(done => {
    const frames = [];
    let before = performance.now();
    const end = before + 1000 * seconds;
    const frame = now => {
        frames.push(now - before);
        before = now;
        if (now < end) requestAnimationFrame(frame); else done(frames.slice(1));
    };
    requestAnimationFrame(frame);
})"""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    arguments = parser.parse_args()
    result = Result("dashboard", TARGETS)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), result)
    result.show(as_json=arguments.json)


def measure(folder: Path, result: Result) -> None:
    """Fill a store, serve it, look at it."""
    settings = ControlSettings(port=0, data=folder / "control")
    store = Store(settings.data)
    write(store, "wide", CHARTS, BRANCHES, STEPS)
    write(store, "long", 1, 1, LONG)
    store.close()
    tokens = TokenStore(folder / "tokens.json")
    token = tokens.mint("operator", [Scope.OPERATE])
    server = ControlThread(settings, tokens).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            first_load(browser, server.url, token, result)
            blank = blank_page(browser)
            with streaming(server.url, token, "wide", STEPS):
                wide = wide_run(browser, server.url, token, result)
            blank += blank_page(browser)
            with streaming(server.url, token, "long", LONG):
                long = long_chart(browser, server.url, token, result)
            blank += blank_page(browser)
            for name, found in (("empty_page_frame", blank), ("frame", wide), ("long_frame", long)):
                note(found, result, name)
            for name, found in (("frame", wide), ("long_frame", long)):
                result.note(**{f"{name}_p95_ratio": p95(found) / p95(blank)})
            browser.close()
    finally:
        server.stop()
    result.remark(
        setting=f"{CHARTS} charts x {BRANCHES} branches x {STEPS:,} points, all in view at {VIEW['width']} x "
        f"{VIEW['height']}, drawn by the processor; steps stream in at 20 a second and the pointer moves"
    )


def write(store: Store, run: str, metrics: int, branches: int, steps: int) -> None:
    """The history of a run."""
    chance = random.Random(7)
    names = metric_names(metrics)
    for branch in range(branches):
        name = "main" if branch == 0 else f"branch-{branch}"
        events = [
            Event(
                time=1_800_000_000 + step,
                run=run,
                type=EventType.METRICS,
                branch=name,
                step=step,
                body={each: curve(step, index, branch, chance) for index, each in enumerate(names)},
            )
            for step in range(1, steps + 1)
        ]
        for start in range(0, steps, BATCH):
            store.append(events[start : start + BATCH])


def curve(step: int, metric: int, branch: int, chance: random.Random) -> float:
    """A loss, as losses look."""
    return (0.1 + 0.02 * branch + math.exp(-step / (2000 + 300 * metric))) * (1 + 0.1 * chance.random())


def enter(browser: Browser, url: str, token: str, run: str, stored: str = "") -> Page:
    """Open a run's page and wait for its first curve."""
    context = browser.new_context(viewport=VIEW)
    page = context.new_page()
    if stored:
        page.add_init_script(stored)
    page.goto(f"{url}/#run={run}&token={token}")
    page.locator(".chart-plot canvas").first.wait_for(timeout=60_000)
    page.wait_for_function("document.querySelector('.chart-legend .mono')?.textContent !== '–'", timeout=60_000)
    return page


def first_load(browser: Browser, url: str, token: str, result: Result) -> None:
    """Bytes over the wire of what the page itself is made of."""
    context = browser.new_context(viewport=VIEW)
    page = context.new_page()
    session = context.new_cdp_session(page)
    paths: dict[str, str] = {}
    sizes: dict[str, float] = {}
    session.on("Network.responseReceived", lambda told: paths.update({told["requestId"]: told["response"]["url"]}))
    session.on("Network.loadingFinished", lambda told: sizes.update({told["requestId"]: told["encodedDataLength"]}))
    session.send("Network.enable")
    page.goto(f"{url}/#run=wide&token={token}")
    page.locator(".chart-plot canvas").first.wait_for(timeout=60_000)
    own = [size for request, size in sizes.items() if "/api/" not in paths.get(request, "")]
    result.note(first_load_gzip_kB=sum(own) / 1000, first_load_files=float(len(own)))
    context.close()


def blank_page(browser: Browser) -> list[float]:
    """Frames of an empty page on which one thing moves."""
    page = browser.new_page(viewport=VIEW)
    page.set_content(BLANK)
    page.wait_for_timeout(300)
    found = observed(page, BLANK_SECONDS)
    page.close()
    return found


def wide_run(browser: Browser, url: str, token: str, result: Result) -> list[float]:
    """Frames of the wide run with every chart shown."""
    chosen = "[" + ",".join(f'"{name}"' for name in metric_names(CHARTS)) + "]"
    began = time.perf_counter()
    page = enter(browser, url, token, "wide", f"localStorage.setItem('stovetop-charts', '{chosen}')")
    result.note(wide_first_curve_seconds=time.perf_counter() - began)
    shown = page.locator(".chart-plot canvas").count()
    if shown != CHARTS:
        raise RuntimeError(f"{shown} charts are shown, not {CHARTS}")
    page.wait_for_timeout(2_000)
    found = observed(page, SECONDS)
    page.context.close()
    return found


def long_chart(browser: Browser, url: str, token: str, result: Result) -> list[float]:
    """Frames of one chart of 100,000 steps."""
    began = time.perf_counter()
    page = enter(browser, url, token, "long")
    result.note(long_first_curve_seconds=time.perf_counter() - began, long_steps=float(LONG))
    page.wait_for_timeout(1_000)
    found = observed(page, BLANK_SECONDS)
    page.context.close()
    return found


def observed(page: Page, seconds: float) -> list[float]:
    """Milliseconds from frame to frame, while the pointer moves."""
    page.evaluate(f"void (window.collected = ({COLLECT})({seconds}))")
    end = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < end:
        page.mouse.move(900 + 300 * math.sin(turn / 15), 500 + 2 * (turn % 100))
        page.wait_for_timeout(30)
        turn += 1
    found: list[float] = page.evaluate("window.collected")
    return found


def metric_names(count: int) -> list[str]:
    """The loss, and what is measured beside it."""
    return ["loss", *(f"metric_{index:02d}" for index in range(1, count))]


def p95(intervals: list[float]) -> float:
    """The interval that one in twenty exceeds."""
    return statistics.quantiles(intervals, n=100)[94]


def note(intervals: list[float], result: Result, name: str) -> None:
    """Percentiles, and the share of frames that a screen of 60 a second would have missed."""
    cuts = statistics.quantiles(intervals, n=100)
    missed = sum(max(0, round(interval / FRAME) - 1) for interval in intervals)
    result.note(
        **{
            f"{name}_p50_ms": cuts[49],
            f"{name}_p95_ms": p95(intervals),
            f"{name}_dropped_percent": 100 * missed / (missed + len(intervals)),
        }
    )


@contextmanager
def streaming(url: str, token: str, run: str, step: int) -> Iterator[None]:
    """A trainer that does 20 steps a second on the run's main branch, from that step on."""
    over = threading.Event()
    chance = random.Random(3)
    line = ActorConnection(url, token, run=run, actor="trainer", kind="trainer", revision=0)
    names = metric_names(CHARTS if run == "wide" else 1)

    def train(step: int) -> None:
        while not over.wait(0.05):
            step += 1
            numbers = {each: curve(step, index, 0, chance) for index, each in enumerate(names)}
            line.tell(EventType.METRICS, numbers, step=step)

    line.start(10)
    thread = threading.Thread(target=train, args=(step,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        line.close("the benchmark is over")


if __name__ == "__main__":
    main()
