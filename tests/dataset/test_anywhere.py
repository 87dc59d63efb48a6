"""The one test of every source and combination: restored anywhere, in any order, loaded here or by workers."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from dataset import (
    HistorySource,
    InteractiveMixture,
    IterableSource,
    LiveSource,
    MapSource,
    ShardSource,
    Source,
    cursor,
    make_interactive_dataset,
)
from tests.dataset import libraries
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, write_tar
from tests.dataset.test_sources import SOURCES

Combination = Callable[[Path], Mapping[str, Source]]
BATCHES, SIZE = 22, 4


def live_history_base(folder: Path) -> Mapping[str, Source]:
    """What a deployed app trains on."""
    log = MemoryLog(2)
    for number in range(120):
        log.append(number % 2, [key(1000 + number)], float(number))
    archive = archive_of(log, folder / "archive", per_shard=20)
    write_tar(folder / "base" / "0.tar", [key(number) for number in range(30)])
    return {
        "live": LiveSource(log, decode=decode, max_lag=50, archive=archive),
        "history": HistorySource(archive, decode=decode),
        "base": ShardSource(folder / "base", decode=decode),
    }


def shards_map_iterable(folder: Path) -> Mapping[str, Source]:
    """One of each kind of dataset."""
    write_tar(folder / "base" / "0.tar", [key(number) for number in range(20)])
    write_tar(folder / "base" / "1.tar", [key(number) for number in range(20, 31)])
    return {
        "shards": ShardSource(folder / "base", decode=decode),
        "map": MapSource(libraries.hf_map()),
        "iterable": IterableSource(libraries.Stateful()),
    }


def iterables(folder: Path) -> Mapping[str, Source]:
    """Hugging Face's, webdataset's and torch's, in parts."""
    return {
        "hf": IterableSource(libraries.hf_iterable(4, 30), parts=2),
        "wds": IterableSource(libraries.wds_fluid(folder), parts=3),
        "torch": IterableSource(libraries.PerPass(shrinks=True)),
        "live": LiveSource(filled_log(), decode=decode),
    }


def filled_log() -> MemoryLog:
    log = MemoryLog(1)
    for number in range(60):
        log.append(0, [key(number)], float(number))
    return log


def alone(name: str) -> Combination:
    """A mixture of one source."""
    return lambda folder: {name: SOURCES[name](folder)}


COMBINATIONS: dict[str, Combination] = {
    **{name: alone(name) for name in SOURCES},
    "live+history+base": live_history_base,
    "shards+map+iterable": shards_map_iterable,
    "iterables": iterables,
}


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    """Workers are forked from a process that has imported what they unpickle, as long as nobody forks any before."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["dataset.worker", "tests.dataset.test_sources"])
    forkserver.ensure_running()


@pytest.fixture(params=COMBINATIONS)
def sources(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(cursor, "EVERY", 5)
    opened: list[InteractiveMixture] = []
    made = COMBINATIONS[request.param](tmp_path)

    def mixture(workers: int) -> InteractiveMixture:
        opened.append(make_interactive_dataset(made, seed=4, workers=workers))
        return opened[-1]

    yield mixture
    for data in opened:
        data.close()


def batch(data: InteractiveMixture) -> tuple[Any, ...]:
    """A completed step: what came from where, and what it was."""
    taken = data.take(SIZE, idle=lambda: False)
    if taken is None:
        return ()
    items, receipt = taken
    data.complete([receipt])
    return (*zip(receipt.sources, [item.sample["key"] for item in items], receipt.keys, strict=True),)


def test_restored_anywhere_in_any_order_it_goes_on_bit_by_bit(sources: Callable[[int], InteractiveMixture]) -> None:
    here, ahead = sources(0), sources(2)
    whole, states = [], []
    for number in range(BATCHES):
        states.append([json_copy(data.state_dict()) for data in (here, ahead)])
        if number == 7 and len(here.sources) > 1:
            for data in (here, ahead):
                data.set_weights({next(iter(data.sources)): 0.3})
        whole.append(batch(here))
        assert batch(ahead) == whole[-1], number
    assert sum(map(len, whole)) >= 24
    chance = random.Random(5)
    for data, other in (here, ahead), (ahead, here):
        for at in (BATCHES - 1, 0, *(chance.randrange(BATCHES) for _ in range(4))):
            data.load_state_dict(states[at][chance.randrange(2)])
            going_on = [batch(data) for _ in range(min(5, BATCHES - at))]
            if at <= 7 < at + len(going_on):  # the change was made on the way, and is not made again
                going_on = going_on[: 7 - at]
            assert going_on == whole[at : at + len(going_on)], at
            data.take(SIZE, idle=lambda: False)  # fetched, and never trained
            data.load_state_dict(json_copy(data.state_dict()))  # twice in a row
            other.load_state_dict(json_copy(data.state_dict()))
            assert batch(other) == batch(data)
