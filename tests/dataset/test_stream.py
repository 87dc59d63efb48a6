"""The mixed stream: the next batch obeys, waits without blocking anybody, and books only what was trained."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import chain, pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from dataset import (
    RECEIPT,
    BadSamples,
    LayoutError,
    LiveSource,
    MixtureLoader,
    ParameterError,
    Receipt,
    ReceiptError,
    SourceError,
    StateError,
    WeightsError,
    make_interactive_dataset,
    merge_states,
    take_receipt,
)
from dataset.mixture import Draws, replayed
from dataset.state import MixtureState
from tests.dataset.streams import MemoryLog, decode, json_copy, key, step


def numbers(first: int, count: int) -> list[dict[str, object]]:
    return [{"key": key(number), "x": number} for number in range(first, first + count)]


def two_sources(seed: int = 0):
    return make_interactive_dataset({"a": numbers(0, 50), "b": numbers(1000, 70)}, {"a": 1, "b": 1}, seed=seed)


def with_live(log: MemoryLog, weights: dict[str, float], **settings):
    sources = {"base": numbers(0, 50), "live": LiveSource(log, decode=decode, **settings)}
    return make_interactive_dataset(sources, weights)


# Batches and receipts


def test_a_batch_is_what_collate_makes_with_a_receipt_that_tells_each_row() -> None:
    loader = MixtureLoader(two_sources(), 8)
    batch = next(iter(loader))
    receipt = take_receipt(batch)
    assert batch["x"].shape == (8,)
    for row, name in enumerate(receipt.sources):
        assert (batch["x"][row] >= 1000) == (name == "b")
        assert receipt.keys[row] == str(int(batch["x"][row]) % 1000)
    assert receipt.first_draw == 0
    assert receipt.next_draw == 8
    assert RECEIPT not in batch


def test_a_batch_without_a_receipt_is_refused_by_name() -> None:
    batch = next(iter(MixtureLoader(two_sources(), 2)))
    take_receipt(batch)
    with pytest.raises(ReceiptError, match=r"with the keys \['key', 'x'\] carries no receipt"):
        take_receipt(batch)


def test_a_collate_that_makes_no_mapping_is_refused() -> None:
    loader = MixtureLoader(two_sources(), 2, collate=lambda samples: samples)  # type: ignore[arg-type, return-value]
    with pytest.raises(SourceError, match="collate returned list"):
        next(iter(loader))


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        MixtureLoader(two_sources(), 0)


def test_nothing_is_consumed_before_the_step_that_used_it() -> None:
    data = two_sources()
    batches = iter(MixtureLoader(data, 4))
    receipts = [take_receipt(next(batches)) for _ in range(3)]
    assert data.consumed.sources == {}
    data.complete(receipts[:2])
    assert {name: data.consumed.watermark()[name]["0/1"][1] for name in "ab"} == Counter(
        receipts[0].sources + receipts[1].sources
    )


def test_gradient_accumulation_books_all_its_batches_or_none() -> None:
    data = two_sources()
    batches = iter(MixtureLoader(data, 4))
    first, second, third = (take_receipt(next(batches)) for _ in range(3))
    with pytest.raises(ReceiptError, match="begins at draw 8, but the next to be completed is 4"):
        data.complete([first, third])
    assert data.consumed.sources == {}
    data.complete([first, second])
    with pytest.raises(ReceiptError, match="begins at draw 0, but the next to be completed is 8"):
        data.complete([first])
    data.complete([third])


def test_receipts_from_before_a_restore_are_refused() -> None:
    data = two_sources()
    state = data.state_dict()
    receipt = take_receipt(next(iter(MixtureLoader(data, 4))))
    data.load_state_dict(state)
    with pytest.raises(ReceiptError, match="draws 0 to 3 was made before the stream was restored"):
        data.complete([receipt])


def test_a_new_iteration_begins_after_what_was_completed() -> None:
    data = two_sources()
    loader = MixtureLoader(data, 4)
    batches = iter(loader)
    data.complete([take_receipt(next(batches))])
    dropped = take_receipt(next(batches))
    again = take_receipt(next(iter(loader)))
    assert (again.keys, again.first_draw) == (dropped.keys, 4)
    with pytest.raises(ReceiptError, match="rewound"):
        data.complete([dropped])


def test_finite_sources_end_with_a_short_batch() -> None:
    from dataset import MapSource

    data = make_interactive_dataset(
        {"a": MapSource(numbers(0, 10), epochs=1), "b": MapSource(numbers(20, 3), epochs=1)}
    )
    sizes = [len(batch["x"]) for batch in MixtureLoader(data, 4)]
    assert sizes == [4, 4, 4, 1]


# The next batch obeys


@pytest.mark.parametrize("accumulation", [1, 4])
def test_weights_change_is_obeyed_by_every_row_of_the_next_batch(accumulation: int) -> None:
    data = two_sources()
    batches = iter(MixtureLoader(data, 16))
    for change in range(6):
        paused, open_source = ("a", "b") if change % 2 else ("b", "a")
        version = data.set_weights({paused: 0, open_source: 1}).version
        receipts = [take_receipt(next(batches)) for _ in range(accumulation)]
        assert {receipt.version for receipt in receipts} == {version}
        assert {name for receipt in receipts for name in receipt.sources} == {open_source}
        data.complete(receipts)


def test_refused_weights_leave_the_old_ones_in_force() -> None:
    data = two_sources()
    data.set_weights({"a": 0})
    with pytest.raises(WeightsError):
        data.set_weights({"b": 0})
    assert data.weights.by_source == {"a": 0, "b": 1}
    assert set(take_receipt(next(iter(MixtureLoader(data, 16)))).sources) == {"b"}


def test_the_mixture_takes_its_weights_as_an_interactive_parameter() -> None:
    data = two_sources()
    assert data.set_interactive_parameters({"weights": {"a": 3}}) == {"weights": {"a": 1, "b": 1}}
    assert data.interactive_parameters()["weights"] == {"a": 3, "b": 1}
    with pytest.raises(ParameterError, match='"warmth" is no parameter of the mixture; these are: weights, temper'):
        data.set_interactive_parameters({"warmth": 2})


def test_a_change_while_a_batch_waits_holds_for_that_whole_batch_and_loses_nothing() -> None:
    log = MemoryLog(1)
    log.append(0, [key(number) for number in range(2000, 2003)])
    data = with_live(log, {"base": 0, "live": 1})

    def idle() -> bool:
        if data.weights.version == 0:
            data.set_weights({"base": 1, "live": 0})
        return True

    batches = iter(MixtureLoader(data, 8, idle=idle))
    receipt = take_receipt(next(batches))
    assert receipt.version == 1
    assert set(receipt.sources) == {"base"}
    data.complete([receipt])
    assert "live" not in data.consumed.sources
    data.set_weights({"base": 0, "live": 1})
    log.append(0, [key(number) for number in range(2003, 2008)])
    assert take_receipt(next(batches)).keys == tuple(key(number) for number in range(2000, 2008))


def test_a_batch_that_is_drawn_again_obeys_the_newest_weights() -> None:
    data = two_sources()
    data.take(8)
    data.set_weights({"a": 0})
    data.rewind()
    assert set(taken_sources(data, 8)) == {"b"}


def taken_sources(data, size: int) -> tuple[str, ...]:
    _, receipt = data.take(size)
    return receipt.sources


# Dry sources


def test_a_dry_source_never_blocks_and_its_share_goes_to_the_others() -> None:
    log = MemoryLog(1)
    data = with_live(log, {"base": 1, "live": 3})
    batches = iter(MixtureLoader(data, 64))
    began = time.monotonic()
    receipt = take_receipt(next(batches))
    assert time.monotonic() - began < 5
    assert set(receipt.sources) == {"base"}
    assert {redraw.dry for redraw in receipt.redraws} == {("live",)}
    assert 30 < len(receipt.redraws) < 62
    data.complete([receipt])
    statistics = data.statistics()
    assert statistics.sources["live"].shortfall == len(receipt.redraws)
    assert statistics.sources["live"].requested == 0.75
    assert statistics.sources["live"].actual == 0
    log.append(0, [key(number) for number in range(100)])
    time.sleep(0.002)  # a look for news is due a millisecond after the last
    assert "live" in take_receipt(next(batches)).sources


def test_all_dry_waits_serving_the_idle_hook_until_something_comes() -> None:
    log = MemoryLog(1)
    data = with_live(log, {"live": 1})
    calls = []

    def idle() -> bool:
        calls.append(time.monotonic())
        if len(calls) == 20:
            log.append(0, [key(0)])
        return True

    assert take_receipt(next(iter(MixtureLoader(data, 1, idle=idle)))).keys == (key(0),)
    gaps = [after - before for before, after in pairwise(calls)]
    assert len(calls) >= 20
    assert sorted(gaps)[len(gaps) // 2] < 0.05


def test_all_dry_waits_for_a_writer_in_another_thread() -> None:
    log = MemoryLog(1)
    data = with_live(log, {"live": 1})
    timer = threading.Timer(0.1, lambda: log.append(0, [key(0), key(1)]))
    timer.start()
    assert len(take_receipt(next(iter(MixtureLoader(data, 2)))).keys) == 2
    timer.join()


def test_idle_can_give_up_and_what_was_read_comes_first_the_next_time() -> None:
    log = MemoryLog(1)
    log.append(0, [key(0), key(1)])
    data = with_live(log, {"live": 1})
    loader = MixtureLoader(data, 3, idle=lambda: False)
    assert list(loader) == []
    assert list(loader) == []
    log.append(0, [key(2)])
    time.sleep(0.002)
    (batch,) = loader
    assert take_receipt(batch).keys == (key(0), key(1), key(2))


def test_idle_can_restore_the_stream_and_then_the_wait_is_over() -> None:
    log = MemoryLog(1)
    log.append(0, [key(0), key(1)])
    data = with_live(log, {"live": 1})
    state = data.state_dict()

    def load() -> bool:
        data.load_state_dict(state)
        return True

    assert list(MixtureLoader(data, 3, idle=load)) == []
    assert step(data, 2) == [key(0), key(1)]


def test_an_error_raised_by_idle_passes_and_loses_nothing() -> None:
    log = MemoryLog(1)
    log.append(0, [key(0), key(1)])
    data = with_live(log, {"live": 1})

    def stop() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(iter(MixtureLoader(data, 3, idle=stop)))
    assert take_receipt(next(iter(MixtureLoader(data, 2)))).keys == (key(0), key(1))


def test_bad_samples_beyond_the_limit_end_the_stream_by_name_and_lose_nothing() -> None:
    log = MemoryLog(1)
    log.append(0, [key(number) for number in range(10)])

    def broken(members):
        raise ValueError("no image")

    sources = {"base": numbers(0, 5), "live": LiveSource(log, decode=broken, bad_limit=3)}
    data = make_interactive_dataset(sources, {"base": 1, "live": 1})
    with pytest.raises(BadSamples, match=r"4 samples in a row .* s0000/000003-00 \(ValueError: no image\)") as caught:
        data.take(16)
    assert isinstance(caught.value.__cause__, ValueError)
    data.set_weights({"live": 0})
    _, receipt = data.take(5)
    assert sorted(receipt.keys) == [str(number) for number in range(5)]


def test_a_stream_that_waits_with_an_idle_hook_outlives_its_exhausted_sources() -> None:
    from dataset import MapSource

    data = make_interactive_dataset({"once": MapSource(numbers(0, 4), epochs=1), "more": numbers(0, 9)}, {"once": 1})

    def idle() -> bool:
        data.set_weights({"more": 1})
        return True

    loader = iter(MixtureLoader(data, 4, idle=idle))
    assert set(take_receipt(next(loader)).sources) == {"once"}
    assert set(take_receipt(next(loader)).sources) == {"more"}


# Saving and restoring


def drawn(data, batches: int, size: int = 5) -> list[list[str]]:
    return [step(data, size) for _ in range(batches)]


@pytest.mark.parametrize("cut", [0, 1, 3, 9])
def test_a_resume_goes_on_bit_by_bit(cut: int) -> None:
    whole = drawn(two_sources(), 12)
    data = two_sources()
    assert drawn(data, cut) == whole[:cut]
    for _ in range(2):  # twice in a row
        state = json_copy(data.state_dict())
        data = two_sources()
        data.load_state_dict(state)
    assert drawn(data, 12 - cut) == whole[cut:]


def test_a_resume_after_changed_weights_goes_on_bit_by_bit() -> None:
    def run(cut: int | None) -> list[list[str]]:
        data, rows = two_sources(), []
        for number in range(12):
            if number in (3, 7):
                data.set_weights({"a": number})
            if number == cut:
                state = json_copy(data.state_dict())
                data = two_sources()
                data.load_state_dict(state)
            rows.append(step(data, 5))
        return rows

    whole = run(None)
    assert all(run(cut) == whole for cut in (2, 3, 4, 7, 11))


def test_a_state_taken_with_a_batch_in_flight_is_that_of_the_last_completed_step() -> None:
    data = two_sources()
    drawn(data, 2)
    before = json_copy(data.state_dict())
    data.take(5)
    assert json_copy(data.state_dict()) == before


def test_a_load_goes_back_to_an_earlier_state_in_the_same_object() -> None:
    data = two_sources()
    drawn(data, 2)
    state = json_copy(data.state_dict())
    data.set_weights({"a": 5})
    rows = drawn(data, 4)
    data.load_state_dict(state)
    assert data.weights.version == 0
    data.set_weights({"a": 5})
    assert drawn(data, 4) == rows


def test_the_record_alone_repeats_the_choice_of_every_draw() -> None:
    log = MemoryLog(2)
    data = with_live(log, {"base": 1, "live": 1})
    chosen: list[str] = []
    for number in range(60):
        if number % 7 == 0:
            log.append(number % 2, [key(number), key(number + 1)])
            time.sleep(0.0015)
        if number in (20, 40):
            data.set_weights({"live": number / 10})
        _, receipt = data.take(4)
        data.complete([receipt])
        chosen += receipt.sources
    (rank,) = MixtureState.load(json_copy(data.state_dict())).ranks.values()
    draws = Draws(data.seed, 0)
    for draw, name in enumerate(chosen):
        weights = next(entry.weights for entry in reversed(rank.weights) if entry.from_draw <= draw)
        assert replayed(draws, weights, draw, rank.redraws.dry_at(draw)) == name
    assert 1 <= len(rank.redraws.runs) < 40


def test_the_state_stays_small_however_long_training_goes_on() -> None:
    log = MemoryLog(2)
    data = with_live(log, {"base": 1, "live": 1})
    for number in range(1300):
        if number % 2:
            log.append(number % 2, [key(number)])
        data.set_weights({"live": 1 + number % 3})
        step(data, 4)
    state = data.state_dict()
    assert len(str(json_copy(state))) < 250_000
    assert len(state["ranks"]["0"]["redraws"]["runs"]) <= 1000
    (rank,) = MixtureState.load(json_copy(state)).ranks.values()
    assert rank.redraws.complete_from <= rank.redraws.runs[0].first


def test_a_foreign_state_is_refused_by_name() -> None:
    data = two_sources()
    state = json_copy(data.state_dict())
    for changed, told in (
        ({"kind": "optimizer"}, "one of 'optimizer', not of a stovetop mixture"),
        ({"format": 7}, "format 7, and only 1 is known"),
        ({"seed": 4}, "made with seed 4, not 0"),
        ({"ranks": {}}, "lacks rank 0 of 1"),
        ({"ranks": {"0": {"next_draw": "x"}}}, "is damaged"),
        ({"sources": {"c": {"fingerprint": "map:list[9]", "shares": {}}}}, r'has a source "c" \(map:list\[9\]\)'),
    ):
        with pytest.raises(StateError, match=told):
            data.load_state_dict({**state, **changed})
    other = make_interactive_dataset({"a": numbers(0, 51), "b": numbers(0, 70)})
    with pytest.raises(StateError, match=r'source "a" is map:list\[51\], but the state was made with map:list\[50\]'):
        other.load_state_dict(state)


def test_a_source_can_be_forgotten_trusted_or_new() -> None:
    data = two_sources()
    rows = drawn(data, 6)
    state = json_copy(data.state_dict())
    grown = make_interactive_dataset({"a": numbers(0, 51), "b": numbers(1000, 70), "c": numbers(0, 3)}, {"c": 2})
    grown.load_state_dict(state, forget=["a"])
    assert grown.weights.by_source == {"a": 1, "b": 1, "c": 2}
    assert set(grown.consumed.sources) == {"b"}
    moved = make_interactive_dataset({"a": numbers(0, 51), "b": numbers(1000, 70)})
    moved.load_state_dict(state, trust=["a"])
    assert moved.consumed.dump() == data.consumed.dump()
    assert rows
    with pytest.raises(StateError, match='has a source "b"'):
        make_interactive_dataset({"a": numbers(0, 50)}).load_state_dict(state)


# Several ranks


def ranked(world: int, state=None, batch: int = 4):
    ranks = []
    for rank in range(world):
        data = two_sources()
        if state is not None:
            data.load_state_dict(state)
        MixtureLoader(data, batch, rank=rank, world=world)
        ranks.append(data)
    return ranks


def test_ranks_read_different_samples_and_draw_differently() -> None:
    first, second = ranked(2)
    rows = [list(chain.from_iterable(drawn(data, 5, 4))) for data in (first, second)]
    assert not set(rows[0]) & set(rows[1])
    assert [number < "s0010" for number in rows[0]] != [number < "s0010" for number in rows[1]]


def test_a_resume_on_the_same_ranks_goes_on_bit_by_bit() -> None:
    ranks = ranked(2)
    for data in ranks:
        drawn(data, 3, 4)
    merged = json_copy(merge_states(json_copy(data.state_dict()) for data in reversed(ranks)))
    again = ranked(2, merged)
    assert [drawn(data, 6, 4) for data in again] == [drawn(data, 6, 4) for data in ranks]


def test_a_state_of_some_ranks_only_is_refused() -> None:
    ranks = ranked(3)
    with pytest.raises(StateError, match="lacks rank 1 of 3; merge those of all"):
        two_sources().load_state_dict(merge_states([ranks[0].state_dict(), ranks[2].state_dict()]))


def test_states_of_different_runs_are_not_merged() -> None:
    one, two = two_sources(), two_sources(seed=1)
    with pytest.raises(StateError, match="states of different runs"):
        merge_states([one.state_dict(), two.state_dict()])
    with pytest.raises(StateError, match="no states to merge"):
        merge_states([])


def test_an_announced_version_holds_on_every_rank_from_the_same_batch_on() -> None:
    ranks = ranked(2)
    for data in ranks:
        drawn(data, 2, 4)
        data.set_weights({"a": 0}, at_version=5)
    for data in ranks:
        _, receipt = data.take(8)
        assert (receipt.version, set(receipt.sources)) == (5, {"b"})


def test_weights_that_were_changed_before_the_layout_is_told_hold() -> None:
    data = two_sources()
    data.set_weights({"a": 0})
    data.set_layout(1, 2)
    assert set(data.take(8)[1].sources) == {"b"}
    assert data.weights.version == 1


def test_the_layout_cannot_change_while_samples_are_read() -> None:
    data = two_sources()
    step(data, 3)
    with pytest.raises(LayoutError, match="3 samples were read as rank 0 of 1"):
        data.set_layout(0, 2)
    with pytest.raises(LayoutError, match="rank 2 of 2"):
        data.set_layout(2, 2)


# As a plain torch dataset


def test_a_plain_dataloader_without_workers_reads_it_and_obeys() -> None:
    data = two_sources()
    batches = iter(DataLoader(data, batch_size=4))
    assert next(batches)["x"].shape == (4,)
    data.set_weights({"a": 0})
    assert bool((next(batches)["x"] >= 1000).all())
    assert isinstance(next(batches)["x"], torch.Tensor)


def test_iterated_by_itself_a_sample_is_consumed_when_the_next_is_asked_for() -> None:
    data = two_sources()
    samples = iter(data)
    first = [next(samples)["key"] for _ in range(5)]
    state = json_copy(data.state_dict())
    other = two_sources()
    other.load_state_dict(state)
    assert next(iter(other))["key"] == first[-1]


def test_closing_is_harmless_and_the_next_use_goes_on() -> None:
    log = MemoryLog(1)
    data = with_live(log, {"base": 1, "live": 1})
    rows = drawn(with_live(MemoryLog(1), {"base": 1, "live": 1}), 4)
    assert drawn(data, 2) == rows[:2]
    data.close()
    data.close()
    assert log.open_readers == 0
    assert drawn(data, 2) == rows[2:]


def test_receipts_are_frozen() -> None:
    receipt = take_receipt(next(iter(MixtureLoader(two_sources(), 2))))
    assert isinstance(receipt, Receipt)
    with pytest.raises(AttributeError):
        receipt.version = 3  # type: ignore[misc]
