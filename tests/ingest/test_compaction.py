"""Small shards become large ones, and no byte is copied more often than sizes double."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.compaction import CompactionSettings, Compactor, compact, plan
from ingest.shard_reader import ShardChain, archived_before
from ingest.shards import ShardStore
from ingest.types import SAMPLES
from tests.ingest.test_shards import write

SMALL = CompactionSettings(target_bytes=100, min_shards=4)


@given(st.lists(st.integers(1, 150)), st.integers(2, 6))
def test_what_is_put_together_are_neighbours_that_fit_and_at_least_double(sizes: list[int], least: int) -> None:
    settings = CompactionSettings(target_bytes=100, min_shards=least)
    end = 0
    for group in plan(sizes, settings):
        assert group.start >= end
        end = group.stop
        total = sum(sizes[group.start : group.stop])
        assert len(group) > 1
        assert total <= 100
        assert total >= 2 * max(sizes[group.start : group.stop])
        assert len(group) >= least or total >= 50


def test_an_archive_that_grows_by_small_shards_is_copied_a_few_times_only() -> None:
    chance = random.Random(3)
    sizes: list[int] = []
    settings = CompactionSettings(target_bytes=64_000, min_shards=8)
    written = copied = 0
    for _ in range(3000):
        sizes.append(chance.randrange(50, 150))
        written += sizes[-1]
        for group in reversed(plan(sizes[:-1], settings)):
            made = sum(sizes[group.start : group.stop])
            copied += made
            sizes[group.start : group.stop] = [made]
    assert len(sizes) < 60, "of 3,000"
    assert copied < 7 * written


def test_nothing_is_done_where_there_is_little_to_gain() -> None:
    assert plan([], SMALL) == plan([10], SMALL) == plan([10, 10, 10], SMALL) == plan([90, 90, 90, 90], SMALL) == []
    assert plan([90, 1, 1, 1], SMALL) == []
    assert plan([30, 30], SMALL) == [range(2)]
    assert plan([90, 10, 10, 10, 10], SMALL) == [range(1, 5)]


def test_small_shards_of_a_store_become_one_and_every_sample_stays(store: ShardStore) -> None:
    for first in range(10):
        write(store, first, [first]).publish()
    before = list(ShardChain(store, SAMPLES, 0).samples())
    settings = CompactionSettings(min_shards=4)
    assert compact(store, SAMPLES, 0, settings) == 8
    chain = ShardChain(store, SAMPLES, 0)
    assert list(chain.samples()) == before
    assert len(chain) == 2
    assert archived_before(store, SAMPLES, 0) == 10
    assert compact(store, SAMPLES, 0, settings) == 0


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_the_compactor_works_from_time_to_time_and_removes_what_was_replaced(store: ShardStore) -> None:
    for first in range(10):
        write(store, first, [first]).publish()
    settings = CompactionSettings(min_shards=4, every=0.01, pause=0.001)
    stop = threading.Event()
    thread = threading.Thread(target=Compactor(store, [(SAMPLES, 0), (SAMPLES, 1)], settings).run, args=(stop,))
    thread.start()
    while len(store.names("samples/0")) > 2:
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert len(list(ShardChain(store, SAMPLES, 0).samples())) == 10
