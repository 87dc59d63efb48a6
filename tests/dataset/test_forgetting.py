"""Deleted sessions: nobody is given their samples any more, and everything else comes as it would have come."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dataset import HistorySource, LiveSource, ShardSource, make_interactive_dataset
from dataset.history import HistoryReader
from dataset.positions import IntervalSet
from ingest.deletions import STALE, Deletions
from ingest.entries import session_of
from ingest.replacing import replace, retire
from ingest.shard_reader import Shard, ShardChain
from ingest.shards import DirectoryStore
from ingest.types import SAMPLES
from tests.dataset.streams import (
    MemoryLog,
    Reading,
    archive_of,
    decode,
    json_copy,
    step,
    with_inline_workers,
    write_tar,
)

SESSIONS = 5
GONE = "visit-3"


def key(number: int) -> str:
    """Sessions take turns."""
    return f"visit-{number % SESSIONS}/{number:06d}-00"


def log_of(count: int, partitions: int = 1) -> MemoryLog:
    log = MemoryLog(partitions)
    for number in range(count):
        log.append(number % partitions, [key(number)], float(number))
    return log


def delete(log: MemoryLog, session_id: str = GONE) -> None:
    """Delete a session, and wait as the gateway does before it answers."""
    log.delete(session_id)
    time.sleep(2 * STALE)


def erase(store: DirectoryStore, session_id: str = GONE, partitions: int = 1) -> None:
    """Take a session out of the archive, and remove the old files."""
    for number in range(partitions):
        for name in ShardChain(store, SAMPLES, number).names:
            replace(store, [Shard(store, name)], lambda entry: session_of(entry.key) != session_id)
        time.sleep(0.002)
        retire(store, SAMPLES, number, 0.0)


def session(sample_key: str) -> str:
    return session_of(sample_key)


def test_live_gives_nothing_of_it_though_it_was_fetched_before() -> None:
    log = log_of(40)
    reading = Reading(LiveSource(log, decode=decode))
    before = reading.read(5)
    assert GONE in map(session, before)
    delete(log)
    after = reading.read(100)
    assert after == [key(number) for number in range(5, 40) if session(key(number)) != GONE]
    resumed = reading.restored()
    assert resumed.read(10) == [], "what was passed over was covered"
    assert resumed.consumed.sources["it"]["0"] == IntervalSet([((0, 0), (40, 0))])


def test_live_below_the_log_s_start_reads_a_rewritten_archive_at_the_same_positions(tmp_path: Path) -> None:
    log = log_of(40)
    store = archive_of(log, tmp_path)
    reading = Reading(LiveSource(log, decode=decode, archive=store))
    reading.read(7)
    log.trim(0, 36)
    erase(store)
    resumed = reading.restored()
    assert resumed.read(100) == [
        key(number) for number in range(7, 40) if session(key(number)) != GONE or number >= 36
    ], "the log's copy is another's matter"
    assert resumed.reader.stats().jumped == 0


def history(log: MemoryLog, store: DirectoryStore, told: bool = True) -> HistorySource:
    return HistorySource(store, decode=decode, deletions=Deletions(log) if told else None)


def follow(reading: Reading, count: int) -> None:
    assert isinstance(reading.reader, HistoryReader)
    reading.reader.follow({"0": IntervalSet([((0, 0), (count, 0))])})


@pytest.mark.parametrize("half_life", [None, 15.0])
@pytest.mark.parametrize("cut", [0, 1, 17, 60])
def test_history_draws_the_same_whether_it_is_filtered_rewritten_or_resumed(
    tmp_path: Path, half_life: float | None, cut: int
) -> None:
    def reading_of(folder: str) -> tuple[MemoryLog, DirectoryStore, Reading]:
        log = log_of(60)
        store = archive_of(log, tmp_path / folder)
        reading = Reading(history(log, store))
        follow(reading, 60)
        reading.reader.prefer_recent(half_life)  # type: ignore[attr-defined]
        return log, store, reading

    log, store, reading = reading_of("filtered")
    whole = reading.read(cut)
    delete(log)
    whole += reading.read(200 - cut)

    log, store, reading = reading_of("rewritten")
    cut_up = reading.read(cut)
    delete(log)
    erase(store)
    cut_up += reading.read(30)  # a reader that stood in the old shards
    for _ in range(3):  # and readers that begin with the new ones
        reading = reading.restored()
        cut_up += reading.read(30)
    cut_up += reading.read(200 - len(cut_up))
    assert cut_up == whole
    assert GONE not in map(session, whole[cut:])
    assert len(set(map(session, whole[cut:]))) == SESSIONS - 1


def test_history_without_a_log_passes_over_what_the_archive_has_lost(tmp_path: Path) -> None:
    log = log_of(60)
    store = archive_of(log, tmp_path)
    erase(store)
    reading = Reading(HistorySource(store, decode=decode, follows=None, partitions=1, bad_limit=0))
    drawn = reading.read(300)
    assert len(drawn) == 300
    assert GONE not in map(session, drawn)


def test_where_everything_is_deleted_history_is_dry_and_nothing_hangs(tmp_path: Path) -> None:
    log = log_of(20)
    store = archive_of(log, tmp_path)
    reading = Reading(history(log, store))
    follow(reading, 20)
    assert reading.read(5)
    for number in range(SESSIONS):
        log.delete(f"visit-{number}")
    time.sleep(2 * STALE)
    assert reading.read(1) == []
    for number in range(SESSIONS):
        erase(store, f"visit-{number}")
    assert reading.read(1) == []


def test_base_shards_that_hold_it_pass_over_it_and_keep_their_places(tmp_path: Path) -> None:
    log = log_of(0)
    path = write_tar(tmp_path / "base" / "a.tar", [key(number) for number in range(40)])
    source = ShardSource(path, decode=decode, epochs=2, deletions=Deletions(log))
    untold = Reading(ShardSource(path, decode=decode, epochs=2)).read(100)
    reading = Reading(source)
    read = reading.read(10)
    delete(log)
    read += reading.read(20)
    reading = reading.restored()
    read += reading.read(100)
    assert read == [each for number, each in enumerate(untold) if number < 10 or session(each) != GONE]


@pytest.mark.parametrize("workers", [0, 3])
def test_a_mixture_tells_all_its_sources_and_drops_what_it_had_read_ahead(tmp_path: Path, workers: int) -> None:
    log = log_of(60)
    store = archive_of(log, tmp_path / "archive")
    base = write_tar(tmp_path / "base" / "a.tar", [key(number) for number in range(100, 160)])
    data = make_interactive_dataset(
        {"base": tmp_path / "base", "history": store, "live": log}, {"base": 1, "history": 1, "live": 1}, decode=decode
    )
    assert base.exists()
    data = with_inline_workers(data, workers)
    before = [each for _ in range(5) for each in step(data, 4)]
    assert GONE in map(session, before)
    delete(log)
    state = json_copy(data.state_dict())
    after = [each for _ in range(25) for each in step(data, 4)]
    assert len(after) == 100
    assert GONE not in map(session, after)
    data.load_state_dict(state)
    assert [each for _ in range(25) for each in step(data, 4)] == after
    data.close()


def test_a_batch_that_waits_for_more_is_made_anew_when_some_of_it_is_deleted() -> None:
    log = MemoryLog(1)
    log.append(0, ["visit-1/000000-00", f"{GONE}/000000-00", "visit-2/000000-00"], 0.0)
    data = make_interactive_dataset({"live": LiveSource(log, decode=decode)})

    calls = []

    def idle() -> bool:
        if not calls:
            delete(log)
            log.append(0, ["visit-4/000000-00", "visit-4/000001-00"], 1.0)
        calls.append(1)
        assert len(calls) < 1000
        return True

    taken = data.take(4, idle=idle)
    assert taken is not None
    items, receipt = taken
    assert [item.sample["key"] for item in items] == [
        "visit-1/000000-00",
        "visit-2/000000-00",
        "visit-4/000000-00",
        "visit-4/000001-00",
    ]
    data.complete([receipt])
    assert data._books.passed.sources["live"]["0"] == IntervalSet([((0, 0), (2, 0))]), "what was passed over is covered"
    data.close()


def test_what_was_put_back_is_not_given_out_after_a_deletion() -> None:
    log = MemoryLog(1)
    log.append(0, ["visit-1/000000-00", f"{GONE}/000000-00", f"{GONE}/000001-00"], 0.0)
    data = make_interactive_dataset({"live": LiveSource(log, decode=decode)})
    assert data.take(4, idle=lambda: False) is None, "it waits for a fourth"
    delete(log)
    log.append(0, [f"visit-2/{number:06d}-00" for number in range(3)], 1.0)
    assert step(data, 4) == ["visit-1/000000-00", *(f"visit-2/{number:06d}-00" for number in range(3))]
    assert data._books.passed.sources["live"]["0"] == IntervalSet([((0, 0), (2, 0))])
    data.close()


def test_sources_that_were_told_otherwise_are_left_alone(tmp_path: Path) -> None:
    log, other = MemoryLog(1), MemoryLog(1)
    store = DirectoryStore(tmp_path)
    data = make_interactive_dataset(
        {"history": HistorySource(store, deletions=Deletions(other)), "live": LiveSource(log)}
    )
    assert data.sources["history"].deletions == Deletions(other)  # type: ignore[attr-defined]
