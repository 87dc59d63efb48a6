"""The history source: only what live has passed and the archive holds, uniformly, and the same again after a resume."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from dataset import (
    Consumed,
    HistorySource,
    InteractiveMixture,
    IntervalSet,
    LiveSource,
    Share,
    SourceError,
    Span,
    StateError,
    make_interactive_dataset,
)
from dataset.history import GROW_EVERY, KEPT
from tests.dataset.streams import MemoryLog, Reading, archive_of, decode, json_copy, key, step


def log_of(count: int, partitions: int = 2) -> MemoryLog:
    log = MemoryLog(partitions)
    for number in range(count):
        log.append(number % partitions, [key(number)], float(number))
    return log


def passed_of(**ends: int) -> dict[str, IntervalSet]:
    return {name[1:]: IntervalSet([((0, 0), (end, 0))]) for name, end in ends.items()}


def reader_of(source: HistorySource, passed: dict[str, IntervalSet], share: Share | None = None):
    reader = source.open(share or Share(), {})
    reader.follow(passed)
    return reader


def draw(reader, count: int) -> list[str]:
    return [item.sample["key"] for _ in range(count) if (item := reader.poll()) is not None]


def test_nothing_comes_before_live_has_passed_anything(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(40), tmp_path), decode=decode)
    assert draw(reader_of(source, {}), 5) == []


def test_only_what_was_passed_comes(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(40), tmp_path), decode=decode)
    keys = set(draw(reader_of(source, passed_of(p0=7, p1=3)), 500))
    assert keys == {key(number) for number in [*range(0, 14, 2), *range(1, 7, 2)]}


def test_only_what_is_archived_comes(tmp_path: Path) -> None:
    log = log_of(20)
    source = HistorySource(archive_of(log, tmp_path), decode=decode)
    for number in range(20, 40):
        log.append(number % 2, [key(number)])
    assert set(draw(reader_of(source, passed_of(p0=20, p1=20)), 500)) == {key(number) for number in range(20)}


def test_passed_stretches_that_begin_and_end_inside_a_record_are_kept_to(tmp_path: Path) -> None:
    log = MemoryLog(1)
    for first in range(0, 12, 3):
        log.append(0, [key(first), key(first + 1), key(first + 2)])
    source = HistorySource(archive_of(log, tmp_path, per_shard=2), decode=decode)
    passed = {"0": IntervalSet([((0, 1), (1, 1)), ((2, 2), (3, 0))])}
    assert set(draw(reader_of(source, passed), 200)) == {key(number) for number in (1, 2, 3, 8)}


def test_draws_are_uniform_over_partitions_and_shards(tmp_path: Path) -> None:
    log = MemoryLog(2)
    for number in range(30):
        log.append(0 if number < 24 else 1, [key(number)])
    source = HistorySource(archive_of(log, tmp_path), decode=decode)
    counts = Counter(draw(reader_of(source, passed_of(p0=99, p1=99)), 6000))
    assert set(counts) == {key(number) for number in range(30)}
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in counts.values())


def test_repeats_are_counted(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(10), tmp_path), decode=decode)
    reader = reader_of(source, passed_of(p0=5, p1=5))
    keys = draw(reader, 50)
    assert reader.stats().repeats == 50 - len(set(keys))


def test_a_snapshot_grows_after_some_draws_and_at_once_while_there_is_nothing(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(40), tmp_path), decode=decode)
    reader = reader_of(source, {})
    reader.follow(passed_of(p0=1))
    assert set(draw(reader, GROW_EVERY - 1)) == {key(0)}
    reader.follow(passed_of(p0=20, p1=20))
    assert draw(reader, 1) == [key(0)]
    reader.follow(passed_of(p0=20, p1=20))
    assert len(set(draw(reader, 200))) > 30


def test_growth_does_not_change_draws_that_were_made(tmp_path: Path) -> None:
    """A draw is a function of its number and its snapshot: a late state serves an early position."""
    source = HistorySource(archive_of(log_of(60), tmp_path), decode=decode)
    reader, keys = reader_of(source, passed_of(p0=2)), []
    for end in range(3, 3 + KEPT - 1):
        keys += draw(reader, GROW_EVERY)
        reader.follow(passed_of(p0=end, p1=end))
    state = json_copy(reader.state())
    again = source.open(Share(), {"0/1": IntervalSet([((0, 0), (70, 0))])}, state)
    assert draw(again, len(keys) - 70) == keys[70:]


def test_a_position_before_all_kept_snapshots_is_refused(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(60), tmp_path), decode=decode)
    reader = reader_of(source, passed_of(p0=2))
    for end in range(3, 3 + 2 * KEPT):
        draw(reader, GROW_EVERY)
        reader.follow(passed_of(p0=end))
    with pytest.raises(StateError, match="no snapshot for draw 0 of share 0/1"):
        source.open(Share(), {}, json_copy(reader.state())).poll()


def test_a_damaged_entry_is_skipped_and_counted(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(10), tmp_path), decode=decode)
    (shard,) = (tmp_path / "samples" / "0").glob("*.tar")
    data = bytearray(shard.read_bytes())
    data[data.index(b'{"key"') + 3] ^= 1
    shard.write_bytes(data)
    reader = reader_of(source, passed_of(p0=5, p1=5))
    assert len(set(draw(reader, 200))) == 9
    assert reader.stats().skipped > 0


def test_the_state_stays_small(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(60), tmp_path), decode=decode)
    reader = reader_of(source, passed_of(p0=2))
    for end in range(3, 30):
        draw(reader, GROW_EVERY)
        reader.follow(passed_of(p0=end, p1=end))
    assert len(reader.state()["snapshots"]) <= KEPT


def test_a_share_draws_from_the_partitions_that_it_reads_live(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(40, 4), tmp_path), decode=decode)
    everything = passed_of(p0=10, p1=10, p2=10, p3=10)
    for index in range(2):
        keys = draw(reader_of(source, everything, Share(index, 2)), 300)
        assert {int(each[-5:-3]) % 100 % 4 for each in keys} == {index, index + 2}


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    source = HistorySource(archive_of(log_of(4), tmp_path), decode=decode)
    with pytest.raises(StateError, match="history:samples behind live: its saved snapshots cannot be read"):
        source.open(Share(), {}, {"share": "0/1", "snapshots": "many"})


def test_without_a_followed_source_the_number_of_partitions_is_needed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="give partitions"):
        HistorySource(archive_of(log_of(4), tmp_path), follows=None)


def test_an_archive_that_grows_is_drawn_from_without_a_followed_source(tmp_path: Path) -> None:
    log = log_of(4)
    source = HistorySource(archive_of(log, tmp_path), follows=None, partitions=2, decode=decode)
    reading = Reading(source)
    assert set(reading.read(GROW_EVERY)) == {key(number) for number in range(4)}
    for number in range(4, 40):
        log.append(number % 2, [key(number)])
    archive_of(log, tmp_path)
    assert len(set(reading.read(300))) == 40


# In a mixture


def mixture(log: MemoryLog, folder: Path, **live) -> InteractiveMixture:
    store = archive_of(log, folder)
    sources = {"live": LiveSource(log, decode=decode, **live), "history": HistorySource(store, decode=decode)}
    return make_interactive_dataset(sources, {"live": 1, "history": 1}, seed=3)


def test_history_gives_only_what_completed_steps_have_trained(tmp_path: Path) -> None:
    log = log_of(120)
    data = mixture(log, tmp_path)
    trained: set[str] = set()
    drawn = 0
    for _ in range(20):
        items, receipt = data.take(8)
        live = {item.key for item, name in zip(items, receipt.sources, strict=True) if name == "live"}
        history = [item.key for item, name in zip(items, receipt.sources, strict=True) if name == "history"]
        assert set(history) <= trained
        drawn += len(history)
        data.complete([receipt])
        trained |= live
    assert drawn > 40


def test_a_batch_that_was_never_completed_does_not_open_its_samples_to_history(tmp_path: Path) -> None:
    data = mixture(log_of(40), tmp_path)
    first = data.take(8)[1]
    second = data.take(8)[1]
    assert set(first.sources) | set(second.sources) == {"live"}
    data.complete([first])
    items, receipt = data.take(200)
    history = {item.key for item, name in zip(items, receipt.sources, strict=True) if name == "history"}
    assert history
    assert history <= set(first.keys)


def test_what_live_jumped_over_stays_in_history(tmp_path: Path) -> None:
    data = mixture(log_of(100), tmp_path, max_lag=10)
    jumped: set[str] = set()
    history: set[str] = set()
    trained: set[str] = set()
    for _ in range(40):
        taken = data.take(8, idle=lambda: False)
        assert taken is not None
        items, receipt = taken
        for item, name in zip(items, receipt.sources, strict=True):
            (trained if name == "live" else history).add(item.key)
        data.complete([receipt])
    jumped = {key(number) for number in range(100)} - trained
    assert len(jumped) == 90
    assert history & jumped
    assert data.statistics().sources["live"].jumped == 90


def test_a_resume_draws_the_same_history_as_an_uninterrupted_run(tmp_path: Path) -> None:
    log = log_of(400)
    for cut in (0, 1, 5, 17, 30):
        whole_run, run = mixture(log, tmp_path), mixture(log, tmp_path)
        whole = [step(whole_run, 16) for _ in range(40)]
        rows = [step(run, 16) for _ in range(cut)]
        for _ in range(2):
            state = json_copy(run.state_dict())
            run = mixture(log, tmp_path)
            run.load_state_dict(state)
        assert rows + [step(run, 16) for _ in range(40 - cut)] == whole, cut


def test_on_another_number_of_ranks_history_still_gives_only_what_was_passed(tmp_path: Path) -> None:
    log = log_of(200, 4)
    store = archive_of(log, tmp_path)

    def rank_of(rank: int, world: int, state) -> InteractiveMixture:
        sources = {"live": LiveSource(log, decode=decode), "history": HistorySource(store, decode=decode)}
        data = make_interactive_dataset(sources, {"live": 1, "history": 2})
        if state is not None:
            data.load_state_dict(state)
        data.set_layout(rank, world)
        return data

    from dataset import merge_states

    state = None
    trained: Counter[str] = Counter()
    for world in (1, 2, 3, 1):
        ranks = [rank_of(rank, world, state) for rank in range(world)]
        for _ in range(4):
            for data in ranks:
                items, receipt = data.take(10)
                live = {item.key for item, name in zip(items, receipt.sources, strict=True) if name == "live"}
                history = {item.key for item, name in zip(items, receipt.sources, strict=True) if name == "history"}
                assert history <= set(trained)
                data.complete([receipt])
                trained.update(live)
        state = json_copy(merge_states([data.state_dict() for data in ranks]))
    assert set(trained.values()) == {1}


def test_what_is_followed_must_be_among_the_sources(tmp_path: Path) -> None:
    store = archive_of(log_of(4), tmp_path)
    with pytest.raises(SourceError, match='"history" follows "live", which is not among the sources'):
        make_interactive_dataset({"history": HistorySource(store), "stream": LiveSource(MemoryLog())})


def test_positions_are_the_numbers_of_draws(tmp_path: Path) -> None:
    reader = reader_of(HistorySource(archive_of(log_of(10), tmp_path)), passed_of(p0=5))
    consumed = Consumed()
    for number in range(3):
        item = reader.poll()
        assert item is not None
        assert item.span == Span("0/1", (number, 0), (number + 1, 0))
        consumed.add("history", item.span)
    assert consumed.watermark() == {"history": {"0/1": (3, 0)}}
