"""Shards: their bytes, their publication, and the chain that they make."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import webdataset
from PIL import Image

from ingest.entries import record_entries, sample_entry
from ingest.errors import ShardError
from ingest.replacing import replace
from ingest.shard_format import BODY, FORMAT, TRACED, decode_summary, encode_summary
from ingest.shard_reader import Shard, ShardChain, archived_before
from ingest.shard_writer import ShardWriter
from ingest.shards import DirectoryStore, ShardStore, directory, shard_name
from ingest.shards import store as store_module
from ingest.types import (
    SAMPLES,
    STEPS,
    EndReason,
    Sample,
    SessionEnded,
    SessionOpened,
    Step,
    StepsAppended,
)
from tests.ingest.stores import contents, fields, local_copy, overwrite, staged

READING = pytest.mark.parametrize("store", ["directory", "moto"], indirect=True)


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (shade % 256, 0, 0)).save(file, "PNG")
    return file.getvalue()


def sample(seq: int, members: Mapping[str, bytes] | None = None, version: str | None = None) -> Sample:
    members = {"json": b'{"x": %d}' % seq, "png": png(seq)} if members is None else members
    return Sample("visit", seq, 0, 1000.0 + seq / 7, members, version)


def write(store: ShardStore, first: int, offsets: list[int], partition: int = 0, **more: Any) -> ShardWriter:
    """A shard that begins at `first`, with one sample a record."""
    writer = ShardWriter(store, SAMPLES, partition, first)
    for offset in offsets:
        writer.add(sample_entry(sample(offset, **more), offset, 0))
        writer.record(offset, 1000.0 + offset)
    return writer


def read_with_webdataset(path: Path) -> list[dict[str, Any]]:
    dataset = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    return list(dataset.decode("rgb8"))


@READING
def test_the_unmodified_webdataset_reads_every_member_of_a_shard(store: ShardStore, tmp_path: Path) -> None:
    write(store, 0, [0, 1, 5]).publish()
    found = read_with_webdataset(local_copy(store, shard_name(SAMPLES, 0, 0), tmp_path / "copy"))
    assert [item["__key__"] for item in found] == ["visit/000000-00", "visit/000001-00", "visit/000005-00"]
    assert [item["json"] for item in found] == [{"x": 0}, {"x": 1}, {"x": 5}]
    assert found[2]["png"].shape == (3, 4, 3)
    assert found[2]["png"][0, 0, 0] == 5


@READING
def test_webdataset_reads_nothing_from_a_shard_of_records_without_samples(store: ShardStore, tmp_path: Path) -> None:
    writer = ShardWriter(store, SAMPLES, 0, 0)
    writer.record(0, 1.0)
    writer.record(3, 2.0)
    assert writer.publish()
    assert read_with_webdataset(local_copy(store, shard_name(SAMPLES, 0, 0), tmp_path / "copy")) == []
    chain = ShardChain(store, SAMPLES, 0)
    assert (chain.next_offset, chain.count()) == (4, 0)


@READING
def test_python_s_own_tarfile_finds_plain_ustar_with_no_times(store: ShardStore, tmp_path: Path) -> None:
    write(store, 0, [0, 1]).publish()
    with tarfile.open(local_copy(store, shard_name(SAMPLES, 0, 0), tmp_path / "copy")) as archive:
        found = archive.getmembers()
    assert found[0].name == "__stovetop__/shard.json"
    assert found[-1].name == "__stovetop__/index"
    assert {member.mtime for member in found} == {0}
    assert not any(member.pax_headers for member in found)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        store = DirectoryStore(tmp_path / name)
        write(store, 0, [0, 1, 2], version="000007").publish()
        contents.append((store.root / shard_name(SAMPLES, 0, 0)).read_bytes())
        time.sleep(0.01)  # another modification time, were there one
    assert contents[0] == contents[1]


@READING
def test_a_sample_comes_back_as_it_was_with_its_position(store: ShardStore) -> None:
    odd = Sample("s" * 128, 1_234_567, 42, 1.1, {"before.npy": b"\0" * 513, "json": b"", "png": b"x" * 512}, "v9")
    writer = ShardWriter(store, SAMPLES, 3, 10)
    writer.add(sample_entry(odd, 17, 0))
    writer.add(sample_entry(sample(8), 17, 1))
    writer.record(17, 5.0)
    writer.publish()
    chain = ShardChain(store, SAMPLES, 3)
    positions, samples = zip(*chain.samples(), strict=True)
    assert samples == (odd, sample(8))
    assert [(position.topic, position.partition, position.offset, position.index) for position in positions] == [
        (SAMPLES, 3, 17, 0),
        (SAMPLES, 3, 17, 1),
    ]


@READING
def test_a_trace_stays_with_its_sample_also_where_the_shard_is_replaced(store: ShardStore) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = [msgspec.structs.replace(sample(seq, version="v1"), traceparent=trace) for seq in (0, 1)]
    samples = [*traced, sample(2, version="v1"), sample(3)]
    writer = ShardWriter(store, SAMPLES, 0, 0)
    for offset, each in enumerate(samples):
        writer.add(sample_entry(each, offset, 0))
        writer.record(offset, 5.0)
    writer.publish()
    assert [each for _, each in ShardChain(store, SAMPLES, 0).samples()] == samples
    made = replace(store, [Shard(store, writer.name)], lambda entry: entry.offset != 1)
    assert made is not None
    assert made.summary.format == TRACED
    assert [each for _, each in ShardChain(store, SAMPLES, 0).samples()] == [samples[0], *samples[2:]]
    untraced = replace(store, [made], lambda entry: entry.offset > 1)
    assert untraced is not None
    assert untraced.summary.format == FORMAT, "an older installation can read it"


@READING
def test_session_records_come_back_from_a_steps_shard_and_webdataset_sees_the_steps(
    store: ShardStore, tmp_path: Path
) -> None:
    steps = tuple(
        Step("visit", seq, 1.5, 2.5, {"x": seq}, seq == 0, seq == 2, "v1", {"png": png(seq)}, {"note": "é"})
        for seq in range(3)
    )
    records = [
        SessionOpened("visit", "desktop", 1.0, {"screen": [64, 48]}),
        StepsAppended("visit", steps),
        SessionEnded("visit", 3, EndReason.EOS, 9.0),
    ]
    writer = ShardWriter(store, STEPS, 0, 0)
    for offset, record in enumerate(records):
        for entry in record_entries(record, offset):
            writer.add(entry)
        writer.record(offset, 1.0)
    writer.publish()
    back = [record for _, record in ShardChain(store, STEPS, 0).records()]
    assert back == [records[0], *(StepsAppended("visit", (step,)) for step in steps), records[2]]
    found = read_with_webdataset(local_copy(store, shard_name(STEPS, 0, 0), tmp_path / "copy"))
    assert [item["json"]["seq"] for item in found] == [0, 1, 2]
    assert Shard(store, shard_name(STEPS, 0, 0)).summary.count == 3


@READING
def test_a_reader_starts_at_any_point_and_reads_single_samples_in_place(store: ShardStore) -> None:
    write(store, 0, [0, 1, 2]).publish()
    write(store, 3, [4, 6]).publish()
    write(store, 7, [7]).publish()
    chain = ShardChain(store, SAMPLES, 0)
    everything = [0, 1, 2, 4, 6, 7]
    for start in (0, 3, 4, 8):
        assert [at.offset for at, _ in chain.samples((start, 0))] == [
            offset for offset in everything if offset >= start
        ]
        assert [at.offset for at, _ in chain.samples((start, 1))] == [offset for offset in everything if offset > start]
    assert chain.count() == 6
    for start in (0, 1, 5, 6, 8):
        assert chain.number_at((start, 0)) == sum(offset < start for offset in everything)
        assert chain.number_at((start, 1)) == sum(offset <= start for offset in everything)
    assert [chain.sample(number)[0].offset for number in (5, 0, 3, 2, 4, 1)] == [7, 0, 4, 2, 6, 1]
    assert chain.sample(4)[1] == sample(6)
    with pytest.raises(IndexError):
        chain.entry(6)


@READING
def test_entries_larger_than_a_read_come_whole(store: ShardStore) -> None:
    sizes = [1, 3 << 20, 5 << 20, 2, 4 << 20]
    writer = ShardWriter(store, SAMPLES, 0, 0)
    for offset, size in enumerate(sizes):
        writer.add(sample_entry(sample(offset, {"bin": os.urandom(size)}), offset, 0))
        writer.record(offset, 1.0)
    writer.publish()
    chain = ShardChain(store, SAMPLES, 0)
    assert [len(found.members["bin"]) for _, found in chain.samples()] == sizes
    assert [chain.sample(number)[1] for number in range(5)] == [found for _, found in chain.samples()]


@READING
def test_new_shards_are_noticed_one_by_one(store: ShardStore) -> None:
    chain = ShardChain(store, SAMPLES, 0)
    assert (chain.refresh(), chain.next_offset, chain.first_offset, len(chain)) == (0, None, None, 0)
    write(store, 5, [5]).publish()
    assert (chain.refresh(), chain.next_offset, chain.first_offset) == (1, 6, 5)
    write(store, 6, [6]).publish()
    write(store, 7, [9]).publish()
    assert (chain.refresh(), chain.next_offset, chain.count()) == (2, 10, 3)
    assert archived_before(store, SAMPLES, 0) == 10
    assert archived_before(store, SAMPLES, 1) == 0


def test_the_second_writer_of_a_name_is_told_and_changes_nothing(store: ShardStore) -> None:
    first, second = write(store, 0, [0, 1]), write(store, 0, [0, 1, 2])
    assert first.publish()
    before = contents(store, first.name)
    assert not second.publish()
    assert contents(store, first.name) == before
    assert store.names("samples/0") == ["samples/0/00000000000000000000.tar"]
    assert staged(store, "samples/0") == []


def test_a_discarded_shard_leaves_nothing(store: ShardStore) -> None:
    write(store, 0, [0]).discard()
    assert store.names("samples/0") == []
    assert staged(store, "samples/0") == []


@READING
def test_entries_out_of_order_are_refused(store: ShardStore) -> None:
    writer = write(store, 4, [5])
    for offset in (3, 5):
        with pytest.raises(ShardError, match="in order"):
            writer.add(sample_entry(sample(offset), offset, 0))
    writer.discard()


def damaged(store: ShardStore, change: str) -> str:
    """Publish two shards and damage the first; gives its name."""
    write(store, 0, [0, 1, 2]).publish()
    write(store, 3, [3]).publish()
    name = shard_name(SAMPLES, 0, 0)
    data = bytearray(contents(store, name))
    if change == "cut at a member":
        data = data[: len(data) - 2048]
    elif change == "cut in the summary":
        data = data[:700]
    elif change == "a byte changed":
        data[BODY + 600] ^= 1
    elif change == "another tar":
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
        data = bytearray(file.getvalue())
    elif change == "another offset":
        summary = decode_summary("x", bytes(data[:BODY]))
        data[:BODY] = encode_summary(type(summary)(**{**fields(summary), "first_offset": 1}))
    elif change == "another format":
        summary = decode_summary("x", bytes(data[:BODY]))
        data[:BODY] = encode_summary(type(summary)(**{**fields(summary), "format": 99}))
    overwrite(store, name, bytes(data))
    return name


def _fields(summary: Any) -> dict[str, Any]:
    return {field: getattr(summary, field) for field in summary.__struct_fields__}


@READING
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("cut at a member", "torn"),
        ("cut in the summary", "no shard"),
        ("a byte changed", "sha256"),
        ("another tar", "no shard"),
        ("another offset", "renamed or copied"),
        ("another format", "format 99"),
    ],
)
def test_a_torn_or_foreign_shard_is_refused_by_name(store: ShardStore, change: str, says: str) -> None:
    name = damaged(store, change)
    with pytest.raises(ShardError, match=says) as caught:
        list(ShardChain(store, SAMPLES, 0).samples())
    assert name in str(caught.value)


@READING
def test_a_damaged_entry_is_refused_also_where_shards_are_not_read_whole(store: ShardStore) -> None:
    damaged(store, "a byte changed")
    chain = ShardChain(store, SAMPLES, 0, whole=False)
    with pytest.raises(ShardError, match="damaged"):
        chain.sample(0)
    assert chain.sample(1)[1] == sample(1)


@READING
def test_a_gap_in_the_chain_is_an_error_that_names_both_sides(store: ShardStore) -> None:
    for first in (0, 1, 2):
        write(store, first, [first]).publish()
    store.remove(shard_name(SAMPLES, 0, 1))
    with pytest.raises(ShardError, match=r"0{20}\.tar ends at 1, but the next shard is .*0{19}2\.tar"):
        list(ShardChain(store, SAMPLES, 0).samples())


@READING
def test_a_name_that_a_listing_missed_is_found_again(store: ShardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (0, 1, 2):
        write(store, first, [first]).publish()
    listed = store.names("samples/0")
    monkeypatch.setattr(store, "names", lambda folder, beyond=-1: [listed[0], listed[2]])
    chain = ShardChain(store, SAMPLES, 0)
    assert chain.count() == 3
    assert [at.offset for at, _ in chain.samples()] == [0, 1, 2]


class Killed(BaseException):
    """The process is gone: no handler runs, nothing more is done."""


class DyingOs:
    """The `os` module, which the process does not live to call for the n-th time."""

    def __init__(self, lives: int) -> None:
        self.calls: list[str] = []
        self._lives = lives

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"link", "fsync", "open", "close", "unlink", "fdatasync"}:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            if len(self.calls) >= self._lives:
                raise Killed
            self.calls.append(name)
            return real(*arguments, **options)

        return call


def test_killed_between_any_two_calls_a_shard_is_absent_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for lives in range(20):
        store = DirectoryStore(tmp_path / str(lives))
        writer = write(store, 0, [0, 1, 2])
        dying = DyingOs(lives)
        with monkeypatch.context() as patched:
            patched.setattr(directory, "os", dying)
            patched.setattr(store_module.StagedShard, "discard", lambda staged, dying=dying: dying.unlink(staged.path))
            try:
                finished = writer.publish()
            except Killed:
                finished = False
        names = store.names("samples/0")
        if names:
            Shard(store, names[0]).verify()
            assert "fsync" in dying.calls[: dying.calls.index("link")], "durable before it is visible"
        seen.add((finished, bool(names)))
        assert store.names("samples/0") == names
        if finished:
            break
    assert seen == {(False, False), (False, True), (True, True)}


def test_what_a_dead_writer_left_is_removed_and_a_living_one_s_file_is_not(store: ShardStore) -> None:
    living = write(store, 0, [0])
    folder = staged(store, "samples/0")[0].parent
    (folder / ".1-dead.tmp").write_bytes(b"x")
    (folder / ".1-fresh.tmp").write_bytes(b"x")
    for path in folder.glob(".*.tmp"):
        if "fresh" not in path.name:
            os.utime(path, (1, 1))
    assert store.clean("samples/0") == 1
    assert sorted(path.name for path in folder.glob(".1-*")) == [".1-fresh.tmp"]
    assert living.publish()
