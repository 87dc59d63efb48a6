"""Copies of remote shards: whole or absent, bounded, shared by processes, and gone when their shard is."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from ingest.errors import ShardError, StoreRefused
from ingest.replacing import replace, retire
from ingest.shard_reader import ShardChain
from ingest.shards import shard_name
from ingest.shards.cache import ShardCache
from ingest.shards.cached import CachedStore
from ingest.shards.s3 import S3Store
from ingest.types import SAMPLES
from tests.ingest.stores import contents, make_store, overwrite
from tests.ingest.test_shards import write
from tests.waiting import until


def filled(letter: bytes, size: int, calls: list[bytes] | None = None):
    def fetch(file: BinaryIO) -> None:
        if calls is not None:
            calls.append(letter)
        file.seek(0)
        file.write(letter * size)

    return fetch


def copies(cache: ShardCache) -> set[str]:
    files = (path for path in cache.folder.rglob("*") if path.is_file() and path.parent.name != ".locks")
    return {path.name for path in files if not path.name.startswith(".")}


def test_a_copy_is_fetched_once_and_the_longest_unused_makes_room(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 250)
    calls: list[bytes] = []
    for place in (b"a", b"b", b"a"):
        assert cache.get(place.decode(), 100, filled(place, 100, calls)).read_bytes() == place * 100
    assert calls == [b"a", b"b"]
    os.utime(tmp_path / "cache/a", (1, 1))
    cache.find("a")  # used now
    os.utime(tmp_path / "cache/b", (2, 2))
    cache.get("c", 100, filled(b"c", 100, calls))
    assert copies(cache) == {"a", "c"}
    with pytest.raises(StoreRefused, match="300 bytes, but the cache"):
        cache.get("d", 300, filled(b"d", 300))


def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 1000)

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise ShardError("torn")

    with pytest.raises(ShardError, match="torn"):
        cache.get("a", 10, fail)
    assert copies(cache) == set()
    assert list(cache.folder.glob(".*.tmp")) == []


def _slowly(file: BinaryIO) -> None:
    time.sleep(0.3)
    file.seek(0)
    file.write(os.urandom(50))


def _get_slowly(cache: ShardCache, answers: object) -> None:
    answers.put(cache.get("a/b", 50, _slowly).read_bytes())  # type: ignore[attr-defined]


def test_of_several_processes_one_fetches_and_all_read_the_same(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    answers = forking.Queue()
    cache = ShardCache(tmp_path / "cache", 1000)
    processes = [forking.Process(target=_get_slowly, args=(cache, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
    assert len(found) == 1


def test_what_a_killed_process_was_fetching_is_removed_and_fetched_again(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 1000)
    killed = os.fork()
    if killed == 0:

        def hang(file: BinaryIO) -> None:
            file.write(b"half")
            file.flush()
            (tmp_path / "hangs").touch()
            time.sleep(60)

        cache.get("a", 100, hang)
        os._exit(0)
    while not (tmp_path / "hangs").exists():
        time.sleep(0.01)
    os.kill(killed, 9)
    os.waitpid(killed, 0)
    left = [path for path in cache.folder.glob(".*.tmp")]
    assert len(left) == 1
    os.utime(left[0], (1, 1))
    assert cache.get("a", 100, filled(b"x", 100)).read_bytes() == b"x" * 100
    assert copies(cache) == {"a"}


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> S3Store:
    store = make_store("moto", request, tmp_path)
    assert isinstance(store, S3Store)
    for first in range(0, 9, 3):
        write(store, first, [first, first + 1, first + 2], members={"bin": os.urandom(60_000)}).publish()
    return store


@pytest.fixture
def cached(remote: S3Store, tmp_path: Path) -> CachedStore:
    read_only = S3Store(f"s3://{remote.bucket}/{remote.place.prefix}", endpoint=remote.place.endpoint)
    return CachedStore(read_only, ShardCache(tmp_path / "cache", 1 << 20))


class Counting:
    """Counts the reads of a store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[int] = []
        real = S3Store.read
        lock = threading.Lock()

        def read(store: S3Store, name: str, start: int, size: int) -> bytes:
            with lock:
                self.reads.append(size)
            return real(store, name, start, size)

        monkeypatch.setattr(S3Store, "read", read)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, cached: CachedStore) -> Counting:
    return Counting(monkeypatch)


def test_shards_read_in_order_are_fetched_whole_and_the_next_one_ahead(cached: CachedStore, counting: Counting) -> None:
    expected = [(at.offset, found) for at, found in ShardChain(cached.store, SAMPLES, 0).samples()]
    counting.reads.clear()
    reading = ShardChain(cached, SAMPLES, 0).samples()
    first = next(reading)
    until(lambda: len(copies(cached.cache)) == 2)
    assert [(first[0].offset, first[1])] + [(at.offset, found) for at, found in reading] == expected
    until(lambda: len(copies(cached.cache)) == 3)
    counting.reads.clear()
    again = pickle.loads(pickle.dumps(cached))
    assert [(at.offset, found) for at, found in ShardChain(again, SAMPLES, 0).samples()] == expected
    assert counting.reads == []


def test_single_samples_are_read_in_place_until_the_shard_is_worth_fetching(
    cached: CachedStore, counting: Counting
) -> None:
    chain = ShardChain(cached, SAMPLES, 0, whole=False)
    assert chain.sample(4)[0].offset == 4
    assert copies(cached.cache) == set()
    assert chain.sample(3)[0].offset == 3
    until(lambda: len(copies(cached.cache)) == 1)
    counting.reads.clear()
    assert [chain.sample(number)[0].offset for number in (3, 4, 5)] == [3, 4, 5]
    assert counting.reads == []


@pytest.mark.parametrize("change", ["cut", "flipped"])
def test_a_damaged_shard_is_refused_whole_and_not_kept(cached: CachedStore, change: str) -> None:
    name = shard_name(SAMPLES, 0, 3)
    data = bytearray(contents(cached.store, name))
    if change == "cut":
        data = data[:-5000]
    else:
        data[70_000] ^= 1
    overwrite(cached.store, name, bytes(data))
    with pytest.raises(ShardError, match=r"0{19}3\.tar: .* but its summary says"):
        list(ShardChain(cached, SAMPLES, 0).samples())
    assert not [copy for copy in copies(cached.cache) if copy.startswith("00000000000000000003")]


def test_the_copy_of_a_shard_that_was_replaced_and_removed_goes(cached: CachedStore) -> None:
    assert len(list(ShardChain(cached, SAMPLES, 0).samples())) == 9
    chain = ShardChain(cached.store, SAMPLES, 0)
    assert replace(cached.store, [chain.shard(1)], lambda entry: entry.offset != 4) is not None
    retire(cached.store, SAMPLES, 0, pause=0.0)
    assert len(list(ShardChain(cached, SAMPLES, 0).samples())) == 8
    assert not [copy for copy in copies(cached.cache) if copy.startswith("00000000000000000003.tar")]


def test_an_archive_that_was_made_anew_is_not_read_from_old_copies(cached: CachedStore) -> None:
    old = list(ShardChain(cached, SAMPLES, 0).samples())
    for first in range(0, 9, 3):
        cached.remove(shard_name(SAMPLES, 0, first))
        write(cached.store, first, [first, first + 1, first + 2], members={"bin": os.urandom(60_000)}).publish()
    new = list(ShardChain(pickle.loads(pickle.dumps(cached)), SAMPLES, 0).samples())
    assert new == list(ShardChain(cached.store, SAMPLES, 0).samples())
    assert new != old
