"""The paper's fourteen days: 746 sessions with 88,000 transitions, posted over HTTP into Kafka, annotated, archived, read.

    python -m benchmarks.fortnight [--sessions N] [--steps N] [--frame-bytes N] [--json]

A transition is a step with its frame; the annotator passes frames through, so that each step is a sample. Visitors,
gateway, broker, annotator and archiver are processes of their own, and this one reads what the dataset's live source
gives. The stages run at the same time, as in production: each one's seconds count from the first step posted to its own
end, and its rate is that of all steps over these.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from auth.tokens import Scope, TokenStore
from benchmarks.broker import broker
from benchmarks.ingest import TOKEN, gateways
from benchmarks.result import Result
from dataset import LiveSource, Share
from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions
from ingest.keeper_look import Look
from ingest.log import LogReader
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore
from ingest.types import SAMPLES, STEPS

SESSIONS, TRANSITIONS = 746, 88_000
FRAME_BYTES = 2_000
LIMIT = 900.0
"""Seconds after which it is given up, and told which stage had not come to its end."""
LOOK = 0.5
STAGES = ("posted", "annotated", "archived", "read")


def run(sessions: int, steps: int, frame_bytes: int) -> Result:
    """Everything once."""
    result = Result("fortnight")
    with (
        tempfile.TemporaryDirectory(prefix="stovetop-fortnight-") as name,
        broker(Path(name) / "kafka") as servers,
    ):
        folder = Path(name)
        TokenStore(folder / "tokens.json").add("bench", [Scope.INGEST], TOKEN)
        with gateways(folder, servers, 1, shares=1) as running:
            prefix = running.prefix
            log = KafkaLog(servers, KafkaLayout(prefix, 4, 1), KafkaOptions(topic_prefix=prefix, lease_seconds=2.0))
            with pipeline(folder, servers, prefix):
                work = Work(log, DirectoryStore(folder / "shards"), steps)
                seconds = work.run(running.urls[0], sessions, frame_bytes)
            running.look()
            result.note(gateway_rss_mb=running.peak / 1e6)
        entries, size = archived(work.store)
    result.note(sessions=sessions, steps=steps, step_megabytes=steps * frame_bytes / 1e6)
    for stage in STAGES:
        result.note(**{f"{stage}_seconds": seconds[stage], f"{stage}_steps_per_s": steps / seconds[stage]})
    result.note(wall_seconds=max(seconds.values()), archived_samples=entries, archive_megabytes=size / 1e6)
    result.remark(wall_seconds=f"with all processes on the same {os.cpu_count()} processors")
    if entries != steps:
        raise SystemExit(f"{steps} steps were posted, but {entries} samples are in the archive")
    return result


@contextmanager
def pipeline(folder: Path, servers: str, prefix: str) -> Iterator[None]:
    """Annotator and archiver, in processes of their own."""
    command = [sys.executable, "-m", "benchmarks.pipelines", str(folder), servers, prefix]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"the pipeline ended with status {process.returncode}")
    finally:
        process.terminate()
        process.wait(60)


class Work:
    """The stages of one run."""

    def __init__(self, log: KafkaLog, store: DirectoryStore, steps: int) -> None:
        self.log, self.store, self.steps = log, store, steps
        self.seen = 0
        self._read_at = 0.0
        self._over = threading.Event()

    def run(self, url: str, sessions: int, frame_bytes: int) -> dict[str, float]:
        """The seconds from the start to the end of each stage."""
        reading = threading.Thread(target=self._read)
        reading.start()
        command = [sys.executable, "-m", "benchmarks.visitors", url, TOKEN]
        arguments = [str(sessions), str(self.steps), str(frame_bytes)]
        began = time.monotonic()
        visitors = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            told, _ = visitors.communicate(timeout=LIMIT)
            if visitors.returncode or json.loads(told)["steps"] != self.steps:
                raise SystemExit("not all was posted; what the visitors said stands above")
            done = {"posted": time.monotonic()}
            with closing(self.log.reader()) as reader:
                ends = {topic: [reader.bounds(topic, number).end for number in range(4)] for topic in (STEPS,)}
                done["annotated"] = self._await("annotated", began, lambda: self._annotated(reader, ends[STEPS]))
                ends[SAMPLES] = [reader.bounds(SAMPLES, number).end for number in range(4)]
                done["archived"] = self._await("archived", began, lambda: self._archived(reader, ends))
            self._await("read", began, lambda: self._read_at > 0.0)
        finally:
            self._over.set()
            visitors.kill()
            reading.join()
        done["read"] = self._read_at
        return {stage: at - began for stage, at in done.items()}

    def _await(self, stage: str, began: float, true: Callable[[], bool]) -> float:
        while not true():
            if time.monotonic() - began > LIMIT:
                raise SystemExit(f"not {stage} within {LIMIT:g} s; {self.seen} of {self.steps} samples were read")
            time.sleep(LOOK)
        return time.monotonic()

    def _annotated(self, reader: LogReader, ends: list[int]) -> bool:
        look = Look(self.log, reader, self.store)
        return all(end == 0 or look.annotated(number, end) for number, end in enumerate(ends))

    def _archived(self, reader: LogReader, ends: dict[str, list[int]]) -> bool:
        look = Look(self.log, reader, self.store)
        return all(
            look.archived(topic, number, end) for topic, of_topic in ends.items() for number, end in enumerate(of_topic)
        )

    def _read(self) -> None:
        with closing(LiveSource(self.log).open(Share(0, 1), {})) as reader:
            while self.seen < self.steps and not self._over.is_set():
                if reader.poll() is None:
                    time.sleep(0.005)
                else:
                    self.seen += 1
            self._read_at = time.monotonic()


def archived(store: DirectoryStore) -> tuple[int, int]:
    """How many samples the archive has, and how many bytes all of its files."""
    entries = sum(ShardChain(store, SAMPLES, number).count() for number in range(4))
    return entries, sum(path.stat().st_size for path in store.root.rglob("*.tar"))


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="of the fourteen days")
    parser.add_argument("--steps", type=int, default=TRANSITIONS, help="in all of them")
    parser.add_argument("--frame-bytes", type=int, default=FRAME_BYTES, help="of the frame that each step has")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    run(given.sessions, given.steps, given.frame_bytes).show(as_json=given.json)


if __name__ == "__main__":
    main()
