"""The live source: in order, never late without a record of it, below the log's start from the archive."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from pathlib import Path

import pytest

from dataset import Consumed, IntervalSet, LiveSource, Share, SourceError, Span, StateError
from ingest import SAMPLES, Append
from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import MemoryLog, Reading, annotated, archive_of, decode, key
from tests.waiting import until


def keys(first: int, end: int) -> list[str]:
    return [key(number) for number in range(first, end)]


def log_of(count: int, time_of=float) -> MemoryLog:
    """One partition, one sample a record."""
    log = MemoryLog(1)
    for number in range(count):
        log.append(0, [key(number)], time_of(number))
    return log


def items_of(reading: Reading) -> list:
    found = []
    while (item := reading.reader.poll()) is not None:
        reading.book(item)
        found.append(item)
    return found


def test_samples_of_several_partitions_come_oldest_first() -> None:
    log = MemoryLog(3)
    for number in [5, 1, 9, 4, 2, 8]:
        log.append(number % 3, [key(number)], float(number))
    in_order = [5, 2, 8]  # partition 2 is read in its own order, and 5 stands before 2
    assert [item.time for item in items_of(Reading(LiveSource(log)))] == [1.0, 4.0, *map(float, in_order), 9.0]


def test_every_partition_belongs_to_one_reader_of_any_number() -> None:
    log = MemoryLog(5)
    for partition in range(5):
        log.append(partition, [key(partition)])
    for count in (1, 2, 3, 5):
        partitions = [
            {item.span.partition for item in items_of(Reading(LiveSource(log), Share(index, count)))}
            for index in range(count)
        ]
        assert partitions == [{str(number) for number in range(index, 5, count)} for index in range(count)]


def test_more_readers_than_partitions_leaves_some_without_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reading = Reading(LiveSource(log_of(3)), Share(1, 2))
    assert items_of(reading) == []
    assert "has 1 partitions for 2 readers: reader 1 gets no samples" in caplog.text


def test_gaps_and_empty_records_are_covered_by_the_next_item() -> None:
    log = MemoryLog(1)
    log.leave_gap(0, 3)
    log.append(0, [])
    log.append(0, keys(0, 2))
    log.leave_gap(0, 2)
    log.append(0, keys(2, 3))
    spans = [item.span for item in items_of(Reading(LiveSource(log)))]
    assert spans == [
        Span("0", (0, 0), (4, 1)),
        Span("0", (4, 1), (5, 0)),
        Span("0", (5, 0), (8, 0)),
    ]


def test_a_trailing_gap_is_left_open_until_a_sample_follows() -> None:
    log = log_of(2)
    log.leave_gap(0, 5)
    reading = Reading(LiveSource(log, decode=decode))
    items_of(reading)
    assert reading.consumed.watermark() == {"it": {"0": (2, 0)}}
    log.append(0, keys(2, 3))
    assert reading.restored().read(1) == keys(2, 3)


def test_news_are_noticed_without_being_told() -> None:
    log = log_of(1)
    reading = Reading(LiveSource(log, decode=decode))
    assert reading.read(5) == keys(0, 1)
    log.append(0, keys(1, 2))
    deadline = time.monotonic() + 5
    while not (found := reading.read(1)):
        assert time.monotonic() < deadline
    assert found == keys(1, 2)


def test_a_dry_log_is_not_fetched_from_at_every_poll() -> None:
    log = log_of(1)
    reading = Reading(LiveSource(log))
    items_of(reading)
    fetches = reading.reader._log.fetches  # type: ignore[attr-defined]
    for _ in range(1000):
        reading.reader.poll()
    assert reading.reader._log.fetches == fetches  # type: ignore[attr-defined]


def test_records_are_fetched_in_bounded_batches() -> None:
    log = log_of(100)
    size = len(log.records[0][0].value)
    reading = Reading(LiveSource(log, decode=decode, batch_bytes=10 * size))
    assert reading.read(10) == keys(0, 10)
    assert reading.reader._log.fetches == 1  # type: ignore[attr-defined]
    assert reading.read(100) == keys(10, 100)


def test_a_record_that_holds_no_samples_is_refused_by_its_place(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, Layout(partitions=1))
    writer = log.writer("annotator")
    writer.commit([annotated(0, keys(0, 1)), Append(SAMPLES, 0, "", b"\x93nonsense", 0.0)])
    writer.close()
    with pytest.raises(SourceError, match="samples/0: the record at offset 1 holds no samples"):
        Reading(LiveSource(log, decode=decode)).read(2)


def test_another_log_is_found_out_by_its_end() -> None:
    consumed = {"0": IntervalSet([((0, 0), (7, 0))])}
    with pytest.raises(StateError, match="consumed up to offset 7, but the log ends at 3; give the log"):
        LiveSource(log_of(3)).open(Share(), consumed)


def test_the_log_is_let_go_of_where_opening_fails() -> None:
    log = log_of(3)
    with pytest.raises(StateError):
        LiveSource(log).open(Share(), {"0": IntervalSet([((0, 0), (7, 0))])})
    assert log.open_readers == 0


# Lag


def test_beyond_max_lag_reading_jumps_and_records_what_it_left_out(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(LiveSource(log_of(100), decode=decode, max_lag=10))
    with caplog.at_level(logging.WARNING):
        items = items_of(reading)
    assert [item.sample["key"] for item in items] == keys(95, 100)
    assert items[0].jumped == Span("0", (0, 0), (95, 0))
    assert items[0].span == Span("0", (95, 0), (96, 0))
    assert [item.jumped for item in items[1:]] == [None] * 4
    assert reading.reader.stats().jumped == 95
    assert "samples/0: jumped from offset 0 to 95, as more than 10 records waited" in caplog.text


def test_as_much_as_max_lag_may_wait() -> None:
    assert Reading(LiveSource(log_of(10), decode=decode, max_lag=10)).read(100) == keys(0, 10)


def test_a_jump_is_remembered_over_a_restart_even_without_the_limit() -> None:
    log = log_of(100)
    reading = Reading(LiveSource(log, decode=decode, max_lag=10))
    assert reading.read(2) == keys(95, 97)
    assert Reading(LiveSource(log, decode=decode), consumed=reading.consumed).read(100) == keys(97, 100)


def test_a_jump_whose_item_was_not_trained_is_undone() -> None:
    log = log_of(100)
    Reading(LiveSource(log, max_lag=10)).reader.poll()
    assert Reading(LiveSource(log, decode=decode)).read(3) == keys(0, 3)


def test_too_old_samples_are_jumped_over() -> None:
    now = time.time()
    log = log_of(100, lambda number: now - 1000 + 10 * number)
    reading = Reading(LiveSource(log, decode=decode, max_age=300))
    items = items_of(reading)
    assert items[-1].sample["key"] == key(99)
    assert now - items[0].time <= 151  # to half of what may wait, so that it does not jump again at once
    assert items[0].jumped == Span("0", (0, 0), items[0].span.start)
    assert all(later.jumped is None for later in items[1:])


def test_samples_that_grow_too_old_while_they_wait_are_jumped_over_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    log = log_of(10, lambda number: now - 300)
    reading = Reading(LiveSource(log, decode=decode, max_age=500))
    assert reading.read(2) == keys(0, 2)
    monkeypatch.setattr(time, "time", lambda: now + 300)
    log.append(0, keys(10, 11), now + 300)
    item = until(reading.reader.poll)
    assert (item.sample["key"], item.jumped) == (key(10), Span("0", (2, 0), (10, 0)))


def test_a_bad_sample_after_a_jump_does_not_lose_the_jump() -> None:
    def picky(members):
        if decode(members)["key"] == key(95):
            raise ValueError
        return decode(members)

    (item, *_) = items_of(Reading(LiveSource(log_of(100), decode=picky, max_lag=10)))
    assert (item.sample["key"], item.jumped) == (key(96), Span("0", (0, 0), (95, 0)))
    assert item.span == Span("0", (95, 0), (97, 0))


@pytest.mark.parametrize("limit", ["max_lag", "max_age"])
def test_a_limit_that_is_not_above_zero_is_refused(limit: str) -> None:
    with pytest.raises(SourceError, match=f"{limit} is 0, but it is above 0"):
        LiveSource(MemoryLog(), **{limit: 0})


def test_lag_and_age_of_what_waits_are_told() -> None:
    reading = Reading(LiveSource(log_of(10), decode=decode))
    reading.read(4)
    stats = reading.reader.stats()
    assert (stats.lag, stats.oldest_waiting, stats.polled) == (6, 4.0, 4)


# Below the log's start


def test_below_the_logs_start_the_archive_is_read_at_the_same_offsets(tmp_path: Path) -> None:
    log = log_of(30)
    reading = Reading(LiveSource(log, decode=decode))
    reading.read(4)
    archive = archive_of(log, tmp_path)
    log.trim(0, 20)
    source = LiveSource(log, decode=decode, archive=archive)
    items = items_of(Reading(source, consumed=reading.consumed))
    assert [item.sample["key"] for item in items] == keys(4, 30)
    assert all(item.jumped is None for item in items)
    assert all(before.span.end == after.span.start for before, after in pairwise(items))


def test_a_trim_in_the_middle_of_reading_is_survived(tmp_path: Path) -> None:
    log = log_of(60)
    size = len(log.records[0][0].value)
    archive = archive_of(log, tmp_path)
    reading = Reading(LiveSource(log, decode=decode, archive=archive, batch_bytes=5 * size))
    read = reading.read(7)
    for before in (20, 40, 50):
        log.trim(0, before)
        read += reading.read(5)
    assert read + reading.read(100) == keys(0, 60)


def test_restoring_in_the_middle_of_the_archive_goes_on_there(tmp_path: Path) -> None:
    log = MemoryLog(1)
    for number in range(0, 30, 3):
        log.append(0, keys(number, number + 3))
    archive = archive_of(log, tmp_path)
    log.trim(0, 9)
    reading = Reading(LiveSource(log, decode=decode, archive=archive))
    read = []
    for _ in range(30):
        read += reading.read(1)
        reading = reading.restored()
    assert read == keys(0, 30)


def test_what_neither_log_nor_archive_holds_is_jumped_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_of(10)
    archive = archive_of(log, tmp_path)  # offsets 0 to 9
    for number in range(10, 30):
        log.append(0, keys(number, number + 1))
    log.trim(0, 20)
    with caplog.at_level(logging.WARNING):
        items = items_of(Reading(LiveSource(log, decode=decode, archive=archive)))
    assert [item.sample["key"] for item in items] == keys(0, 10) + keys(20, 30)
    assert [item.jumped for item in items if item.jumped] == [Span("0", (9, 1), (20, 0))]  # behind the only sample of 9
    assert "jumped from offset 9 to 20, as the log was trimmed and the archive does not hold it" in caplog.text


def test_without_an_archive_what_was_trimmed_is_jumped_over_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = log_of(10)
    log.trim(0, 6)
    with caplog.at_level(logging.WARNING):
        items = items_of(Reading(LiveSource(log, decode=decode)))
    assert [item.sample["key"] for item in items] == keys(6, 10)
    assert items[0].jumped == Span("0", (0, 0), (6, 0))
    assert "jumped from offset 0 to 6, as the log was trimmed" in caplog.text


def test_an_archive_that_begins_late_is_jumped_to(tmp_path: Path) -> None:
    log = log_of(12)
    archive_of(log, tmp_path)
    (tmp_path / "samples" / "0" / f"{0:020d}.tar").unlink()
    log.trim(0, 11)
    archive = archive_of(log, tmp_path)
    items = items_of(Reading(LiveSource(log, decode=decode, archive=archive)))
    assert [item.sample["key"] for item in items] == keys(9, 12)
    assert items[0].jumped == Span("0", (0, 0), (9, 0))


def test_too_much_lag_jumps_over_what_is_archived_too(tmp_path: Path) -> None:
    log = log_of(100)
    archive = archive_of(log, tmp_path)
    log.trim(0, 50)
    items = items_of(Reading(LiveSource(log, decode=decode, archive=archive, max_lag=10)))
    assert [item.sample["key"] for item in items] == keys(95, 100)


def test_the_time_and_key_of_a_sample_are_those_of_its_step(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, Layout(partitions=1))
    writer = log.writer("annotator")
    writer.commit([annotated(0, ["visit/000007-01"], time=123.5)])
    writer.close()
    reading = Reading(LiveSource(log, decode=decode))
    item = reading.reader.poll()
    assert item is not None
    assert (item.key, item.time) == ("visit/000007-01", 123.5)


def test_another_process_writing_is_seen(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, Layout(partitions=2))
    reading = Reading(LiveSource(log, decode=decode))
    assert reading.read(1) == []
    writer = log.writer("annotator")
    writer.commit([annotated(1, keys(0, 3))])
    found: list[str] = []
    deadline = time.monotonic() + 5
    while len(found) < 3:
        assert time.monotonic() < deadline
        found += reading.read(1)
    assert found == keys(0, 3)
    writer.close()


def test_consumed_of_several_readers_merges_to_the_whole() -> None:
    log = MemoryLog(4)
    for number in range(40):
        log.append(number % 4, [key(number)], float(number))
    whole, parts = Reading(LiveSource(log)), Consumed()
    items_of(whole)
    for index in range(3):
        part = Reading(LiveSource(log), Share(index, 3))
        items_of(part)
        parts.update(part.consumed)
    assert parts.dump() == whole.consumed.dump() or parts.watermark() == whole.consumed.watermark()
