"""Shards in the place of others: what was deleted is gone, every number and every reader stays."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import webdataset

from ingest.errors import SampleRemoved, ShardClaimed, ShardError
from ingest.replacing import replace, retire
from ingest.shard_reader import Shard, ShardChain, archived_before
from ingest.shards import DirectoryStore, ShardStore, directory, shard_name
from ingest.shards import store as store_module
from ingest.types import SAMPLES
from tests.ingest.stores import contents, local_copy, overwrite, staged
from tests.ingest.test_shards import DyingOs, Killed, write

FOLDER = "samples/0"


@pytest.fixture
def filled(store: ShardStore) -> ShardStore:
    """Four shards: offsets 0 to 2, 3 and 5, 6, and 7 to 8."""
    write(store, 0, [0, 1, 2]).publish()
    write(store, 3, [3, 5]).publish()
    write(store, 6, [6]).publish()
    write(store, 7, [7, 8]).publish()
    return store


def shards_of(store: ShardStore, *firsts: int) -> list[Shard]:
    chain = ShardChain(store, SAMPLES, 0)
    return [shard for shard in map(chain.covering, firsts) if shard is not None]


def offsets(chain: ShardChain) -> list[int]:
    return [at.offset for at, _ in chain.samples()]


def names(*pairs: tuple[int, int]) -> list[str]:
    return [shard_name(SAMPLES, 0, first, generation) for first, generation in pairs]


def test_what_is_left_out_is_gone_and_every_other_sample_keeps_its_number(filled: ShardStore, tmp_path: Path) -> None:
    made = replace(filled, shards_of(filled, 3), lambda entry: entry.offset != 5)
    assert made is not None
    assert made.name == shard_name(SAMPLES, 0, 3, 1)
    assert (made.summary.next_offset, made.summary.count, made.summary.rows) == (6, 1, 2)
    assert b"000005" not in contents(filled, made.name)
    chain = ShardChain(filled, SAMPLES, 0)
    assert offsets(chain) == [0, 1, 2, 3, 6, 7, 8]
    assert chain.count() == 8
    assert [chain.sample(number)[0].offset for number in (0, 1, 2, 3, 5, 6, 7)] == [0, 1, 2, 3, 6, 7, 8]
    assert chain.entry(4).removed
    with pytest.raises(SampleRemoved, match="offset 5"):
        chain.sample(4)
    assert chain.number_at((5, 0)) == 4
    assert archived_before(filled, SAMPLES, 0) == 9
    read = webdataset.WebDataset(str(local_copy(filled, made.name, tmp_path / "copy")), shardshuffle=False)
    assert [item["__key__"] for item in read] == ["visit/000003-00"]


def test_a_shard_of_which_everything_was_deleted_still_covers_its_records(filled: ShardStore) -> None:
    made = replace(filled, shards_of(filled, 7), lambda entry: False)
    assert made is not None
    assert archived_before(filled, SAMPLES, 0) == 9
    write(filled, 9, [9]).publish()
    assert offsets(ShardChain(filled, SAMPLES, 0)) == [0, 1, 2, 3, 5, 6, 9]


def test_neighbours_become_one_shard_and_a_reader_who_stands_in_one_of_them_goes_on(filled: ShardStore) -> None:
    standing, numbered = ShardChain(filled, SAMPLES, 0), ShardChain(filled, SAMPLES, 0, whole=False)
    reading = standing.samples()
    assert [next(reading)[0].offset for _ in range(4)] == [0, 1, 2, 3]
    assert numbered.count() == 8
    made = replace(filled, shards_of(filled, 0, 3, 6))
    assert made is not None
    assert (made.summary.first_offset, made.summary.next_offset, made.summary.count) == (0, 7, 6)
    chain = ShardChain(filled, SAMPLES, 0)
    assert list(chain.names) == names((0, 1), (7, 0))
    assert offsets(chain) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert retire(filled, SAMPLES, 0, pause=60.0) == []
    assert retire(filled, SAMPLES, 0, pause=0.0) == names((0, 0), (3, 0), (6, 0))
    assert filled.names(FOLDER) == names((0, 1), (7, 0))
    assert [at.offset for at, _ in reading] == [5, 6, 7, 8]
    assert [numbered.sample(number)[1] for number in range(8)] == [found for _, found in chain.samples()]
    assert numbered.number_at((6, 0)) == 5


def test_the_tail_of_the_chain_grows_on_for_a_reader_whose_next_shard_was_replaced_unseen(
    filled: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = ShardChain(filled, SAMPLES, 0)
    for first in (9, 10, 11):
        write(filled, first, [first]).publish()
    replace(filled, shards_of(filled, 9, 10))
    retire(filled, SAMPLES, 0, pause=0.0)
    monkeypatch.setattr("ingest.shard_reader._LIST_EVERY", 0.0)
    assert chain.refresh() == 2
    assert offsets(chain) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]


def test_the_last_shard_of_a_chain_is_not_put_together_with_others(filled: ShardStore) -> None:
    with pytest.raises(ShardError, match=r"7\.tar is the last of its chain"):
        replace(filled, shards_of(filled, 6, 7))
    with pytest.raises(ShardError, match="does not follow"):
        replace(filled, shards_of(filled, 0, 6))
    assert filled.names(FOLDER) == names((0, 0), (3, 0), (6, 0), (7, 0))


def test_of_two_that_replace_the_same_shard_one_starts_over(filled: ShardStore) -> None:
    stale = shards_of(filled, 0, 3)
    assert replace(filled, shards_of(filled, 0), lambda entry: entry.offset != 1) is not None
    assert replace(filled, stale) is None
    retire(filled, SAMPLES, 0, pause=0.0)
    assert replace(filled, stale) is None
    assert replace(filled, shards_of(filled, 0, 3)) is not None
    assert offsets(ShardChain(filled, SAMPLES, 0)) == [0, 2, 3, 5, 6, 7, 8]


def test_what_was_deleted_while_shards_were_put_together_does_not_come_back(
    filled: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = filled.create_if_absent

    def create_late(name: str, staged: Any) -> bool:
        monkeypatch.undo()
        assert replace(filled, shards_of(filled, 3), lambda entry: entry.offset != 5) is not None
        return create(name, staged)

    monkeypatch.setattr(filled, "create_if_absent", create_late)
    made = replace(filled, shards_of(filled, 0, 3))
    assert made is not None
    assert made.name == shard_name(SAMPLES, 0, 0, 2)
    assert offsets(ShardChain(filled, SAMPLES, 0)) == [0, 1, 2, 3, 6, 7, 8]


def test_a_damaged_shard_is_not_replaced(filled: ShardStore) -> None:
    data = bytearray(contents(filled, shard_name(SAMPLES, 0, 3)))
    data[2100] ^= 1
    overwrite(filled, shard_name(SAMPLES, 0, 3), bytes(data))
    with pytest.raises(ShardError, match=r"0{19}3\.tar: its bytes have sha256"):
        replace(filled, shards_of(filled, 0, 3))
    assert filled.names(FOLDER) == names((0, 0), (3, 0), (6, 0), (7, 0))
    assert staged(filled, FOLDER) == []


def test_an_archiver_that_slept_while_its_shard_was_replaced_and_removed_harms_nothing(filled: ShardStore) -> None:
    asleep = [write(filled, 3, [3, 5, 6, 7, 8, 9]), write(filled, 6, [6])]
    replace(filled, shards_of(filled, 0, 3, 6), lambda entry: entry.offset != 3)
    retire(filled, SAMPLES, 0, pause=0.0)
    with contextlib.suppress(ShardClaimed):  # the log remembers that it goes elsewhere; but its name is free again
        assert asleep[0].publish()
    assert asleep[1].publish()
    asleep[0].discard()
    chain = ShardChain(filled, SAMPLES, 0)
    assert (offsets(chain), chain.next_offset) == ([0, 1, 2, 5, 6, 7, 8], 9)
    assert archived_before(filled, SAMPLES, 0) == 9
    assert set(retire(filled, SAMPLES, 0, pause=0.0)) >= set(names((6, 0)))
    assert filled.names(FOLDER) == names((0, 1), (7, 0))


def test_killed_between_any_two_calls_either_chain_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for lives in range(60):
        store = DirectoryStore(tmp_path / str(lives))
        for first in range(4):
            write(store, first, [first]).publish()
        inputs, dying = shards_of(store, 0, 1, 2), DyingOs(lives)
        with monkeypatch.context() as patched:
            patched.setattr(directory, "os", dying)
            patched.setattr(store_module.StagedShard, "discard", lambda staged: None)
            try:
                replace(store, inputs)
                retire(store, SAMPLES, 0, pause=0.0)
                finished = True
            except Killed:
                finished = False
        chain = ShardChain(store, SAMPLES, 0)
        assert offsets(chain) == [0, 1, 2, 3]
        assert chain.next_offset == archived_before(store, SAMPLES, 0) == 4
        seen.add(len(store.names(FOLDER)))
        retire(store, SAMPLES, 0, pause=0.0)
        assert offsets(chain) == [0, 1, 2, 3]
        if finished:
            break
    assert {4, 5, 3, 2} <= seen, "killed before, right after and while retiring"
    assert os.listdir(store.root / FOLDER)
