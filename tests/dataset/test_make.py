"""What `make_interactive_dataset` makes of the things that people have at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import webdataset
from torch.utils.data import IterableDataset, TensorDataset, default_convert

import dataset
from dataset import (
    HistorySource,
    InteractiveMixture,
    IterableSource,
    LiveSource,
    MapSource,
    ShardSource,
    SourceError,
    WeightsError,
    make_interactive_dataset,
)
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog


class Endless(IterableDataset[dict[str, int]]):
    def __iter__(self):
        return iter([{"x": 1}])


def test_things_become_the_sources_that_read_them(tmp_path: Path) -> None:
    log, archive = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "archive")
    own = MapSource([{"x": 1}], shuffle=False)
    data = make_interactive_dataset(
        {
            "folder": tmp_path,
            "path": str(tmp_path / "one.tar"),
            "live": log,
            "history": archive,
            "list": [{"x": 1}],
            "torch": TensorDataset(),
            "iterable": Endless(),
            "webdataset": webdataset.WebDataset(str(tmp_path / "one.tar"), shardshuffle=False),
            "own": own,
        },
        decode=default_convert,
    )
    kinds = [type(source) for source in data.sources.values()]
    assert kinds == [ShardSource] * 2 + [LiveSource, HistorySource] + [MapSource] * 2 + [IterableSource] * 2 + [
        MapSource
    ]
    assert isinstance(data, InteractiveMixture)
    assert data.sources["own"] is own
    for name in ("folder", "live", "history", "list", "iterable"):
        assert data.sources[name].decode is default_convert


def test_without_weights_all_sources_have_the_same() -> None:
    assert make_interactive_dataset({"a": [1], "b": [2]}).weights.by_source == {"a": 1, "b": 1}


def test_weights_name_what_is_drawn_and_pause_the_rest() -> None:
    assert make_interactive_dataset({"a": [1], "b": [2]}, {"a": 2}).weights.by_source == {"a": 2, "b": 0}


def test_weights_of_unknown_sources_are_refused() -> None:
    with pytest.raises(WeightsError, match='there is no source "c"'):
        make_interactive_dataset({"a": [1]}, {"c": 2})


@pytest.mark.parametrize("nothing", [{}, None, []])
def test_no_sources_are_refused(nothing) -> None:
    with pytest.raises(SourceError, match="names no sources; give a mapping"):
        make_interactive_dataset(nothing)


def test_what_can_be_gone_through_only_once_is_refused() -> None:
    with pytest.raises(SourceError, match='"a" is a generator, which can be gone through only once'):
        make_interactive_dataset({"a": (number for number in range(3))})


@pytest.mark.parametrize("thing", [3, {"x": 1}, b"bytes", None])
def test_what_cannot_be_read_is_refused(thing) -> None:
    with pytest.raises(SourceError, match=rf'"a" is a {type(thing).__name__}, which cannot be read'):
        make_interactive_dataset({"a": thing})


def test_samples_that_are_no_mappings_are_refused_by_name() -> None:
    data = make_interactive_dataset({"a": MapSource([(1, 2)], bad_limit=0)})
    with pytest.raises(dataset.BadSamples, match="the sample is a tuple, but a sample is a mapping by name"):
        data.take(1)


def test_everything_public_is_exported_and_documented() -> None:
    for name in dataset.__all__:
        assert getattr(dataset, name).__doc__ or name in ("ORIGIN", "RECEIPT", "Decode", "Loader"), name
