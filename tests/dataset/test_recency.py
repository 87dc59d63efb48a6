"""Recency by time: half as likely so many seconds back, whatever the order and the gaps, and the same after a resume."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dataset import (
    HistorySource,
    InteractiveMixture,
    LiveSource,
    ParameterError,
    Share,
    Weights,
    WeightsError,
    make_interactive_dataset,
    merge_states,
)
from dataset.history import GROW_EVERY
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, step, with_inline_workers
from tests.dataset.test_mixture import within_binomial_bound


def archived(folder: Path, times: list[float], partitions: int = 2, per_shard: int = 13) -> HistorySource:
    log = MemoryLog(partitions)
    for number, time in enumerate(times):
        log.append(number % partitions, [key(number)], time)
    store = archive_of(log, folder, per_shard)
    return HistorySource(store, follows=None, partitions=partitions, decode=decode)


def numbers(source: HistorySource, count: int, half_life_seconds: float) -> Counter[int]:
    reader = source.open(Share(seed=5), {})
    reader.prefer_recent(None, half_life_seconds)
    read: Counter[int] = Counter()
    for _ in range(count):
        item = reader.poll()
        assert item is not None
        session, _, seq = item.key.removesuffix("-00").partition("/")
        read[int(session[1:]) * 100 + int(seq)] += 1
    return read


def test_so_many_seconds_back_a_sample_is_drawn_half_as_often(tmp_path: Path) -> None:
    """Two partitions, one of them ten times as dense: only times count, not how many are newer."""
    times = [1000.0 + number // 20 * 20 for number in range(200)]
    drawn = numbers(archived(tmp_path, times), 4000, 40.0)
    by_age = Counter({age: 0 for age in range(0, 200, 20)})
    for number, count in drawn.items():
        by_age[int(times[-1] - times[number])] += count
    whole = sum(0.5 ** (age / 40) for age in by_age)
    for age, count in by_age.items():
        assert within_binomial_bound(count, 4000, 0.5 ** (age / 40) / whole), age


def test_times_need_not_be_in_order_and_very_old_ones_are_as_good_as_never_drawn(tmp_path: Path) -> None:
    times = [5000.0, 10.0, 4990.0, 1e9, 1e9 - 10, 20.0]
    drawn = numbers(archived(tmp_path, times, partitions=1, per_shard=2), 3000, 10.0)
    assert set(drawn) == {3, 4}
    assert within_binomial_bound(drawn[3], 3000, 2 / 3)


def test_a_half_life_of_ages_draws_all_alike(tmp_path: Path) -> None:
    drawn = numbers(archived(tmp_path, [float(number) for number in range(30)]), 6000, 1e12)
    assert set(drawn) == set(range(30))
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in drawn.values())


@pytest.mark.parametrize("workers", [0, 3])
def test_it_is_part_of_what_a_resume_goes_on_with_while_the_archive_grows(tmp_path: Path, workers: int) -> None:
    log = MemoryLog(2)
    for number in range(600):
        log.append(number % 2, [key(number)], float(number))

    def made() -> InteractiveMixture:
        sources = {"live": LiveSource(log, decode=decode), "old": HistorySource(store, follows="live", decode=decode)}
        return with_inline_workers(make_interactive_dataset(sources, seed=2), workers)

    store = archive_of(log, tmp_path, per_shard=40)

    def run(cut: int | None) -> list[list[str]]:
        data, rows = made(), []
        for number in range(50):
            if number == 3:
                data.set_interactive_parameters({"half_life_seconds": {"old": 30.0}})
            if number == 30:
                data.set_interactive_parameters({"half_life_seconds": {"old": None}, "half_life": {"old": 9}})
            if number == cut:
                data.take(7)  # in flight
                state = json_copy(data.state_dict())
                data.close()
                data = made()
                data.load_state_dict(state)
            rows.append(step(data, 8))
        return rows

    whole = run(None)
    assert sum(map(len, whole)) // 2 > 2 * GROW_EVERY  # draws over several snapshots
    for cut in (2, 3, 4, 17, 29, 30, 31, 44):
        assert run(cut) == whole, cut


def test_it_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    log = MemoryLog(2)
    for number in range(100):
        log.append(number % 2, [key(number)], float(number))
    store = archive_of(log, tmp_path)

    def made() -> InteractiveMixture:
        sources: dict[str, Any] = {"live": LiveSource(log, decode=decode), "old": HistorySource(store, decode=decode)}
        return make_interactive_dataset(sources)

    data = made()
    data.set_interactive_parameters({"half_life_seconds": {"old": 30.0}})
    step(data, 20)
    state = merge_states([json_copy(data.state_dict())])
    again = made()
    again.load_state_dict(state)
    again.set_layout(1, 2)
    assert again.interactive_parameters()["half_life_seconds"] == {"old": 30.0}
    assert len(step(again, 20)) == 20


def test_a_history_has_one_half_life() -> None:
    weights = Weights(0, {"old": 1.0, "a": 1.0}).changed(half_life={"old": 500})
    told = 'half_life of "old" would be 500 samples and 60 seconds, but a source has one; lift the other in the same change'
    with pytest.raises(WeightsError, match=told):
        weights.changed(half_life_seconds={"old": 60})
    changed = weights.changed(half_life={"old": None}, half_life_seconds={"old": 60})
    assert (changed.half_life, changed.half_life_seconds) == ({}, {"old": 60})


@pytest.mark.parametrize("wrong", [0, -1, "long", True, math.inf, math.nan])
def test_wrong_seconds_are_refused(tmp_path: Path, wrong: Any) -> None:
    data = make_interactive_dataset({"old": archived(tmp_path, [1.0, 2.0])})
    with pytest.raises(WeightsError, match='half_life_seconds of "old": it is'):
        data.set_interactive_parameters({"half_life_seconds": {"old": wrong}})
    assert data.weights.version == 0


def test_a_source_that_is_not_drawn_from_has_none() -> None:
    data = make_interactive_dataset({"a": [{"key": key(0)}]})
    with pytest.raises(ParameterError, match=r'half_life_seconds: "a" has none, it is map:list.*; these have: none'):
        data.set_interactive_parameters({"half_life_seconds": {"a": 2}})
