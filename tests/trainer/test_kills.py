"""A real training that is killed for real, again and again, while samples arrive: each is trained once along the branch."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.trainer.livedata import key, open_log, post
from tests.trainer.lives import Life
from tests.waiting import until
from trainer import RunFolder, trained_along, trained_in

WORKERS = (0, 2, 4)


def trained(run: Path) -> list[str]:
    """The live samples along the newest segment's chain."""
    return [each for _, entry in trained_along(RunFolder(run)) for each in entry.keys.get("live", [])]


@pytest.mark.parametrize(
    "lives", [5, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(3000)])], ids=lambda lives: f"{lives}"
)
@pytest.mark.timeout(600)
def test_kill_9_at_any_moment_of_a_training_loses_and_repeats_no_live_sample(tmp_path: Path, lives: int) -> None:
    """Each life trains a model with another number of loading workers than the one before."""
    run, chance = tmp_path / "run", random.Random(11)
    writer = open_log(tmp_path / "log").writer("annotator")
    sent = 0
    workers: set[int] = set()

    def begun(count: int) -> Life:
        return Life(run, tmp_path / "log", data={"workers": count, "weights": {"base": 1, "live": 3}})

    def send() -> None:
        nonlocal sent
        count = chance.randrange(1, 4)
        post(writer, range(sent, sent + count))
        sent += count

    for number in range(lives):
        life = begun(WORKERS[number % 3])
        try:
            first, upto = life.said.count("step "), chance.randint(2, 9)
            deadline = time.monotonic() + 120
            while life.said.count("step ") < first + upto:  # samples arrive while it trains
                assert life.alive, life.said
                assert time.monotonic() < deadline, life.said
                if sent < 25 * (number + 1):  # however slow the machine is
                    send()
                time.sleep(0.02)
            time.sleep(chance.random() / 20)
            assert life.send(signal.SIGKILL) == -signal.SIGKILL
        finally:
            life.close()
        assert len(life.workers) == WORKERS[number % 3], life.said
        workers |= life.workers
    last = begun(2)
    try:
        deadline = time.monotonic() + 200
        while len(trained(run)) < sent:
            assert last.alive, last.said
            assert time.monotonic() < deadline, last.said
            time.sleep(0.1)
        assert last.send(signal.SIGTERM) == 0
        workers |= last.workers
    finally:
        last.close()
    writer.close()
    assert Counter(trained(run)) == Counter(key(number) for number in range(sent))
    folder = RunFolder(run)
    everything = [entry for segment in folder.segments() for entry in trained_in(folder.folder_of(segment.id))]
    assert len(everything) > len(list(trained_along(folder)))  # steps were undone by kills
    until(lambda: not any(psutil.pid_exists(each) for each in workers))  # no worker outlives its training
