"""Weights that are refused or hold, and draws that are a function of them and an index."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset import Weights, WeightsError
from dataset.mixture import KEPT, Draws, InForce, Schedule, replayed
from dataset.uniforms import BLOCK, Uniforms, key_of, permutation, words

NAMES = ("base", "history", "live")
EQUAL = Weights.first(NAMES)


@pytest.mark.parametrize(
    ("given_weights", "told"),
    [
        ({"life": 1}, 'there is no source "life"; the sources are base, history, live'),
        ({"live": math.nan}, '"live" is nan, but a weight is finite'),
        ({"live": math.inf}, '"live" is inf, but a weight is finite'),
        ({"live": -1}, '"live" is -1, but a weight is at least 0; to pause a source, set it to 0'),
        ({"live": "0.5"}, "\"live\" is '0.5', but a weight is a number"),
        ({"live": True}, '"live" is True, but a weight is a number'),
        ({"live": None}, '"live" is None, but a weight is a number'),
        ({"live": 0, "base": 0, "history": 0}, "leave nothing to draw from; set one above 0"),
        ([0.5, 0.5], "is not a mapping"),
    ],
)
def test_bad_weights_are_refused_with_the_value_the_rule_and_the_way_out(given_weights, told: str) -> None:
    with pytest.raises(WeightsError, match="weights: ") as caught:
        EQUAL.changed(given_weights)
    assert told in str(caught.value)


def test_sources_that_are_not_named_keep_their_weights() -> None:
    changed = EQUAL.changed({"live": 2}).changed({"base": 0})
    assert changed.by_source == {"base": 0, "history": 1, "live": 2}
    assert changed.version == 2


def test_weights_are_relative_and_shares_are_shown() -> None:
    shares = EQUAL.changed({"live": 6, "base": 1, "history": 1}).shares()
    assert shares == {"base": 0.125, "history": 0.125, "live": 0.75}


def test_an_announced_version_is_taken_over_and_never_goes_back() -> None:
    announced = EQUAL.changed({"live": 2}, version=7)
    assert announced.version == 7
    with pytest.raises(WeightsError, match="version 7 was announced, but 7 is in force"):
        announced.changed({"live": 3}, version=7)


def test_sources_without_a_first_weight_are_paused_and_all_are_equal_without_any() -> None:
    assert Weights.first(NAMES, {"base": 3}).by_source == {"base": 3, "history": 0, "live": 0}
    assert Weights.first(NAMES).by_source == {"base": 1, "history": 1, "live": 1}


weights = st.lists(st.floats(0, 100) | st.just(0.0), min_size=3, max_size=3).filter(lambda each: sum(each) > 1e-3)


@given(st.integers(0, 2**40), st.integers(0, 7), st.integers(0, 10**7), weights)
def test_a_draw_is_a_pure_function_and_never_takes_a_paused_source(seed, rank, index, given_weights) -> None:
    mixed = EQUAL.changed(dict(zip(NAMES, given_weights, strict=True)))
    name = Draws(seed, rank).pick(mixed, index)
    elsewhere = Draws(seed, rank)
    elsewhere.pick(EQUAL, index + 5000)
    elsewhere.pick(mixed, 0)
    assert elsewhere.pick(mixed, index) == name
    assert mixed.by_source[name] > 0


@given(st.integers(0, 10**6), weights, st.sets(st.sampled_from(NAMES), max_size=3))
def test_a_repeated_draw_takes_none_that_was_dry_and_is_found_again_from_the_record(index, given_weights, dry) -> None:
    mixed = EQUAL.changed(dict(zip(NAMES, given_weights, strict=True)))
    draws = Draws(3, 0)
    tried: list[str] = []
    name: str | None = draws.pick(mixed, index)
    while name in dry:
        tried.append(name)
        name = draws.again(mixed, index, tried)
    if name is None:
        assert {each for each in NAMES if mixed.by_source[each] > 0} <= dry
    else:
        assert name not in dry
        assert mixed.by_source[name] > 0
        assert replayed(Draws(3, 0), mixed, index, frozenset(tried)) == name


def within_binomial_bound(count: int, draws: int, share: float) -> bool:
    """Five standard deviations: one in 1.7 million of true mixtures would be outside."""
    return abs(count - draws * share) <= 5 * math.sqrt(draws * share * (1 - share)) + 1e-9


@pytest.mark.parametrize("given_weights", [(1, 1, 1), (0.7, 0.2, 0.1), (0, 1, 3), (1e-9, 1, 1), (1e6, 1e6, 5e5)])
def test_shares_are_within_the_binomial_bound(given_weights) -> None:
    mixed = EQUAL.changed(dict(zip(NAMES, given_weights, strict=True)))
    draws = Draws(11, 2)
    counts = Counter(draws.pick(mixed, index) for index in range(20_000))
    for name, share in mixed.shares().items():
        assert within_binomial_bound(counts[name], 20_000, share)


def test_repeated_draws_keep_the_proportions_of_the_sources_that_are_left() -> None:
    mixed = EQUAL.changed({"base": 3, "history": 1, "live": 4})
    draws = Draws(5, 0)
    dry = [index for index in range(20_000) if draws.pick(mixed, index) == "live"]
    counts = Counter(draws.again(mixed, index, ["live"]) for index in dry)
    assert within_binomial_bound(counts["base"], len(dry), 0.75)


def test_ranks_and_seeds_draw_independently_also_where_their_sums_agree() -> None:
    sequences = {(seed, rank): tuple(Draws(seed, rank).pick(EQUAL, index) for index in range(64))
                 for seed in range(4) for rank in range(4)}  # fmt: skip
    assert len(set(sequences.values())) == 16


def test_a_change_between_two_draws_leaves_the_draws_before_it_as_they_were() -> None:
    draws = Draws(0, 0)
    paused = EQUAL.changed({"live": 0})
    before = [draws.pick(EQUAL, index) for index in range(100)]
    assert all(draws.pick(paused, index) != "live" for index in range(100, 200))
    assert [draws.pick(EQUAL, index) for index in range(100)] == before


def test_uniforms_are_the_same_for_ever() -> None:
    """Saved states rely on these very numbers: if this fails, resuming is broken, not the test."""
    first = [11594547833536390291, 16830936383875542212, 9736015275108866241, 6782517355281792581]
    assert words(key_of("test", 1), 0, 4).tolist() == first
    assert permutation(8, "test", 1).tolist() == [6, 3, 4, 2, 7, 0, 5, 1]
    picks = [Draws(0, 0).pick(EQUAL, index) for index in range(6)]
    assert picks == ["base", "base", "history", "live", "base", "history"]


@given(st.integers(0, 10 * BLOCK), st.integers(0, 3))
def test_uniforms_do_not_depend_on_the_order_in_which_they_are_asked_for(index, attempt) -> None:
    asked = Uniforms("x", 1)
    for other in range(0, 12 * BLOCK, BLOCK):
        asked.at(other)
    value = asked.at(index, attempt)
    assert 0 <= value < 1
    assert value == Uniforms("x", 1).at(index, attempt)
    assert value != asked.at(index, attempt + 1)


def test_uniforms_are_uniform() -> None:
    values = np.array([Uniforms("y").at(index) for index in range(4 * BLOCK)])
    counts, _ = np.histogram(values, bins=16, range=(0, 1))
    assert all(within_binomial_bound(int(count), len(values), 1 / 16) for count in counts)


@given(st.integers(0, 3000), st.integers(0, 5))
def test_a_permutation_holds_every_number_once(count, seed) -> None:
    assert sorted(permutation(count, "epoch", seed).tolist()) == list(range(count))


def test_a_schedule_knows_what_held_for_each_draw_and_forgets_what_never_did() -> None:
    schedule = Schedule([InForce(0, EQUAL)])
    one, two, three = (Weights(number, EQUAL.by_source) for number in (1, 2, 3))
    schedule.change(one, 10)
    schedule.change(two, 10)
    schedule.change(three, 30)
    assert [schedule.at(draw).version for draw in (0, 9, 10, 29, 30, 99)] == [0, 0, 2, 2, 3, 3]
    assert schedule.newest is three


def test_a_schedule_stays_small() -> None:
    schedule = Schedule([InForce(0, EQUAL)])
    for number in range(1, 1000):
        schedule.change(Weights(number, EQUAL.by_source), 10 * number)
    assert len(schedule.dump()) == KEPT
    assert schedule.newest.version == 999
