"""The paper's fourteen days: 746 sessions with 88,000 transitions, posted over HTTP into Kafka, annotated, archived, read.

    python -m benchmarks.fortnight [--sessions 746] [--json]

A step carries its frame as a PNG-sized member of 10 KB; the annotator passes frames through. The stages run at the same
time, as in production; each stage's rate counts from the first step posted until its own end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from auth.tokens import Scope, TokenStore
from benchmarks.broker import broker
from benchmarks.ingest import TOKEN, _await_ready, _program
from benchmarks.result import Result
from dataset import LiveSource, Share
from ingest.annotator_worker import AnnotatorSettings
from ingest.archive_lane import ArchiverSettings
from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions
from ingest.pipeline import Pipeline, PipelineSettings
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore
from ingest.types import SAMPLES

SESSIONS, TRANSITIONS = 746, 88_000
STEP_BYTES = 10_000
TOGETHER = 32
PREFIX = "fortnight"


def run(sessions: int) -> Result:
    """Everything once."""
    result = Result("fortnight")
    each = round(TRANSITIONS / SESSIONS / TOGETHER) * TOGETHER
    steps = sessions * each
    with tempfile.TemporaryDirectory(prefix="stovetop-fortnight-") as name, broker(Path(name) / "kafka") as servers:
        folder = Path(name)
        TokenStore(folder / "tokens.json").add("bench", [Scope.INGEST], TOKEN)
        log = KafkaLog(servers, KafkaLayout(PREFIX, 4, 1), KafkaOptions(topic_prefix=PREFIX, lease_seconds=2.0))
        log.provide()
        store = DirectoryStore(folder / "shards")
        arguments = [str(folder), servers, PREFIX, "500000", "1", "0"]
        gateway = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateways", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert gateway.stdout is not None
        url = f"http://127.0.0.1:{int(gateway.stdout.readline())}"
        stop = threading.Event()
        settings = PipelineSettings(annotator=AnnotatorSettings(), archiver=ArchiverSettings(max_age=2.0))
        pipeline = Pipeline(settings, log, store)
        working = threading.Thread(target=pipeline.run, args=(stop,))
        try:
            _await_ready(url)
            working.start()
            _stages(url, sessions, steps, log, store, pipeline, result)
        finally:
            stop.set()
            working.join(60)
            gateway.terminate()
            gateway.wait(30)
    return result


def _stages(
    url: str, sessions: int, steps: int, log: KafkaLog, store: DirectoryStore, pipeline: Pipeline, result: Result
) -> None:
    done: dict[str, float] = {}
    read = threading.Thread(target=_read, args=(log, steps, done))
    began = time.monotonic()
    read.start()
    seats, posted = 16, 0
    while posted < sessions:  # sixteen visitors at a time, each with a session of its own
        now = min(seats, sessions - posted)
        share = steps // sessions * now
        _program(url, TOKEN, str(STEP_BYTES), str(TOGETHER), str(now), str(share), "0")
        posted += now
    done["posted"] = time.monotonic()
    read.join()
    while _archived(store) < steps:
        time.sleep(0.5)
    done["archived"] = time.monotonic()
    for stage in ("posted", "read", "archived"):
        seconds = done[stage] - began
        result.note(**{f"{stage}_seconds": seconds, f"{stage}_steps_per_s": steps / seconds})
    result.note(sessions=sessions, steps=steps, megabytes=steps * STEP_BYTES / 1e6)
    health = pipeline.health.annotator
    if health is not None:
        result.note(annotated_steps=health.steps)


def _read(log: KafkaLog, steps: int, done: dict[str, float]) -> None:
    reader = LiveSource(log).open(Share(0, 1), {})
    seen = 0
    while seen < steps:
        if reader.poll() is None:
            time.sleep(0.005)
        else:
            seen += 1
    done["read"] = time.monotonic()
    reader.close()


def _archived(store: DirectoryStore) -> int:
    return sum(sum(1 for _ in ShardChain(store, SAMPLES, partition).samples()) for partition in range(4))


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="that many of the fourteen days' sessions")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    run(max(1, given.sessions)).show(as_json=given.json)


if __name__ == "__main__":
    main()
