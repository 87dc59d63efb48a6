"""What every source promises: read on from anywhere, in any order, without loss, repetition or a changed order."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import webdataset
from torch.utils.data import Dataset, IterableDataset

from dataset import (
    Consumed,
    HistorySource,
    IntervalSet,
    IterableSource,
    LiveSource,
    MapSource,
    ShardSource,
    Share,
    Source,
    StreamSource,
    cursor,
)
from ingest.sqlite import Layout, SqliteLog
from tests.dataset import libraries
from tests.dataset.streams import MemoryLog, Reading, annotated, archive_of, decode, key, write_tar

SIZE = 24
"""Distinct samples behind every source here."""
Make = Callable[[Path], Source]


class Map(Dataset[dict[str, str]]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> dict[str, str]:
        if not 0 <= index < SIZE:
            raise IndexError(index)
        return {"key": key(index)}


class Stream(IterableDataset[dict[str, str]]):
    def __iter__(self):
        return iter(Map())


def decode_line(line: bytes) -> dict[str, Any]:
    return json.loads(line)


def filled(log: MemoryLog) -> MemoryLog:
    """24 samples over two partitions, several a record, with gaps and records without any."""
    for number in range(0, SIZE, 3):
        partition = number // 3 % 2
        log.append(partition, [key(number), key(number + 1)], time=float(number))
        log.append(partition, [], time=float(number))
        log.leave_gap(partition, 2)
        log.append(partition, [key(number + 2)], time=float(number))
    return log


def live_in_memory(folder: Path) -> Source:
    return LiveSource(filled(MemoryLog()), decode=decode, batch_bytes=300)


def live_in_sqlite(folder: Path) -> Source:
    log = SqliteLog(folder / "log", Layout(partitions=2))
    writer = log.writer("annotator")
    for number in range(0, SIZE, 3):
        keys = [key(number), key(number + 1)]
        writer.commit([annotated(number % 2, keys, float(number)), annotated(number % 2, [])])
        writer.commit([annotated(number % 2, [key(number + 2)], number + 0.5)])
    writer.close()
    return LiveSource(log, decode=decode)


def live_below_the_log(folder: Path) -> Source:
    log = filled(MemoryLog())
    archive = archive_of(log, folder / "archive")
    log.trim(0, 9)
    log.trim(1, 5)
    return LiveSource(log, decode=decode, archive=archive)


def history(folder: Path) -> Source:
    archive = archive_of(filled(MemoryLog()), folder / "archive")
    return HistorySource(archive, follows=None, partitions=2, decode=decode)


def shards(folder: Path) -> Source:
    for first in range(0, SIZE, 8):
        write_tar(folder / "shards" / f"{first:03d}.tar", [key(number) for number in range(first, first + 8)])
    return ShardSource(folder / "shards", decode=decode)


def our_shards(folder: Path) -> Source:
    archive_of(filled(MemoryLog()), folder / "archive")
    return ShardSource(folder / "archive", decode=decode)


def webdataset_pipeline(folder: Path) -> Source:
    path = write_tar(folder / "one.tar", [key(number) for number in range(SIZE)])
    return IterableSource(webdataset.WebDataset(str(path), shardshuffle=False), decode=decode)


@dataclasses.dataclass(frozen=True)
class Lines(StreamSource):
    """Files of JSON lines, of unequal length; positions are bytes."""

    folder: Path
    decode: Callable[[Any], Any] = decode_line  # type: ignore[assignment]

    def partitions(self) -> list[str]:
        return [path.name for path in self.folder.glob("*.jsonl")]

    def read(self, partition: str, position: int) -> Iterator[tuple[bytes, int]]:
        with (self.folder / partition).open("rb") as file:
            file.seek(position)
            while line := file.readline():
                yield line, file.tell()


def lines(folder: Path) -> Source:
    for name, numbers in (("a", range(5)), ("b", range(5, 6)), ("c", range(6, 20)), ("d", range(20, SIZE))):
        text = "".join(json.dumps({"key": key(number)}) + "\n" for number in numbers)
        (folder / f"{name}.jsonl").write_text(text)
    return Lines(folder)


SOURCES: dict[str, Make] = {
    "live-memory": live_in_memory,
    "live-sqlite": live_in_sqlite,
    "live-archive": live_below_the_log,
    "history": history,
    "shards": shards,
    "our-shards": our_shards,
    "map": lambda folder: MapSource(Map()),
    "map-in-order": lambda folder: MapSource([{"key": key(number)} for number in range(SIZE)], shuffle=False),
    "iterable": lambda folder: IterableSource(Stream()),
    "webdataset": webdataset_pipeline,
    "concatenated": lambda folder: MapSource(libraries.concatenated()),
    "hf-map": lambda folder: MapSource(libraries.hf_map()),
    "hf-map-torch": lambda folder: MapSource(libraries.hf_map().with_format("torch")),
    "hf": lambda folder: IterableSource(libraries.hf_iterable()),
    "hf-torch-mapped": lambda folder: IterableSource(
        libraries.hf_iterable().map(libraries.doubled).with_format("torch"), parts=3
    ),
    "hf-shuffled": lambda folder: IterableSource(libraries.hf_iterable().shuffle(seed=4, buffer_size=7)),
    "hf-shuffled-parts": lambda folder: IterableSource(libraries.hf_iterable().shuffle(seed=4, buffer_size=5), parts=4),
    "wds-fluid": lambda folder: IterableSource(libraries.wds_fluid(folder)),
    "wds-stages": lambda folder: IterableSource(libraries.wds_stages(folder), parts=2),
    "splits-itself": lambda folder: IterableSource(libraries.SplitsItself()),
    "splits-itself-parts": lambda folder: IterableSource(libraries.SplitsItself(), parts=3),
    "stateful": lambda folder: IterableSource(libraries.Stateful()),
    "one-way": lambda folder: IterableSource(libraries.OneWay()),
    "forgets": lambda folder: IterableSource(libraries.Forgets()),
    "lines": lines,
    "per-pass": lambda folder: IterableSource(libraries.PerPass()),
}
LIVE = {"live-memory", "live-sqlite", "live-archive", "lines"}
WITH_EPOCHS = set(SOURCES) - LIVE - {"history"}


@pytest.fixture(params=[0, 2], ids=["here", "ahead"], autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of this module also has what can be loaded ahead loaded ahead."""
    monkeypatch.setattr(Reading, "workers", request.param)
    monkeypatch.setattr(cursor, "EVERY", 3)  # few as the elements are, some lie between two snapshots


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return SOURCES[request.param](tmp_path)


@pytest.fixture(params=sorted(set(SOURCES) - {"history"}))
def counted(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A source that gives each of its samples once (in an epoch)."""
    return SOURCES[request.param](tmp_path)


@pytest.fixture(params=sorted(WITH_EPOCHS))
def with_epochs(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return SOURCES[request.param](tmp_path)


ALL = sorted(key(number) for number in range(SIZE))


def test_everything_is_read_once(counted: Source) -> None:
    assert sorted(Reading(counted).read(SIZE)) == ALL


def test_a_restored_reader_goes_on_where_the_first_would_have(source: Source) -> None:
    whole = Reading(source).read(SIZE)
    for cut in (0, 1, 7, 11, SIZE - 1):
        reading = Reading(source)
        assert reading.read(cut) == whole[:cut], cut
        assert reading.restored().read(SIZE - cut) == whole[cut:], cut


def test_a_reader_can_be_restored_after_every_item_and_twice_in_a_row(source: Source) -> None:
    whole = Reading(source).read(SIZE)
    reading, keys = Reading(source), []
    for number in range(SIZE):
        reading = reading.restored()
        if number % 5 == 0:
            reading = reading.restored()
        keys += reading.read(1)
    assert keys == whole


def test_what_was_polled_and_not_consumed_comes_again(source: Source) -> None:
    whole = Reading(source).read(SIZE)
    reading = Reading(source)
    reading.read(5)
    for _ in range(6):
        reading.reader.poll()
    assert reading.restored().read(SIZE - 5) == whole[5:]


def test_restoring_goes_back_as_well_as_on(source: Source) -> None:
    reading = Reading(source)
    early = reading.restored()
    early_books = (early.consumed.copy(), early.state)
    first = early.read(10)
    assert early.restored().read(3) == Reading(source).read(13)[10:]
    again = Reading(source, early.share, *early_books)
    assert again.read(10) == first


def test_a_state_taken_later_serves_an_earlier_position(source: Source) -> None:
    reading = Reading(source)
    reading.read(4)
    at_four = reading.consumed.copy()
    expected = reading.read(8)
    late = reading.reader.state()
    assert Reading(source, consumed=at_four, state=late).read(8) == expected


def test_epochs_follow_each_other_without_an_end(with_epochs: Source) -> None:
    keys = Reading(with_epochs).read(3 * SIZE)
    assert [sorted(keys[at : at + SIZE]) for at in range(0, 3 * SIZE, SIZE)] == [ALL] * 3


def test_a_reader_is_restored_across_the_end_of_an_epoch(with_epochs: Source) -> None:
    whole = Reading(with_epochs).read(2 * SIZE + 3)
    for cut in (SIZE - 1, SIZE, SIZE + 1, 2 * SIZE):
        reading = Reading(with_epochs)
        reading.read(cut)
        assert reading.restored().read(2 * SIZE + 3 - cut) == whole[cut:]


def test_consumed_stays_small_over_epochs(with_epochs: Source) -> None:
    reading = Reading(with_epochs)
    reading.read(3 * SIZE + 5)
    assert {name: len(held) for name, held in reading.consumed.of("it").items()} == {"0/1": 1}


def test_shares_together_read_everything_once(counted: Source) -> None:
    for count in (3, 16):
        keys = [each for index in range(count) for each in rest(Reading(counted, Share(index, count)))]
        assert sorted(keys) == ALL, count


def rest(reading: Reading, limit: int = SIZE) -> list[str]:
    """What is left of a log, or of the first epoch."""
    keys: list[str] = []
    while len(keys) < limit and (item := reading.reader.poll()) is not None:
        if not isinstance(reading.source, (LiveSource, StreamSource)) and item.span.end[0] > 0:
            break
        reading.book(item)
        keys.append(item.sample["key"])
    return keys


def test_a_change_of_the_number_of_shares_loses_and_repeats_nothing(counted: Source) -> None:
    for layouts in ((1, 3), (2, 3, 2, 4, 1)):
        assert sorted(read_over(counted, layouts)) == ALL, layouts


def read_over(counted: Source, layouts: tuple[int, ...]) -> list[str]:
    """Everything, by one number of shares after the other."""
    consumed, state, keys = Consumed(), None, list[str]()
    for number, layout in enumerate(layouts):
        merged = Consumed()
        readings = [Reading(counted, Share(index, layout), consumed.copy(), state) for index in range(layout)]
        for index, reading in enumerate(readings):
            last = number == len(layouts) - 1
            keys += rest(reading, SIZE if last else (index + 2) % 4)  # unequal progress
            merged.update(reading.consumed)
        consumed, state = merged, readings[0].reader.state()
    return keys


def test_every_item_covers_a_stretch_that_begins_where_the_last_one_ended(source: Source) -> None:
    reading = Reading(source)
    ends: dict[str, tuple[int, int]] = {}
    for _ in range(SIZE):
        item = reading.reader.poll()
        assert item is not None
        assert item.span.start == ends.get(item.span.partition, (0, 0)) < item.span.end
        ends[item.span.partition] = item.span.end


def test_items_tell_the_key_of_their_sample(tmp_path: Path) -> None:
    for name in ("live-memory", "live-archive", "history", "shards", "our-shards", "webdataset"):
        item = Reading(SOURCES[name](tmp_path / name)).reader.poll()
        assert item is not None
        assert item.key == item.sample["key"], name


def test_items_tell_their_size_where_it_is_known(tmp_path: Path) -> None:
    for name in ("live-memory", "live-archive", "history", "shards"):
        item = Reading(SOURCES[name](tmp_path / name)).reader.poll()
        assert item is not None
        assert item.size == len(b'{"key": "s0000/000000-00"}'), name


def test_a_source_is_configuration_that_can_be_pickled(source: Source) -> None:
    twin = pickle.loads(pickle.dumps(source))
    assert twin.fingerprint == source.fingerprint
    assert Reading(twin).read(5) == Reading(source).read(5)


def test_the_order_differs_between_epochs_and_seeds_and_not_between_runs(tmp_path: Path) -> None:
    source = MapSource(Map())
    keys = Reading(source).read(2 * SIZE)
    assert keys[:SIZE] != keys[SIZE:]
    assert Reading(source).read(2 * SIZE) == keys
    assert Reading(source, Share(seed=1)).read(SIZE) != keys[:SIZE]


def test_a_source_of_some_epochs_ends_and_says_so() -> None:
    for source in (MapSource(Map(), epochs=2), IterableSource(Stream(), epochs=2)):
        reading = Reading(source)
        assert not reading.reader.exhausted()
        assert Counter(reading.read(1000)) == Counter(dict.fromkeys(ALL, 2))
        assert reading.reader.exhausted()
        assert reading.reader.stats().repeats == SIZE
        assert reading.restored().read(5) == []


class Broken(Exception):
    pass


def test_samples_that_do_not_decode_are_skipped_counted_and_covered(tmp_path: Path) -> None:
    def picky(members):
        sample = json.loads(members) if isinstance(members, bytes) else members
        sample = decode(sample) if "json" in sample else sample
        if sample["key"].endswith("03-00"):
            raise Broken("no good")
        return sample

    for name, make in SOURCES.items():
        if name == "history":
            continue
        (tmp_path / name).mkdir()
        made = make(tmp_path / name)
        source = type(made)(**{**vars(made), "decode": picky})
        reading = Reading(source)
        keys = reading.read(SIZE - 1)
        assert sorted(keys) == [each for each in ALL if not each.endswith("03-00")], name
        reading.reader.poll()  # what is skipped may be the last of a pass
        assert reading.reader.stats().skipped >= 1, name
        restored = reading.restored().read(3)
        assert not any(each.endswith("03-00") for each in restored)


def picky(members):
    sample = json.loads(members) if isinstance(members, bytes) else members
    sample = decode(sample) if "json" in sample else sample
    if sample["key"].endswith(("03-00", "04-00", "11-00")):
        raise Broken("no good")
    return sample


def test_a_restored_reader_repeats_nothing_behind_a_sample_that_was_skipped(counted: Source) -> None:
    source = dataclasses.replace(counted, decode=picky)
    whole = Reading(source).read(SIZE - 3)
    for cut in (1, 3, 6, 12):
        reading = Reading(source)
        assert reading.read(cut) == whole[:cut], cut
        assert reading.restored().restored().read(SIZE - 3 - cut) == whole[cut:], cut
        assert all(len(held) == 1 for held in reading.consumed.of("it").values())


def test_a_source_without_anything_is_dry_and_not_exhausted(tmp_path: Path) -> None:
    for source in (
        LiveSource(MemoryLog()),
        HistorySource(archive_of(MemoryLog(), tmp_path / "archive"), follows=None, partitions=2),
        ShardSource(tmp_path / "nothing"),
        MapSource([]),
    ):
        reading = Reading(source)
        assert reading.read(1) == []
        assert reading.restored().read(1) == []


def test_torch_tensors_pass_as_they_are() -> None:
    source = MapSource([{"key": torch.tensor([number])} for number in range(3)], shuffle=False)
    assert torch.equal(torch.cat(Reading(source).read(3)), torch.tensor([0, 1, 2]))


def test_consumed_of_another_kind_of_source_is_refused() -> None:
    from dataset import StateError

    with pytest.raises(StateError, match="'0' is no share"):
        MapSource(Map()).open(Share(), {"0": IntervalSet([((0, 0), (1, 0))])})
