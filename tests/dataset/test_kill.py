"""A run that is killed for real, again and again, while samples arrive: each is trained once."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from pathlib import Path

from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import annotated, key
from tests.dataset.train_forever import train_forever

PROCESSES = multiprocessing.get_context("forkserver")  # children begin without this process's connections


def trained(checkpoint: Path) -> list[str]:
    return json.loads(checkpoint.read_text())["trained"] if checkpoint.exists() else []


def test_kill_9_at_any_moment_loses_and_repeats_no_live_sample(tmp_path: Path) -> None:
    PROCESSES.set_forkserver_preload(["tests.dataset.train_forever"])
    checkpoint = tmp_path / "checkpoint.json"
    writer = SqliteLog(tmp_path / "log", Layout(partitions=2)).writer("annotator")
    sent: list[str] = []
    chance = random.Random(7)

    def send(count: int) -> None:
        keys = [key(len(sent) + number) for number in range(count)]
        writer.commit([annotated(len(sent) % 2, keys, time.time())])
        sent.extend(keys)

    for life in range(4):
        process = PROCESSES.Process(target=train_forever, args=(tmp_path / "log", checkpoint))
        process.start()
        try:
            target = len(trained(checkpoint)) + 15
            deadline = time.monotonic() + 100
            while len(trained(checkpoint)) < target or (life == 3 and len(trained(checkpoint)) < len(sent)):
                assert process.is_alive()
                assert time.monotonic() < deadline
                if len(trained(checkpoint)) < target:
                    send(chance.randrange(1, 4))
                time.sleep(chance.random() / 100)
        finally:
            process.kill()
            process.join()
    writer.close()
    assert Counter(trained(checkpoint)) == Counter(sent)
