"""What an operator changes beside weights: temperature, epochs of a source, and how recent history is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dataset import (
    HistorySource,
    InteractiveMixture,
    LiveSource,
    MapSource,
    MixtureLoader,
    ParameterError,
    Share,
    WeightsError,
    make_interactive_dataset,
    take_receipt,
)
from dataset.history import HistoryReader
from dataset.mixture import Weights
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, step, with_inline_workers
from tests.dataset.test_mixture import within_binomial_bound


def numbered(first: int, count: int) -> list[dict[str, Any]]:
    return [{"key": key(number), "x": number} for number in range(first, first + count)]


def two_lists() -> InteractiveMixture:
    return make_interactive_dataset({"a": numbered(0, 10), "b": numbered(1000, 10)}, {"a": 9, "b": 1})


def drawn(data: InteractiveMixture, count: int) -> Counter[str]:
    taken = data.take(count)
    assert taken is not None
    data.complete([taken[1]])
    return Counter(taken[1].sources)


# Temperature


def test_temperature_evens_shares_out_or_sharpens_them() -> None:
    weights = Weights(0, {"a": 9.0, "b": 1.0, "c": 0.0})
    assert weights.shares() == {"a": 0.9, "b": 0.1, "c": 0}
    assert weights.changed(temperature=2).shares() == pytest.approx({"a": 0.75, "b": 0.25, "c": 0})
    assert weights.changed(temperature=0.5).shares() == pytest.approx({"a": 81 / 82, "b": 1 / 82, "c": 0})
    assert weights.changed(temperature=1e-4).shares()["a"] == 1


def test_a_changed_temperature_holds_for_the_next_batch() -> None:
    data = two_lists()
    assert data.set_interactive_parameters({"temperature": 2}) == {"temperature": 1}
    assert data.weights.version == 1
    assert within_binomial_bound(drawn(data, 2000)["a"], 2000, 0.75)


# Epochs


def test_a_source_counts_as_dry_after_so_many_epochs_and_goes_on_when_that_is_lifted() -> None:
    data = two_lists()
    data.set_interactive_parameters({"epochs": {"a": 2}})
    assert drawn(data, 100) == {"a": 20, "b": 80}
    assert data.statistics().sources["a"].shortfall > 0
    data.set_interactive_parameters({"epochs": {"a": 3}})
    assert drawn(data, 40)["a"] == 10
    data.set_interactive_parameters({"epochs": {"a": None}})
    assert drawn(data, 40)["a"] > 20
    assert data.statistics().sources["a"].repeats > 0


def test_a_stream_ends_where_all_sources_have_had_their_epochs_unless_they_may_yet_be_lifted() -> None:
    data = two_lists()
    data.set_interactive_parameters({"epochs": {"a": 1, "b": 2}})
    receipts = [take_receipt(batch) for batch in MixtureLoader(data, 8)]
    assert Counter(name for receipt in receipts for name in receipt.sources) == {"a": 10, "b": 20}
    data.complete(receipts)

    def lift() -> bool:
        data.set_interactive_parameters({"epochs": {"b": None}})
        return True

    receipt = take_receipt(next(iter(MixtureLoader(data, 4, idle=lift))))
    assert receipt.sources == ("b",) * 4


@pytest.mark.parametrize("workers", [0, 2])
def test_limits_hold_after_a_resume_and_it_goes_on_bit_by_bit(workers: int) -> None:
    def run(cut: int | None) -> list[list[str]]:
        data, rows = with_inline_workers(two_lists(), workers), []
        for number in range(16):
            if number == 2:
                data.set_interactive_parameters({"epochs": {"a": 1}, "temperature": 3})
            if number == 12:
                data.set_interactive_parameters({"epochs": {"a": 2}})
            if number == cut:
                state = json_copy(data.state_dict())
                data = with_inline_workers(two_lists(), workers)
                data.load_state_dict(state)
            rows.append(step(data, 3))
        return rows

    whole = run(None)
    assert all(run(cut) == whole for cut in (1, 2, 3, 6, 9, 12, 13))


# Recency


def archived(folder: Path) -> HistorySource:
    log = MemoryLog(2)
    for number in range(400):
        log.append(number % 2, [key(number)], float(number))
    return HistorySource(archive_of(log, folder, per_shard=50), follows=None, partitions=2, decode=decode)


def ages(reader: HistoryReader, count: int) -> list[int]:
    """How many samples of the same partition are newer than each that is read."""
    read = []
    for _ in range(count):
        item = reader.poll()
        assert item is not None
        session, _, seq = item.key.removesuffix("-00").partition("/")
        read.append((399 - int(session[1:]) * 100 - int(seq)) // 2)
    return read


def test_a_half_life_halves_the_draws_with_so_many_samples_of_age(tmp_path: Path) -> None:
    reader = archived(tmp_path).open(Share(), {})
    alike = Counter(age // 20 for age in ages(reader, 2000))
    assert max(alike) == 9
    assert within_binomial_bound(alike[0], 2000, 0.1)
    reader.prefer_recent(20)
    recent = Counter(age // 20 for age in ages(reader, 2000))
    for back in range(3):
        assert within_binomial_bound(recent[back], 2000, 0.5 ** (back + 1))
    reader.prefer_recent(1e9)  # so long that all are alike
    assert within_binomial_bound(Counter(age // 20 for age in ages(reader, 2000))[9], 2000, 0.1)


def test_stretches_between_which_some_is_missing_are_weighed_by_their_age(tmp_path: Path) -> None:
    from dataset import IntervalSet

    source = HistorySource(archived(tmp_path).archive, decode=decode)
    reader = source.open(Share(), {})
    reader.follow({"0": IntervalSet([((0, 0), (20, 0)), ((100, 0), (120, 0)), ((180, 0), (200, 0))])})
    reader.prefer_recent(20)
    drawn = Counter(age // 20 for age in ages(reader, 2000))
    assert set(drawn) == {0, 4, 9}
    assert within_binomial_bound(drawn[0], 2000, 4 / 7)
    assert within_binomial_bound(drawn[4], 2000, 2 / 7)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_half_life_is_part_of_what_a_resume_goes_on_with(tmp_path: Path, workers: int) -> None:
    source = archived(tmp_path)

    def made() -> InteractiveMixture:
        return with_inline_workers(make_interactive_dataset({"old": source, "a": numbered(0, 9)}), workers)

    def run(cut: int | None) -> list[list[str]]:
        data, rows = made(), []
        for number in range(14):
            if number in (3, 8):
                data.set_interactive_parameters({"half_life": {"old": 5.0 if number == 3 else None}})
            if number == cut:
                data.take(4)  # in flight
                state = json_copy(data.state_dict())
                data = made()
                data.load_state_dict(state)
            rows.append(step(data, 4))
        return rows

    whole = run(None)
    assert all(run(cut) == whole for cut in (2, 3, 4, 8, 9))


# Refusals


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"temperature": 0}, "temperature: it is 0, but it is a number above 0, as 1"),
        ({"temperature": "warm"}, "temperature: it is 'warm'"),
        ({"epochs": {"a": 1.5}}, 'epochs of "a": it is 1.5, but a source is read whole times'),
        ({"epochs": {"a": -1}}, 'epochs of "a": it is -1'),
        ({"epochs": 3}, r'epochs: 3 is not a mapping; give it by source, as {"a": 3}'),
        ({"epochs": {"c": 1}}, 'epochs: there is no source "c"; the sources are a, live'),
    ],
)
def test_wrong_values_are_refused_and_nothing_changes(values: dict[str, Any], told: str) -> None:
    data = make_interactive_dataset({"a": numbered(0, 9), "live": LiveSource(MemoryLog())})
    with pytest.raises(WeightsError, match=told):
        data.set_interactive_parameters({"weights": {"a": 5}, **values})
    assert data.weights.version == 0


def test_sources_without_epochs_or_draws_have_no_such_limits() -> None:
    data = make_interactive_dataset({"a": MapSource(numbered(0, 9)), "live": LiveSource(MemoryLog())})
    with pytest.raises(ParameterError, match=r'epochs: "live" has none, it is live:MemoryLog/samples; these have: a$'):
        data.set_interactive_parameters({"epochs": {"live": 2}})
    with pytest.raises(ParameterError, match=r'half_life: "a" has none, it is map:list.*; these have: none'):
        data.set_interactive_parameters({"half_life": {"a": 2}})
