"""The pipeline as processes: killed again and again under load, and what has come of every step afterwards."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ingest.annotator_state import annotator_progress
from ingest.annotator_worker import AnnotatorSettings
from ingest.archive_lane import ArchiverSettings
from ingest.pipeline import HUNG, PipelineSettings
from ingest.retention import steps_floor
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from ingest.types import SAMPLES, STEPS, SessionRecord, StepsAppended
from tests.ingest.conftest import Run
from tests.ingest.visits import annotated, append, interleaved, random_visit, reconcile, step, visit
from tests.waiting import until

PARTITIONS = 4
SETTINGS = PipelineSettings(
    annotator=AnnotatorSettings(plugin="tests.ingest.visits:Telling"),
    archiver=ArchiverSettings(max_count=40, max_age=0.3, poll_interval=0.05),
    metrics_port=0,
)


@pytest.fixture
def log(tmp_path: Path) -> SqliteLog:
    return SqliteLog(tmp_path / "log")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "shards")


def annotated_steps(log: SqliteLog) -> int:
    return sum(progress.done[0] for progress in annotator_progress(log).values())


def caught_up(log: SqliteLog) -> bool:
    reader = log.reader()
    progress = annotator_progress(log)
    ends = {partition: reader.bounds(STEPS, partition).end for partition in range(PARTITIONS)}
    reader.close()
    return all(
        end == 0 or (partition in progress and progress[partition].done[0] == end) for partition, end in ends.items()
    )


def archived(log: SqliteLog, store: DirectoryStore) -> bool:
    reader = log.reader()
    ends = {(topic, p): reader.bounds(topic, p).end for topic in (STEPS, SAMPLES) for p in range(PARTITIONS)}
    reader.close()
    return all(end == (ShardChain(store, *lane).next_offset or 0) for lane, end in ends.items())


@pytest.fixture
def load(log: SqliteLog) -> Iterator[Callable[..., threading.Thread]]:
    """Posts session records at a pace, as a gateway does, in a thread; at most so many `ahead` of the annotator."""
    writer = log.writer("gateway")
    threads: list[threading.Thread] = []

    def post(records: list[SessionRecord], ahead: int | None) -> None:
        for number, record in enumerate(records):
            if ahead is not None and number % 10 == 0:
                until(lambda: number < annotated_steps(log) + ahead)  # noqa: B023  # called at once
            writer.commit([append(record, PARTITIONS, time.time())])
            time.sleep(0.004)  # the pace of the load, not a wait for something

    def start(records: list[SessionRecord], ahead: int | None = None) -> threading.Thread:
        threads.append(threading.Thread(target=post, args=(records, ahead)))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join()
    writer.close()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9, and wait until no process that it had started is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "a process outlived the pipeline"


def in_shards(store: DirectoryStore) -> Iterator[tuple[str, bytes]]:
    for partition in range(PARTITIONS):
        for _, sample in ShardChain(store, SAMPLES, partition).samples():
            yield sample.key, next(iter(sample.members.values()))


def test_killed_again_and_again_each_step_has_one_outcome_and_each_sample_one_shard(
    log: SqliteLog, store: DirectoryStore, run_program: Run, load: Callable[..., threading.Thread]
) -> None:
    chance = random.Random()
    visits = [random_visit(f"s{number}", chance, ends=chance.random() < 0.9) for number in range(250)]
    records = list(interleaved(visits, chance))
    posting = load(records, ahead=50)
    under_load = 0
    for _ in range(5):
        process = run_program("run_pipeline", (SETTINGS, log, store))
        before = annotated_steps(log)
        until(lambda: caught_up(log) or annotated_steps(log) > before)  # noqa: B023
        time.sleep(chance.random() * 0.5)  # the moment of the kill
        assert process.poll() is None
        kill(process)
        under_load += posting.is_alive()
    assert under_load >= 1
    process = run_program("run_pipeline", (SETTINGS, log, store))
    assert process.stdout is not None
    process.stdout.readline()  # it runs
    until(lambda: not posting.is_alive() and caught_up(log) and archived(log, store))
    process.terminate()
    assert process.wait(30) == 0
    samples = reconcile(log, records)
    archive = list(in_shards(store))
    assert Counter(key for key, _ in archive) == Counter(sample.key for sample in samples)
    assert dict(archive) == {sample.key: next(iter(sample.members.values())) for sample in samples}
    steps = Counter(
        (each.session_id, each.seq) for record in records if isinstance(record, StepsAppended) for each in record.steps
    )
    assert steps == Counter(
        (each.session_id, each.seq)
        for partition in range(PARTITIONS)
        for _, record in ShardChain(store, STEPS, partition).records()
        if isinstance(record, StepsAppended)
        for each in record.steps
    )


def test_it_stops_in_order_with_everything_committed_and_published(
    log: SqliteLog, store: DirectoryStore, run_program: Run, load: Callable[..., threading.Thread]
) -> None:
    records = visit("a", [step("a", seq, 1) for seq in range(9)])
    slow = SETTINGS.model_copy(update={"archiver": ArchiverSettings(max_age=3600.0)})
    process = run_program("run_pipeline", (slow, log, store))
    assert process.stdout is not None
    process.stdout.readline()  # it runs
    load(records).join()
    until(lambda: caught_up(log))
    assert steps_floor(log, store, append(records[0], PARTITIONS).partition) == 0
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(30) == 0
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert archived(log, store)
    assert steps_floor(log, store, append(records[0], PARTITIONS).partition) == len(records)
    assert len(list(in_shards(store))) == 10


def test_when_the_archiver_dies_the_pipeline_says_so_and_ends(
    log: SqliteLog, store: DirectoryStore, run_program: Run
) -> None:
    process = run_program("run_pipeline", (SETTINGS, log, store))
    assert process.stdout is not None
    process.stdout.readline()
    for child in psutil.Process(process.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()
    assert process.wait(30) == 1


def test_its_metrics_can_be_read_over_http(
    log: SqliteLog, store: DirectoryStore, run_program: Run, load: Callable[..., threading.Thread]
) -> None:
    process = run_program("run_pipeline", (SETTINGS, log, store))
    assert process.stdout is not None
    port = int(process.stdout.readline())
    load(visit("a", [step("a", seq, 1) for seq in range(5)]))

    def measured() -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return {name: float(value) for name, value in (line.split() for line in text.splitlines() if line[0] != "#")}

    until(lambda: measured()["stovetop_annotator_steps_total"] == 5)
    until(lambda: measured()["stovetop_annotator_samples_total"] == 6)  # the last one belongs to the end of the session
    until(lambda: measured()["stovetop_archive_lag_offsets"] == 0)
    assert measured()["stovetop_annotator_lag_seconds"] == 0
    process.terminate()
    assert process.wait(30) == 0


def test_an_annotator_that_hangs_is_ended_and_its_step_passed_over(
    log: SqliteLog, store: DirectoryStore, run_program: Run, load: Callable[..., threading.Thread]
) -> None:
    load(visit("a", [step("a", seq, 1) for seq in range(3)])).join()
    hanging = AnnotatorSettings(plugin="tests.ingest.visits:Hanging", step_seconds=0.5)
    statuses = []
    while not caught_up(log):
        process = run_program("run_pipeline", (SETTINGS.model_copy(update={"annotator": hanging}), log, store))
        until(lambda: process.poll() is not None or caught_up(log))  # noqa: B023
        statuses.append(process.poll())
        assert len(statuses) < 10
    assert set(statuses[:-1]) == {HUNG}
    assert statuses[-1] is None
    outcomes = [outcome.dead for record in annotated(log) for outcome in record.outcomes]
    assert outcomes == [False, True, False]
