"""What cannot be used: skipped and counted by source, an error when too many follow each other, and shards refused whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset import BadSamples, HistorySource, IterableSource, LiveSource, MapSource, SourceError, StreamSource
from dataset import make_interactive_dataset as mixed
from dataset.decoding import BAD_LIMIT
from ingest import ShardError
from tests.dataset import libraries
from tests.dataset.streams import MemoryLog, Reading, archive_of, decode, key, step, with_inline_workers
from tests.dataset.test_sources import SOURCES, Lines, filled


def fails(element: Any) -> Any:
    raise ValueError("no good")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_more_in_a_row_than_the_limit_end_reading_by_name(
    name: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = SOURCES[name](tmp_path)
    if isinstance(source, StreamSource):
        monkeypatch.setattr(Lines, "bad_limit", 2)
        source = dataclasses.replace(source, decode=fails)
    else:
        assert source.bad_limit == BAD_LIMIT
        source = dataclasses.replace(source, decode=fails, bad_limit=2)
    data = with_inline_workers(mixed({"a": source}), workers)
    with pytest.raises(BadSamples) as raised:
        data.take(4)
    assert f"{source.fingerprint}: 3 samples in a row could not be decoded" in str(raised.value)
    assert "ValueError: no good" in str(raised.value)
    data.close()


def every(number: int) -> Callable[[Any], Any]:
    """A decode function that fails for each n-th."""

    def decoding(element: Any) -> Any:
        sample = decode(element) if "json" in element else element
        if int(sample["key"][-9:-3]) % number == 0:
            raise ValueError("no good")
        return sample

    return decoding


@pytest.mark.parametrize("workers", [0, 3])
def test_each_source_counts_its_own(workers: int, tmp_path: Path) -> None:
    log = MemoryLog(1)
    for number in range(24):
        log.append(0, [key(number)], float(number))
    sources = {
        "map": MapSource(libraries.hf_map(), decode=every(4), epochs=1),
        "iterable": IterableSource(libraries.SplitsItself(), decode=every(6), epochs=1, parts=2),
        "live": LiveSource(log, decode=every(8)),
        "good": MapSource([{"key": key(1)}] * 24, epochs=1),
    }
    data = with_inline_workers(mixed(sources), workers)
    read: list[str] = []
    while found := step(data, 1):
        read += found
    assert len(read) == 18 + 20 + 21 + 24
    skipped = {name: source.skipped for name, source in data.statistics().sources.items()}
    assert skipped == {"map": 6, "iterable": 4, "live": 3, "good": 0}
    data.close()


# Shards; those of the base source are in test_shards.py


def torn(folder: Path) -> str:
    """Cut the first shard at the end of some entry."""
    shard = sorted(folder.rglob("*.tar"))[0]
    shard.write_bytes(shard.read_bytes()[: 512 * 8])
    return shard.name


def flipped(folder: Path) -> str:
    """Change one bit in the middle of an entry."""
    shard = sorted(folder.rglob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[data.index(b'{"key"') + 3] ^= 1
    shard.write_bytes(data)
    return shard.name


def test_a_torn_shard_of_the_archive_is_refused_by_name_before_anything_of_it_is_drawn(tmp_path: Path) -> None:
    archive = archive_of(filled(MemoryLog()), tmp_path)
    name = torn(tmp_path)
    with pytest.raises(ShardError, match=rf"{name}: .* torn; restore it"):
        Reading(HistorySource(archive, follows=None, partitions=2, decode=decode)).read(1)


@pytest.mark.parametrize("damage", [torn, flipped])
def test_below_the_log_a_damaged_shard_is_refused_whole_and_named(
    tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    log = filled(MemoryLog())
    archive = archive_of(log, tmp_path, per_shard=100)
    name = damage(tmp_path)
    log.trim(0, 99)
    log.trim(1, 99)
    with pytest.raises(ShardError, match=rf"{name}: .*(torn|its summary says)"):
        Reading(LiveSource(log, decode=decode, archive=archive)).read(1)


def test_a_tar_that_a_pipeline_cannot_read_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    pipeline = libraries.wds_fluid(tmp_path)
    (tmp_path / "001.tar").write_bytes((tmp_path / "001.tar").read_bytes()[:700])
    with pytest.raises(SourceError, match=r"iterable:WebDataset: pass 0, element \d+ could not be read \(.*001\.tar"):
        Reading(IterableSource(pipeline)).read(24)
