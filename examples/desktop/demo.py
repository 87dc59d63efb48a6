"""`make demo`: the whole loop on one machine, from visitors' clicks to the weights that answer the next visitors.

It measures the base model, brings the service up, lets visitors use the desktop while it learns from them, turns the
mixture while training runs, stops, measures the version that was served last, and writes the report.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import torch
from rich.console import Console
from rich.table import Table

from control import ClientError, CommandName, ControlClient
from examples.desktop.base_data import write_base_shards
from examples.desktop.evaluate import Evaluation, evaluate
from examples.desktop.findings import TASKS, Findings, quantile
from examples.desktop.gather import Served, Told, gather, hear, last_served, strips
from examples.desktop.model import Painter, load_base
from examples.desktop.report import poster, render
from stovetop.doors import Doors, choose_port
from stovetop.errors import StovetopError
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings, load_settings
from stovetop.supervisor import Role
from stovetop.up import Service

CONFIG = Path(__file__).parent / "stovetop.toml"
TRIALS = 100
SEATS = 4
PACE = 6.0
BASE_SAMPLES = 8_000
APP_PORT = 7860

BEGINNING = {"base": 0.5, "history": 0.0, "live": 0.5}
LATER = {"base": 0.35, "history": 0.3, "live": 0.35}
TURN_AT = 0.3
"""The share of the run after which the operator turns the mixture from BEGINNING to LATER."""


@dataclass(frozen=True)
class Plan:
    """One run of the demo."""

    output: Path
    seed: int
    minutes: float
    seats: int = SEATS
    pace: float = PACE

    @property
    def data(self) -> Path:
        """The service's data folder, a fresh one for each run."""
        return self.output / f"data-{self.seed}"

    @property
    def report(self) -> Path:
        """The page at the end."""
        return self.output / f"report-{self.seed}.html"


def run_demo(output: Path, *, seed: int, minutes: float) -> int:
    """Run it all; the exit status is 0 when every promise held, 1 otherwise."""
    end_on_sigterm()
    plan, console = Plan(output.absolute(), seed, minutes), Console()
    began = time.time()
    say = Progress(console, began)
    shutil.rmtree(plan.data, ignore_errors=True)
    plan.data.mkdir(parents=True)
    say.line("writing the base data: what scripted people do, without the two tasks")
    write_base_shards(plan.data / "base", BASE_SAMPLES)
    before = _measure(load_base(), "the base model", say)
    settings, opened, told = _live(plan, say)
    served = last_served(settings, plan.data / "evaluation", say.line)
    after = _measure(served.model, f"version {served.label}, which was served last", say)
    say.line("gathering what happened")
    shown = strips(load_base(), served.model)
    found = gather(settings, plan.data, seed, opened, time.time() - began, (before, after), shown, told)
    plan.report.write_text(render(found))
    (plan.output / f"film-{seed}.png").write_bytes(poster(shown))
    (plan.output / f"findings-{seed}.json").write_text(json.dumps(_summary(found), indent=2))
    say.done()
    _show(console, found, plan.report)
    return 0 if found.holds else 1


def _live(plan: Plan, say: Progress) -> tuple[Settings, float, Told]:
    """Let visitors come for a while; returns once everything has stopped, with the time at which the doors opened."""
    environment = {
        "STOVETOP_APP__BASE_SHARDS": str(plan.data / "base"),
        "STOVETOP_MIXTURE__WEIGHTS": json.dumps(BEGINNING),
        "STOVETOP_MIXTURE__SEED": str(plan.seed),
        "OMP_WAIT_POLICY": "PASSIVE",  # visitors, app and trainer share two cores: nobody is to spin
    }
    settings = load_settings(CONFIG, data=plan.data)
    service = Service(settings, CONFIG, environment, lambda doors: app_roles(plan, settings, doors))
    try:
        say.line("starting the service")
        service.start()
        page = await_app(service)
        opened = time.time()
        token = local_token(settings, Holder.OPERATOR)
        say.line(f"the desktop is at {page}")
        say.line(f"the control server is at {service.doors.control}/#token={token}")
        with ControlClient(service.doors.control, token) as client:
            _watch(plan, settings, client, say, opened)
            say.line("closing the doors; the last weights are published")
            _publish_last(client, settings, plan.data / "served.jsonl")
            return settings, opened, hear(client, settings.run)
    finally:
        service.close()


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an error would, so that it takes its service down with it.

    Only the first one does: what is on its way down is not interrupted. A process that is killed takes its roles along
    by their lifelines.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def app_roles(plan: Plan, settings: Settings, doors: Doors) -> Sequence[Role]:
    """The deployed app and its visitors, kept alive like the rest."""
    port = choose_port("app", "127.0.0.1", APP_PORT, None)
    app = (
        *(sys.executable, "-m", "examples.desktop.app", "--port", str(port), "--gateway", doors.gateway),
        *("--token-file", str(settings.secrets / Holder.APP), "--hub", doors.hub, "--public-key", doors.public_key),
        *("--cache", str(plan.data / "follower"), "--journal", str(plan.data / "served.jsonl")),
        *("--control", doors.control, "--run", settings.run),
    )
    visitors = (
        *(sys.executable, "-m", "examples.desktop.visitors", "--url", f"ws://127.0.0.1:{port}/ws"),
        *("--journal", str(plan.data / "visits.jsonl"), "--seats", str(plan.seats), "--pace", str(plan.pace)),
        *("--seed", str(plan.seed)),
    )
    return [Role("app", app), Role("visitors", visitors)]


def await_app(service: Service) -> str:
    """The address of the app, once it answers."""
    page = f"http://127.0.0.1:{_app_port(service)}/"
    _await_page(page, service)
    return page


def _app_port(service: Service) -> str:
    command = list(service.role("app").command)
    return str(command[command.index("--port") + 1])


def _await_page(page: str, service: Service) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        try:
            if httpx.get(f"{page}readyz", timeout=2.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise StovetopError(f"the app does not answer at {page}; see {service.settings.data / 'logs' / 'app.log'}")
        time.sleep(0.1)


def _watch(plan: Plan, settings: Settings, client: ControlClient, say: Progress, opened: float) -> None:
    """Wait for the visitors' time to be over, turning the mixture on the way, and saying how it goes."""
    turned = False
    end = opened + plan.minutes * 60.0
    while time.time() < end:
        if not turned and time.time() > opened + TURN_AT * plan.minutes * 60.0:
            turned = True
            _turn(client, settings, say)
        say.pulse(_pulse(client, settings, plan.data, end))
        time.sleep(2.0)


def _turn(client: ControlClient, settings: Settings, say: Progress) -> None:
    record = client.send(
        CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS,
        {"weights": LATER},
        run=settings.run,
        author="operator of the demo",
        note="there is a history by now: repeat some of it",
    )
    say.line(
        f"mixture → {LATER}: {record.outcome.value if record.outcome else 'open'}, first seen at step {record.step}"
    )


def _pulse(client: ControlClient, settings: Settings, data: Path, end: float) -> str:
    try:
        run = client.run(settings.run)
    except ClientError as error:  # before the trainer's first word, or while the server starts again
        return f"waiting for the trainer ({error})"
    values = run.metrics.values if run.metrics else {}
    parts = [f"{max(0, end - time.time()):.0f} s left", f"step {run.step or 0}"]
    if values.get("loss") is not None:
        parts.append(f"loss {values['loss']:.4f}")
    newest = Served.newest(data / "served.jsonl")
    parts.append(f"serving {newest.label if newest else 'the base'}")
    tries = [json.loads(line) for line in _lines(data / "visits.jsonl")]
    for goal in TASKS:
        recent = [entry["seen"] for entry in tries if entry["goal"] == goal.value][-20:]
        if recent:
            parts.append(f"{goal} {sum(recent)}/{len(recent)}")
    return ", ".join(parts)


def _publish_last(client: ControlClient, settings: Settings, served: Path) -> None:
    """Publish what is there now, and wait until the app serves it."""
    try:
        client.send(CommandName.PUBLISH_CHECKPOINT, {}, run=settings.run, author="operator of the demo", timeout=30)
    except ClientError:  # what was published before then counts
        return
    deadline = time.monotonic() + 30.0
    wanted = max((version.version for version in client.versions(settings.run).versions), default=0)
    while time.monotonic() < deadline:
        newest = Served.newest(served)
        versions = client.versions(settings.run).versions
        wanted = max((version.version for version in versions), default=wanted)
        if newest is not None and newest.version is not None and newest.version >= wanted > 0:
            return
        time.sleep(0.5)


def _measure(model: Painter, what: str, say: Progress) -> Evaluation:
    say.line(f"measuring {what}: {TRIALS} held-out trials of each task, the model running freely")
    torch.set_num_threads(2)
    found = evaluate(model, count=TRIALS)
    rates = ", ".join(f"{score.goal} {score.rate:.0%}" for score in found.scores)
    say.line(rates)
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.endswith("}")]


def _summary(found: Findings) -> dict[str, object]:
    """The figures of the table, for programs."""
    return {
        "seed": found.seed,
        "seconds": found.seconds,
        "targets": [{"name": t.name, "value": t.value, "rule": t.rule, "holds": t.holds} for t in found.targets()],
        "sessions": found.sessions,
        "steps": found.steps,
        "train_steps": found.train_steps,
        "versions": len(found.versions),
        "click_to_served_median": quantile(found.lags, 0.5),
        "click_to_served_p95": quantile(found.lags, 0.95),
        "live_samples": found.live_samples,
        "never_trained": found.never_trained,
    }


def _show(console: Console, found: Findings, report: Path) -> None:
    table = Table("", "before", "after", "promised", title="What came of it", title_justify="left")
    for goal in TASKS:
        table.add_row(str(goal), _scored(found.before, goal), _scored(found.after, goal), "≤ 10 %, then ≥ 90 %")
    base = (f"{found.base_rate(found.before):.1%}", f"{found.base_rate(found.after):.1%}")
    table.add_row("base tasks", *base, "at most 5 points worse")
    console.print(table)
    console.print(
        f"{found.sessions} sessions, {found.steps} steps, {len(found.versions)} versions published, "
        f"{found.train_steps} optimizer steps; click to served: median {quantile(found.lags, 0.5):.1f} s, "
        f"p95 {quantile(found.lags, 0.95):.1f} s; {found.never_trained:.1%} of live samples were never trained on"
    )
    verdict = "[green]every promise held[/green]" if found.holds else "[red]a promise did not hold[/red]"
    console.print(f"{verdict}\nreport: {report}", soft_wrap=True)


def _scored(evaluation: Evaluation, goal: object) -> str:
    score = next(score for score in evaluation.scores if score.goal is goal)
    low, high = score.interval
    return f"{score.rate:.0%} ({low:.0%} to {high:.0%})"


class Progress:
    """Says what is going on: a line for each stage, and a pulse in between that never stops for long."""

    def __init__(self, console: Console, began: float, every: float = 15.0) -> None:
        self._console = console
        self._began = began
        self._every = every
        self._pulsed = 0.0
        self._open = False

    def line(self, text: str) -> None:
        """A new stage."""
        self.done()
        self._console.print(f"[dim]{self._clock()}[/dim] {text}", highlight=False, soft_wrap=True)

    def pulse(self, text: str) -> None:
        """How it goes: rewritten in place on a terminal, now and then elsewhere."""
        if self._console.is_terminal:
            self._console.file.write(f"\r\x1b[2K{self._clock()} {text}"[: self._console.width + 8])
            self._console.file.flush()
            self._open = True
        elif time.monotonic() - self._pulsed >= self._every:
            self._pulsed = time.monotonic()
            self._console.print(f"{self._clock()} {text}", highlight=False, soft_wrap=True)

    def done(self) -> None:
        """End a pulse's line."""
        if self._open:
            self._console.file.write("\n")
            self._open = False

    def _clock(self) -> str:
        seconds = int(time.time() - self._began)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
