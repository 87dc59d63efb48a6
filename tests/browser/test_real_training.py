"""The dashboard over a real training: the paper's three lines, which know nothing of a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.seat import Seat

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
STEER = re.compile(r"steer this training at (\S+) with the token (\S+)")
STEPS = 100_000  # far more than it takes: the test stops it

Picture = Callable[[Seat, str], Path]


@dataclass(frozen=True)
class Training:
    """A process that trains, and what its log says of where to steer it."""

    process: subprocess.Popen[str]
    url: str
    token: str


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    """A tiny GPT-2 in training."""
    log = tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "three_lines.py"), str(tmp_path / "gpt2"), str(STEPS)],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
    try:
        yield Training(process, *_door(log, process))
    finally:
        process.kill()
        process.wait(10)


def _door(log: Path, process: subprocess.Popen[str]) -> tuple[str, str]:
    while process.poll() is None:
        found = STEER.search(log.read_text())
        if found:
            return found[1], found[2]
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the training ended before it could be steered:\n{log.read_text()}")


def test_a_real_training_is_paused_set_saved_branched_evaluated_and_stopped(
    visit: Callable[..., Seat], dashboard: Path, training: Training, picture: Picture
) -> None:
    seat = visit(token=training.token, url=training.url)
    seat.status("training")
    seat.passes(20)
    seat.press("Pause")
    seat.status("paused")
    at = seat.step()

    expect(seat.set_rate("2e-4")).to_contain_text(f"from step {at + 1}")
    seat.press("Save")
    expect(seat.command("save_checkpoint")).to_contain_text("done")
    seat.press("Evaluate")
    expect(seat.command("do_evaluate")).to_contain_text("done")
    assert seat.step() == at  # all of it without a step of training

    seat.press("Resume")
    seat.passes(at + 20)
    # The schedule is linear, so the rate that was set has gone down a little since.
    rates = dict(seat.points("Learning rate").newest)
    assert rates[at + 1][0] == pytest.approx(2e-4, rel=1e-2)
    assert rates[at][0] > 9e-4

    seat.tab("Checkpoints")
    seat.page.get_by_role("button", name=re.compile("^Load the checkpoint")).last.click()
    seat.page.get_by_label("Name of the new branch").fill("again")
    seat.press("Load as a new branch")
    expect(seat.command("load_checkpoint")).to_contain_text("done")
    branches = seat.page.get_by_role("region", name="Branches")
    expect(branches).to_contain_text("again in training")
    seat.passes(at + 5)
    picture(seat, "real-training")

    seat.press("Stop")
    seat.page.get_by_label("Save a checkpoint first").uncheck()
    seat.press("Stop without saving")
    assert training.process.wait(60) == 0
