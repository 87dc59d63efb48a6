"""A stream that is killed for real, again and again, while samples arrive: each is used once.

Quick enough for many trials; `tests/trainer/test_kills.py` does the same to a model's training.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import annotated, key
from tests.dataset.train_forever import train_forever
from tests.forks import Forked

PRELOAD = ("tests.dataset.train_forever",)
PATIENCE = 1800
"""Seconds that one life may take: each starts up to four workers, on whatever the machine has left."""
BACKLOG = 60
"""Samples that wait, at most: while a life is slow to begin, no more arrive than the last one can train."""


def trained(checkpoint: Path) -> list[str]:
    return json.loads(checkpoint.read_text())["trained"] if checkpoint.exists() else []


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("lives", [50])
def test_kill_9_at_any_moment_loses_and_repeats_no_live_sample(tmp_path: Path, lives: int) -> None:
    """Each life loads with another number of workers than the one before."""
    checkpoint = tmp_path / "checkpoint.json"
    writer = SqliteLog(tmp_path / "log", Layout(partitions=2)).writer("annotator")
    sent: list[str] = []
    workers: set[int] = set()
    chance = random.Random(7)

    def send(count: int) -> None:
        keys = [key(len(sent) + number) for number in range(count)]
        writer.commit([annotated(len(sent) % 2, keys, time.time())])
        sent.extend(keys)

    for life in range(lives):
        count = (0, 2, 4)[life % 3]
        process = Forked(PRELOAD, train_forever, tmp_path / "log", checkpoint, count)
        process.start()
        try:
            target = len(trained(checkpoint)) + 15
            deadline = time.monotonic() + PATIENCE
            last = life == lives - 1
            while (done := len(trained(checkpoint))) < target or (last and done < len(sent)):
                assert process.is_alive()
                assert time.monotonic() < deadline, f"life {life}: {done} trained of {len(sent)}, wanted {target}"
                if done < target and len(sent) < done + BACKLOG:
                    send(chance.randrange(1, 4))
                time.sleep(chance.random() / 100)
        finally:
            process.kill()
            process.join()
        own = json.loads(checkpoint.read_text())["workers"]
        assert len(own) == count
        workers.update(own)
    writer.close()
    assert Counter(trained(checkpoint)) == Counter(sent)
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(each) for each in workers):  # none outlives its training
        assert time.monotonic() < deadline
        time.sleep(0.05)
