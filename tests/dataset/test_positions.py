"""What was consumed, held against a model: a plain set of points on a small grid."""

from __future__ import annotations

import json
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset import ORIGIN, Consumed, IntervalSet, Span

GRID = list(product(range(6), range(4)))  # offsets 0 … 5 with indices 0 … 3, in order
PLACE = {point: place for place, point in enumerate(GRID)}

points = st.sampled_from(GRID)
intervals = st.tuples(points, points).map(lambda pair: (min(pair), max(pair)))
interval_lists = st.lists(intervals, max_size=12)


def model(pieces: list[tuple[tuple[int, int], tuple[int, int]]]) -> set[int]:
    return {place for start, end in pieces for place in range(PLACE[start], PLACE[end])}


@given(interval_lists)
def test_a_set_holds_exactly_the_points_that_were_added(pieces):
    held = IntervalSet(pieces)
    assert model(list(held)) == model(pieces)


@given(interval_lists)
def test_intervals_are_sorted_disjoint_and_do_not_touch(pieces):
    held = list(IntervalSet(pieces))
    assert all(start < end for start, end in held)
    assert all(end < following for (_, end), (following, _) in pairwise(held))


@given(interval_lists, st.randoms())
def test_the_order_of_additions_does_not_matter(pieces, random):
    shuffled = random.sample(pieces, len(pieces))
    assert IntervalSet(pieces) == IntervalSet(shuffled)


@given(interval_lists, interval_lists, interval_lists)
def test_union_is_idempotent_commutative_and_associative(a, b, c):
    def union(*parts):
        whole = IntervalSet()
        for part in parts:
            whole.update(part if isinstance(part, IntervalSet) else IntervalSet(part))
        return whole

    assert union(a, a) == union(a)
    assert union(a, b) == union(b, a)
    assert union(union(a, b), c) == union(a, union(b, c))


@given(interval_lists, intervals)
def test_covers_and_touches_agree_with_the_model(pieces, asked):
    held, start, end = IntervalSet(pieces), *asked
    wanted = model([asked])
    assert held.covers(start, end) == (wanted <= model(pieces))
    assert held.touches(start, end) == bool(wanted & model(pieces))


@given(interval_lists, points)
def test_an_in_order_reader_goes_on_at_the_first_point_that_is_not_held(pieces, point):
    places = model(pieces)
    following = next((place for place in range(PLACE[point], len(GRID)) if place not in places), None)
    found = IntervalSet(pieces).next_after(point)
    assert found == (GRID[following] if following is not None else max(end for _, end in pieces))


@given(interval_lists, intervals)
def test_a_copy_is_independent(pieces, more):
    held = IntervalSet(pieces)
    before = list(held)
    held.copy().add(*more)
    assert list(held) == before


def test_an_interval_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="end lies before the start"):
        IntervalSet([((1, 0), (0, 0))])


spans = st.builds(
    lambda name, pair: (name, Span("0", *pair)), st.sampled_from(["live", "base"]), intervals
) | st.builds(lambda name, pair: (name, Span("1", *pair)), st.sampled_from(["live", "base"]), intervals)


def consumed_of(booked) -> Consumed:
    consumed = Consumed()
    for source, span in booked:
        consumed.add(source, span)
    return consumed


@given(st.lists(spans, max_size=20))
def test_a_dump_of_json_brings_everything_back(booked):
    consumed = consumed_of(booked)
    loaded = Consumed.load(json.loads(json.dumps(consumed.dump())))
    assert loaded.dump() == consumed.dump()
    assert loaded.watermark() == consumed.watermark()


@given(st.lists(spans, max_size=20), st.integers(0, 20))
def test_ranks_merge_to_what_one_would_have_booked(booked, cut):
    first, second = consumed_of(booked[:cut]), consumed_of(booked[cut:])
    second.update(first)
    whole = consumed_of(booked)
    for source, partitions in whole.sources.items():
        for name, held in partitions.items():
            assert second.partition(source, name) == held


def test_the_watermark_is_where_everything_below_was_consumed():
    consumed = consumed_of([("live", Span("0", (0, 0), (3, 0))), ("live", Span("0", (5, 0), (6, 0)))])
    assert consumed.watermark() == {"live": {"0": (3, 0)}}
    assert consumed.of("live")["0"].next_after(ORIGIN) == (3, 0)


def test_sets_that_are_handed_out_are_copies():
    consumed = consumed_of([("live", Span("0", (0, 0), (3, 0)))])
    consumed.of("live")["0"].add((7, 0), (8, 0))
    consumed.copy().add("live", Span("0", (9, 0), (10, 0)))
    assert list(consumed.of("live")["0"]) == [((0, 0), (3, 0))]


def test_a_format_that_is_not_known_is_refused_by_name():
    with pytest.raises(ValueError, match="format 2: only 1"):
        Consumed.load({"format": 2, "sources": {}})
