"""Base data in shards: any WebDataset tar in place, torn ones refused by name, growing folders epoch by epoch."""

from __future__ import annotations

import gc
import gzip
import io
import logging
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset import ShardSource, Share, SourceError, StateError, in_place, make_interactive_dataset, merge_states
from dataset.in_place import Files
from dataset.tar import TarShard
from tests.dataset.streams import MemoryLog, Reading, archive_of, decode, json_copy, key, step, write_tar


def keys(first: int, end: int) -> list[str]:
    return [key(number) for number in range(first, end)]


def in_order(source: ShardSource) -> ShardSource:
    return ShardSource(source.paths, decode=source.decode, shuffle=False)


# Tars


def samples_by_webdataset(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    found = []
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        contents = {name: value for name, value in sample.items() if not name.startswith("__")}
        found.append((sample["__key__"], contents))
    return found


def samples_in_place(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    shard = TarShard(path)
    files = Files()
    return [files.read([shard.stretch(number)])[0] for number in reversed(range(len(shard)))][::-1]


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read_as_webdataset_reads_it(tmp_path: Path, tar_format: int) -> None:
    path = tmp_path / "one.tar"
    long = "folder/" + "x" * 120  # beyond a header's 100 bytes: a prefix, a long name or a pax header
    with tarfile.open(path, "w", format=tar_format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in {
            "a.png": b"image",
            "a.json": b"{}",
            "__stovetop__/shard.json": b"hidden",
            "folder/b.seg.png": b"two dots",
            "folder/b.cls": b"",
            "README": b"no extension",
            f"{long if tar_format != tarfile.USTAR_FORMAT else 'y' * 90}.TXT": b"z" * 1000,
        }.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1700000000.25
            tar.addfile(info, io.BytesIO(content))
    assert samples_in_place(path) == samples_by_webdataset(path)
    assert len(samples_in_place(path)) == 3


contents = st.dictionaries(st.sampled_from(["png", "json", "cls", "npy.gz"]), st.binary(max_size=1500), min_size=1)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(contents, min_size=1, max_size=8))
def test_what_webdataset_writes_is_read_back_in_place(tmp_path: Path, samples: list[dict[str, bytes]]) -> None:
    path = tmp_path / "written.tar"
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"{number:06d}", **sample})
    assert samples_in_place(path) == [(f"{number:06d}", sample) for number, sample in enumerate(samples)]


@pytest.mark.parametrize("cut", [1, 512, 1024, 1500, 5 * 512 + 100, 10 * 512])
def test_a_tar_that_was_cut_anywhere_is_refused_whole_and_named(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "one.tar", keys(0, 8))
    with tarfile.open(path) as tar:
        end = max(member.offset_data + 512 for member in tar)
    whole = path.read_bytes()[: end + 1024]
    path.write_bytes(whole[:-cut])
    with pytest.raises(SourceError, match=r"one\.tar: it is torn|one\.tar: no tar header"):
        TarShard(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty, not a tar"),
        (gzip.compress(b"x" * 2000, mtime=0), "it is compressed, so samples cannot be read in place; unpack it"),
        (b"nonsense" * 1000 + bytes(1024), "no tar header at byte 0; it is damaged or not a tar"),
    ],
)
def test_what_is_no_plain_tar_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(SourceError, match=rf"x\.tar: {told}"):
        TarShard(tmp_path / "x.tar")


def test_a_damaged_header_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "one.tar", keys(0, 3))
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"one\.tar: no tar header at byte 1024"):
        TarShard(path)


def test_a_shard_of_ours_with_a_flipped_bit_is_refused_whole_and_named(tmp_path: Path) -> None:
    log = MemoryLog(1)
    log.append(0, keys(0, 5))
    archive_of(log, tmp_path)
    (path,) = tmp_path.rglob("*.tar")
    data = bytearray(path.read_bytes())
    data[2100] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        SourceError, match=rf"{path.name}: {len(data)} bytes with sha256 [0-9a-f]+, but its summary says"
    ):
        Reading(ShardSource(tmp_path)).read(1)


def test_a_shard_that_is_changed_or_replaced_while_it_is_read_is_found_out(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "one.tar", keys(0, 8))
    cut, replaced = TarShard(path), TarShard(path)
    with open(path, "r+b") as file:
        file.truncate(2048)
    write_tar(tmp_path / "one.tar", keys(8, 16))
    for shard in (cut, replaced):
        with pytest.raises(SourceError, match=r"one\.tar: it was changed or replaced while it is read"):
            Files().read([shard.stretch(7)])


# Folders


def test_a_path_a_list_of_paths_and_a_folder_are_read(tmp_path: Path) -> None:
    one = write_tar(tmp_path / "deep" / "one.tar", keys(0, 3))
    two = write_tar(tmp_path / "two.tar", keys(3, 5))
    (tmp_path / ".hidden").mkdir()
    write_tar(tmp_path / ".hidden" / "three.tar", keys(5, 9))
    (tmp_path / "two.tar.tmp").write_bytes(b"being written")
    for paths, expected in ((one, keys(0, 3)), ([two, one], [*keys(3, 5), *keys(0, 3)]), (tmp_path, keys(0, 5))):
        assert Reading(ShardSource(paths, decode=decode, shuffle=False)).read(len(expected)) == expected


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.tar: cannot be opened \(No such file"):
        Reading(ShardSource([tmp_path / "gone.tar"])).read(1)


def test_a_growing_folder_is_picked_up_at_the_next_epoch(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", keys(0, 6))
    reading = Reading(ShardSource(tmp_path, decode=decode))
    first = reading.read(2)
    write_tar(tmp_path / "a.tar", keys(6, 10))  # sorts before: the order of epoch 0 must not change
    first += reading.read(4)
    assert sorted(first) == keys(0, 6)
    assert sorted(reading.read(10)) == keys(0, 10)
    write_tar(tmp_path / "c.tar", keys(10, 11))
    assert sorted(reading.read(11)) == keys(0, 11)


@pytest.mark.parametrize("cut", [1, 5, 7, 11, 15])
def test_an_epoch_that_was_begun_is_finished_exactly_also_after_the_folder_has_grown(tmp_path: Path, cut: int) -> None:
    def read(cut: int | None) -> list[str]:
        folder = tmp_path / str(cut)
        write_tar(folder / "b.tar", keys(0, 6))
        reading = Reading(ShardSource(folder, decode=decode))
        read: list[str] = []
        while len(read) < 16:
            if len(read) == 6:
                write_tar(folder / "a.tar", keys(6, 10))
            if len(read) == cut:
                write_tar(folder / "0.tar", keys(10, 12))
                reading = reading.restored().restored()
            read += reading.read(1)
            if cut is not None and len(read) == (6 if cut < 6 else 16):
                break
        return read

    whole = read(None)
    assert read(cut) == whole[: 6 if cut < 6 else 16]


def test_an_empty_folder_is_waited_for(tmp_path: Path) -> None:
    reading = Reading(ShardSource(tmp_path / "later", decode=decode))
    assert reading.read(1) == []
    write_tar(tmp_path / "later" / "one.tar", keys(0, 3))
    assert sorted(reading.read(3)) == keys(0, 3)


def test_a_torn_newcomer_is_left_out_until_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tar(tmp_path / "a.tar", keys(0, 2))
    reading = Reading(ShardSource(tmp_path, decode=decode))
    reading.read(2)
    whole = write_tar(tmp_path / "b.tar", keys(2, 4)).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:1024])
    with caplog.at_level(logging.WARNING):
        assert sorted(reading.read(2)) == keys(0, 2)
    assert "left out until the next epoch" in caplog.text
    assert "b.tar: it is torn" in caplog.text
    (tmp_path / "b.tar").write_bytes(whole)
    assert sorted(reading.read(4)) == keys(0, 4)


def test_a_shard_that_the_state_reads_and_is_gone_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", keys(0, 4))
    write_tar(tmp_path / "b.tar", keys(4, 8))
    reading = Reading(ShardSource(tmp_path, decode=decode))
    reading.read(3)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(SourceError, match=r"a\.tar: cannot be opened"):
        reading.restored()


def test_shards_that_hold_other_samples_than_the_state_counted_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", keys(0, 4))
    reading = Reading(ShardSource(tmp_path, decode=decode))
    reading.read(3)
    write_tar(tmp_path / "a.tar", keys(0, 5))
    with pytest.raises(StateError, match=r"a\.tar to a\.tar hold 5 samples, but the state counted 4"):
        reading.restored()


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", keys(0, 4))
    with pytest.raises(StateError, match="its saved list of shards cannot be read"):
        ShardSource(tmp_path).open(Share(), {}, {"listings": 3})


def open_in(folder: Path) -> int:
    """How many files of a folder this process has open, whatever else it has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of the listing itself
            count += Path(os.readlink(f"/proc/self/fd/{name}")).is_relative_to(folder)
    return count


def test_few_files_stay_open_however_many_shards_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "OPEN", 5)
    for number in range(20):
        write_tar(tmp_path / f"{number:02d}.tar", keys(4 * number, 4 * number + 4))
    reading = Reading(ShardSource(tmp_path, decode=decode))
    for _ in range(4):
        assert len(reading.read(20)) == 20
        assert 0 < open_in(tmp_path) <= 5
    reading.reader.close()
    assert open_in(tmp_path) == 0
    assert sorted(Reading(ShardSource(tmp_path, decode=decode)).read(80)) == keys(0, 80)
    gc.collect()  # a reader that nobody closed
    assert open_in(tmp_path) == 0


def test_many_sources_together_keep_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "OPEN_TOGETHER", 6)
    for number in range(8):
        write_tar(tmp_path / f"{number}.tar", keys(2 * number, 2 * number + 2))
    readings = [Reading(ShardSource(tmp_path, decode=decode)) for _ in range(4)]
    for _ in range(16):
        for reading in readings:
            reading.read(1)
        assert 0 < open_in(tmp_path) <= 6 + len(readings)
    for reading in readings:
        reading.reader.close()
    assert open_in(tmp_path) == 0


@pytest.mark.parametrize("size", [10, 6000, 40_000, 100_001])
def test_samples_of_any_size_are_read_whole_also_with_large_and_small_members_in_turn(
    tmp_path: Path, size: int
) -> None:
    def members(key: str) -> dict[str, bytes]:
        parts = {"a.json": size // 50, "b.npy": size, "c": 0, "d.npy": size + 511, "e.cls": 3}
        return {name: key.encode()[-9:] * (count // 9) for name, count in parts.items()}

    path = write_tar(tmp_path / "0.tar", keys(0, 4), members)
    assert samples_in_place(path) == [(each, members(each)) for each in keys(0, 4)]


def test_ranks_that_saw_different_folders_agree_once_they_load_one_state(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", keys(0, 7))

    def ranks(state):
        made = []
        for rank in range(2):
            data = make_interactive_dataset({"base": ShardSource(tmp_path, decode=decode)})
            if state is not None:
                data.load_state_dict(state)
            data.set_layout(rank, 2)
            made.append(data)
            data.state_dict()  # opens it
            write_tar(tmp_path / "b.tar", keys(7, 11))  # the second rank sees more
        return made

    state = json_copy(merge_states([data.state_dict() for data in ranks(None)]))
    first, second = ranks(state)
    assert sorted(step(first, 4) + step(second, 3)) == keys(0, 7)
