"""Worker processes that load ahead: the same stream as without, whoever dies, and nothing of it consumed too early."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from dataset import (
    BadSamples,
    HistorySource,
    InteractiveMixture,
    LayoutError,
    LiveSource,
    MapSource,
    Receipt,
    ShardSource,
    Source,
    SourceError,
    Weights,
    WorkerError,
    make_interactive_dataset,
)
from dataset.parcels import packed, unpacked
from tests.dataset.streams import MemoryLog, archive_of, json_copy, key, write_tar
from tests.waiting import until

SECONDS = 60.0


def decode(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Some tensors of a sample; a few cannot be decoded."""
    loaded: dict[str, Any] = json.loads(members["json"])
    if loaded["key"].endswith(("05-00", "06-00")):
        raise ValueError("no good")
    number = int(loaded["key"].split("/")[1].split("-")[0])
    return {**loaded, "x": torch.full((7,), number), "y": np.arange(number % 5), "flag": torch.tensor(True)}


def numbered(first: int, count: int) -> list[dict[str, Any]]:
    return [{"key": key(number), "x": number} for number in range(first, first + count)]


def with_pid(element: Mapping[str, Any]) -> dict[str, Any]:
    return {**element, "pid": os.getpid()}


def four_sources(folder: Path, workers: int, **more: Any) -> InteractiveMixture:
    """Shards, a list, a live log and the history behind it."""
    if not folder.exists():
        for first in range(0, 48, 12):
            write_tar(folder / "shards" / f"{first:03d}.tar", [key(number) for number in range(first, first + 12)])
    log = MemoryLog(2)
    for number in range(300):
        log.append(number % 2, [key(1000 + number)], float(number))
    archive = archive_of(log, folder / "archive", per_shard=40)
    sources = {
        "shards": ShardSource(folder / "shards", decode=decode),
        "list": MapSource(numbered(100, 30)),
        "live": LiveSource(log, decode=decode, max_lag=140),
        "history": HistorySource(archive, decode=decode),
    }
    return make_interactive_dataset(sources, dict.fromkeys(sources, 1.0), seed=3, workers=workers, **more)


@pytest.fixture
def closing() -> Iterator[Callable[[InteractiveMixture], InteractiveMixture]]:
    opened: list[InteractiveMixture] = []

    def remember(data: InteractiveMixture) -> InteractiveMixture:
        opened.append(data)
        return data

    yield remember
    for data in opened:
        data.close()


def rows(data: InteractiveMixture, steps: range, size: int = 6) -> list[tuple[Any, ...]]:
    """What is told of every batch, and what is in it; weights change on the way."""
    read = []
    for number in steps:
        if number in (5, 11):
            data.set_weights({"history": number / 4, "list": number % 2})
        items, receipt = taken(data, size)
        told = (receipt.keys, receipt.sources, receipt.spans, receipt.jumped, receipt.version, receipt.redraws)
        read.append((told, [str(sorted(item.sample.items())) for item in items]))
        data.complete([receipt])
    return read


def taken(data: InteractiveMixture, size: int) -> tuple[list[Any], Receipt]:
    got = data.take(size)
    assert got is not None
    return got


# The same stream


def test_the_stream_is_the_same_sample_by_sample_on_any_number_of_workers(tmp_path: Path, closing: Any) -> None:
    whole = rows(four_sources(tmp_path / "d", 0), range(40))
    for workers in (1, 3):
        assert rows(closing(four_sources(tmp_path / "d", workers)), range(40)) == whole


@pytest.mark.parametrize("cut", [0, 7, 23])
def test_a_resume_on_another_number_of_workers_goes_on_bit_by_bit(tmp_path: Path, closing: Any, cut: int) -> None:
    whole = rows(four_sources(tmp_path / "d", 0), range(30))
    data = closing(four_sources(tmp_path / "d", 2))
    assert rows(data, range(cut)) == whole[:cut]
    taken(data, 5)  # a batch in flight
    state = json_copy(data.state_dict())
    for workers in (1, 0, 2):
        again = closing(four_sources(tmp_path / "d", workers))
        again.load_state_dict(state)
        assert rows(again, range(cut, 30)) == whole[cut:]


def test_weights_show_in_the_next_batch_and_what_is_ahead_is_not_consumed(closing: Any) -> None:
    sources = {"a": MapSource(numbered(0, 50), with_pid), "b": MapSource(numbered(1000, 50), with_pid)}
    data = closing(make_interactive_dataset(sources, workers=2))
    for number in range(8):
        paused, other = ("a", "b") if number % 2 else ("b", "a")
        version = data.set_weights({paused: 0, other: 1}).version
        items, receipt = taken(data, 16)
        assert (set(receipt.sources), receipt.version) == ({other}, version)
        assert os.getpid() not in {item.sample["pid"] for item in items}
        data.complete([receipt])
        booked = sum(end[1] + 50 * end[0] for parts in data.consumed.watermark().values() for end in parts.values())
        assert booked == 16 * (number + 1)


def test_rewinding_and_closing_lose_nothing(tmp_path: Path, closing: Any) -> None:
    whole = rows(four_sources(tmp_path / "d", 0), range(12))
    data = closing(four_sources(tmp_path / "d", 2))
    read = rows(data, range(4))
    taken(data, 3)
    data.rewind()
    read += rows(data, range(4, 8))
    processes = data._reading.pool.processes
    data.close()
    until(lambda: not any(psutil.pid_exists(process) for process in processes))
    assert read + rows(data, range(8, 12)) == whole


def test_a_source_that_cannot_be_loaded_elsewhere_is_read_where_it_is_mixed(closing: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [key(number) for number in range(9)])
    sources = {"plain": Plain(ShardSource(tmp_path)), "list": MapSource(numbered(0, 9), with_pid)}
    data = closing(make_interactive_dataset(sources, workers=1))
    items, receipt = taken(data, 30)
    assert {"plain", "list"} == set(receipt.sources)
    assert os.getpid() not in {item.sample["pid"] for item in items if "pid" in item.sample}


class Plain:
    """A source that promises no more than a source has to."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.fingerprint = inner.fingerprint

    def open(self, *given: Any) -> Any:
        return self._inner.open(*given)


# What goes wrong


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_repeated(
    tmp_path: Path, closing: Any, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    whole = rows(four_sources(tmp_path / "d", 0), range(30))
    data = closing(four_sources(tmp_path / "d", workers))
    read = rows(data, range(1))
    for number in range(1, 30):
        if number % 9 == 1:
            for process in data._reading.pool.processes:
                os.kill(process, signal.SIGKILL)
        read += rows(data, range(number, number + 1))
    assert read == whole
    assert "a worker ended with exit code -9; another one loads" in caplog.text


def ends_its_process(element: Mapping[str, Any]) -> Mapping[str, Any]:
    if element["x"] == 3:
        os._exit(7)
    return element


def test_a_sample_that_ends_every_worker_is_an_error_in_the_end(closing: Any) -> None:
    sources = {"base": MapSource(numbered(0, 5), ends_its_process, shuffle=False)}
    data = closing(make_interactive_dataset(sources, workers=1))
    with pytest.raises(
        WorkerError, match=r'5 workers ended or hung over .* "base" \(the last: a worker ended with exit code 7\)'
    ):
        taken(data, 5)


def hangs_once(element: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hangs where a file says so, which is taken away by whoever comes first."""
    if element["x"] == 13:
        with suppress(FileNotFoundError):
            os.unlink(element["hang"])
            time.sleep(SECONDS)
    return element


def hangs(element: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hangs as long as a file is there."""
    while element["x"] == 13 and os.path.exists(element["hang"]):
        time.sleep(0.01)
    return element


def hanging(flag: Path, count: int = 40) -> list[dict[str, Any]]:
    return [{**element, "hang": str(flag)} for element in numbered(0, count)]


def hung(
    data: list[dict[str, Any]],
    decode: Callable[[Any], Any],
    workers: int,
    timeout: float | None = None,
    patience: float = SECONDS,
) -> InteractiveMixture:
    other = Plain(MapSource(numbered(100, 40)))  # is read where it is mixed
    sources: dict[str, Any] = {"base": MapSource(data, decode, shuffle=False), "other": other}
    first = Weights.first(sources, {"base": 1, "other": 1})
    return InteractiveMixture(sources, first, workers=workers, worker_timeout=timeout, worker_patience=patience)


def keys_read(data: InteractiveMixture, steps: int) -> list[str]:
    keys: list[str] = []
    for _ in range(steps):
        _, receipt = taken(data, 6)
        keys += receipt.keys
        data.complete([receipt])
    return keys


def test_a_worker_that_hangs_is_replaced_and_the_stream_is_the_same(
    tmp_path: Path, closing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    elements = hanging(tmp_path / "hang")
    whole = keys_read(hung(elements, hangs_once, 0), 12)
    (tmp_path / "hang").touch()
    assert keys_read(closing(hung(elements, hangs_once, 1, timeout=1.0)), 12) == whole
    assert "a worker hung for 1 s and was ended; another one loads" in caplog.text


def test_while_a_worker_hangs_commands_are_served_and_weights_obeyed(tmp_path: Path, closing: Any) -> None:
    elements = hanging(tmp_path / "hang")
    (tmp_path / "hang").touch()
    data = closing(hung(elements, hangs, 1))
    calls: list[float] = []

    def idle() -> bool:
        calls.append(time.monotonic())
        if len(calls) == 4:
            data.set_weights({"base": 0})
        return True

    read: list[str] = []
    while len(calls) < 4:  # until the sample comes that hangs
        got = data.take(6, idle)
        assert got is not None
        data.complete([got[1]])
        read += got[1].keys_of("base")
    assert max(later - earlier for earlier, later in pairwise(calls)) < 5
    assert (got[1].version, set(got[1].sources)) == (1, {"other"})
    data.set_weights({"base": 1})
    while (got := data.take(6, idle=lambda: False)) is not None:  # what was put back comes first
        data.complete([got[1]])
        read += got[1].keys_of("base")
    assert int(read[-1]) < 13
    (tmp_path / "hang").unlink()
    again = closing(hung(elements, hangs, 0))
    again.load_state_dict(json_copy(data.state_dict()))
    for _ in range(4):
        _, receipt = taken(again, 6)
        read += receipt.keys_of("base")
    assert read == [str(number) for number in range(len(read))]
    assert len(read) > 13


def tells_and_hangs(element: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same; beside the file that it waits for lies one for each element that a process has loaded."""
    loaded = hangs(element)
    Path(element["hang"]).with_name(f"{element['x']}-{os.getpid()}").touch()
    return loaded


def test_what_waits_behind_a_worker_that_hangs_is_loaded_by_others(tmp_path: Path, closing: Any) -> None:
    elements = hanging(tmp_path / "hang", 400)  # more than are planned at once, so that it comes once
    whole = keys_read(hung(elements, hangs, 0), 12)
    (tmp_path / "hang").touch()
    data = closing(hung(elements, tells_and_hangs, 2, patience=0.5))
    deadline = time.monotonic() + SECONDS
    behind: set[int] = set()

    def idle() -> bool:
        """Until all that waited behind it was loaded while it hung."""
        assert time.monotonic() < deadline
        pool = data._reading.pool
        slow = next((worker for worker in pool._team if worker.silent >= 0.5), None)
        if slow is not None and (tmp_path / "hang").exists():
            behind.update(index for task in list(slow.open.values())[1:] for index in task.whats)
            if behind and behind <= {int(path.name.split("-")[0]) for path in tmp_path.glob("*-*")}:
                (tmp_path / "hang").unlink()
        return True

    keys: list[str] = []
    for _ in range(12):
        _, receipt = data.take(6, idle)  # type: ignore[misc]
        keys += receipt.keys
        data.complete([receipt])
    assert keys == whole
    assert behind


@pytest.mark.parametrize("patience", [0, -1.0, float("nan")])
def test_a_patience_that_is_no_time_is_refused(patience: float) -> None:
    with pytest.raises(LayoutError, match=r"worker_patience is .*, but it is above 0 seconds"):
        make_interactive_dataset({"base": numbered(0, 3)}, workers=1, worker_patience=patience)


def fails(element: Mapping[str, Any]) -> Mapping[str, Any]:
    raise Peculiar(1, 2)


class Peculiar(Exception):
    """An error that does not survive pickling."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_bad_samples_in_workers_end_the_stream_by_name(closing: Any) -> None:
    data = closing(make_interactive_dataset({"base": MapSource(numbered(0, 9), fails, bad_limit=2)}, workers=1))
    with pytest.raises(BadSamples, match=r"3 samples in a row could not be decoded, .*Peculiar: 1 and 2"):
        taken(data, 2)


def test_a_shard_that_is_replaced_under_a_worker_is_named(tmp_path: Path, closing: Any) -> None:
    path = write_tar(tmp_path / "a.tar", [key(number) for number in range(10)])
    data = closing(make_interactive_dataset({"base": ShardSource(path)}, workers=1))
    data.state_dict()  # opens it
    write_tar(path, [key(number) for number in range(10)])
    with pytest.raises(SourceError, match=r"a\.tar: it was changed or replaced"):
        taken(data, 2)


def test_a_source_that_cannot_be_sent_is_refused_with_the_way_out() -> None:
    data = make_interactive_dataset({"base": MapSource(numbered(0, 9), lambda element: element)}, workers=1)
    with pytest.raises(SourceError, match=r'source "base" cannot be sent to worker processes .* set workers to 0'):
        data.take(1)
    with pytest.raises(LayoutError, match="workers is -1"):
        make_interactive_dataset({"base": numbered(0, 9)}, workers=-1)


# Memory, and the end


def large(element: Mapping[str, Any]) -> dict[str, Any]:
    return {"x": torch.full((1 << 18,), element["x"], dtype=torch.int32), "loaded": time.time()}  # 1 MiB


@pytest.mark.parametrize("ahead_bytes", [1, 8 << 20])
def test_what_is_ahead_keeps_to_its_bytes(closing: Any, ahead_bytes: int) -> None:
    sources = {"base": MapSource(numbered(0, 400), large, shuffle=False)}
    data = closing(make_interactive_dataset(sources, workers=2, ahead_bytes=ahead_bytes))
    items, receipt = taken(data, 40)
    data.complete([receipt])
    assert [int(item.sample["x"][-1]) for item in items] == list(range(40))
    time.sleep(0.5)  # time for workers to load far more than they may
    asked = time.time()
    items, _ = taken(data, 40)
    assert sum(item.sample["loaded"] < asked for item in items) <= max(4, ahead_bytes >> 20)


def test_a_sample_larger_than_the_shared_memory_passes(closing: Any) -> None:
    sources = {"base": MapSource(numbered(0, 4), huge, shuffle=False)}
    data = closing(make_interactive_dataset(sources, workers=1, ahead_bytes=1))
    items, _ = taken(data, 4)
    assert [int(item.sample["x"].sum()) for item in items] == [0, 5 << 20, 10 << 20, 15 << 20]


def huge(element: Mapping[str, Any]) -> dict[str, Any]:
    return {"x": torch.full((5 << 20,), element["x"], dtype=torch.uint8)}


def live_with_its_workers(told: Any) -> None:
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    data = make_interactive_dataset({"base": numbered(0, 50)}, workers=2)
    data.take(4)
    told.send(data._reading.pool.processes)
    time.sleep(SECONDS)


def test_workers_end_with_the_process_that_started_them() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=live_with_its_workers, args=(theirs,))
    process.start()
    try:
        assert ours.poll(SECONDS)
        workers = ours.recv()
        assert all(psutil.pid_exists(worker) for worker in workers)
    finally:
        process.kill()
        process.join()
    until(lambda: not any(psutil.pid_exists(worker) for worker in workers))


@pytest.mark.parametrize(
    "thing",
    [
        {"a": torch.arange(6).reshape(2, 3)[:, 1:], "b": [torch.zeros(0, 4), torch.tensor(1.5, dtype=torch.bfloat16)]},
        {"c": np.arange(5, dtype=np.float32), "d": b"x" * 100, "e": None, "f": torch.tensor([True, False])},
        {"g": torch.ones(3, requires_grad=True)},
    ],
)
def test_what_is_sent_arrives_as_it_was(thing: dict[str, Any]) -> None:
    again = unpacked(bytearray(b"".join(packed(thing))))
    assert str(again) == str(thing)
    assert all(torch.is_tensor(again[name]) == torch.is_tensor(value) for name, value in thing.items())
