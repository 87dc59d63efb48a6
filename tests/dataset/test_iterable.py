"""Iterable datasets of other libraries: passes that are the same again, states that lead back, parts, and workers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import webdataset
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dataset import (
    Consumed,
    IterableSource,
    MapSource,
    Share,
    SourceError,
    StateError,
    cursor,
    make_interactive_dataset,
)
from dataset.compat import AsPart, one_pass, tells_its_state
from dataset.digest import digest
from tests.dataset import libraries
from tests.dataset.streams import Reading, json_copy, key, step, with_inline_workers
from tests.dataset.test_sources import ALL, SIZE


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot at every fourth element."""
    monkeypatch.setattr(cursor, "EVERY", 4)


# Passes


def test_a_webdataset_pipeline_shuffles_by_the_seed_and_the_pass(tmp_path: Path) -> None:
    source = IterableSource(libraries.wds_fluid(tmp_path))
    keys = Reading(source).read(3 * SIZE)
    passes = [keys[at : at + SIZE] for at in range(0, 3 * SIZE, SIZE)]
    assert len({tuple(each) for each in passes}) == 3
    assert [sorted(each) for each in passes] == [ALL] * 3
    again = IterableSource(libraries.wds_fluid(tmp_path / "again"))  # made anew, as in another process
    assert Reading(again).read(3 * SIZE) == keys
    assert Reading(again, Share(seed=1)).read(SIZE) != keys[:SIZE]


def test_a_pipeline_leaves_the_users_own_as_it_was(tmp_path: Path) -> None:
    pipeline = libraries.wds_stages(tmp_path)
    before = [(stage, dict(getattr(stage, "__dict__", {}))) for stage in pipeline.pipeline]
    Reading(IterableSource(pipeline)).read(SIZE + 3)
    assert [(stage, dict(getattr(stage, "__dict__", {}))) for stage in pipeline.pipeline] == before


def test_resampled_shards_come_in_the_same_order_again(tmp_path: Path) -> None:
    def made() -> IterableSource:
        data = webdataset.WebDataset(libraries.image_tars(tmp_path), resampled=True, shardshuffle=False)
        return IterableSource(data.shuffle(5).decode().map(libraries.named))

    keys = Reading(made()).read(60)
    reading = Reading(made())
    assert reading.read(21) == keys[:21]
    assert reading.restored().read(39) == keys[21:]


def test_several_ranks_read_a_pipeline_without_telling_it_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun tells webdataset of the ranks, which would refuse them, or split, besides the mixture's own shares."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for number, pipeline in enumerate((libraries.wds_fluid, libraries.wds_stages)):
        source = IterableSource(pipeline(tmp_path / str(number)))
        keys = [each for index in range(2) for each in Reading(source, Share(index, 2)).read(SIZE // 2)]
        assert sorted(keys) == ALL


def test_a_pass_may_be_shorter_or_longer_than_the_one_before() -> None:
    source = IterableSource(libraries.PerPass(shrinks=True))
    for workers in (0, 2):
        Reading.workers = workers
        try:
            keys = Reading(source).read(24 + 19 + 14 + 24 + 19)
            for cut in (23, 24, 25, 43, 50, 57, 81):
                reading = Reading(source)
                assert reading.read(cut) == keys[:cut]
                assert reading.restored().read(len(keys) - cut) == keys[cut:], cut
        finally:
            Reading.workers = 0
        lengths = np.cumsum([24, 19, 14, 24, 19]).tolist()
        passes = [keys[first:end] for first, end in zip([0, *lengths], lengths, strict=False)]
        assert all(len(set(each)) == len(each) for each in passes)
        assert sorted(passes[0]) == sorted(passes[3]) == ALL


@pytest.mark.timeout(60)  # what was read by shares of another layout once had no end
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("counts", [(1, 2, 3), (2, 1, 4), (3, 2, 1), (1, 6, 1)], ids=str)
def test_other_numbers_of_shares_go_on_behind_the_end_of_a_pass(parts: int, counts: tuple[int, ...]) -> None:
    source = IterableSource(libraries.SplitsItself(11), parts=parts, epochs=3)
    for cut in (5, 10, 11, 12, 16):
        consumed, keys = Consumed(), list[str]()
        for number, count in enumerate(counts):
            readings = [Reading(source, Share(index, count), consumed) for index in range(count)]
            last = number == len(counts) - 1
            for reading in readings:
                keys += reading.read(99 if last else -(-cut // count))
        assert Counter(keys) == Counter([key(number) for number in range(11)] * 3), (cut, keys)


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_what_is_empty_for_a_share_is_exhausted(count: int) -> None:
    source = IterableSource(libraries.SplitsItself(2), parts=2)
    readings = [Reading(source, Share(index, count)) for index in range(count)]
    assert {each for reading in readings for each in reading.read(3)} == {key(0), key(1)}
    assert any(reading.reader.exhausted() for reading in readings) == (count > 1)
    empty = IterableSource(libraries.SplitsItself(0), parts=2).open(Share(0, count), {})
    assert empty.poll() is None
    assert empty.exhausted()


# States


@pytest.mark.usefixtures("often")
def test_a_dataset_that_knows_where_it_is_goes_on_from_there() -> None:
    whole = Reading(IterableSource(libraries.Stateful(200))).read(150)
    source = IterableSource(libraries.Stateful(200))
    reading = Reading(source)
    reading.read(90)
    dataset = libraries.Stateful(200)
    again = Reading(IterableSource(dataset), reading.share, reading.consumed, json_copy(reading.reader.state()))
    assert again.read(60) == whole[90:150]
    assert dataset.made < 60 + 2 * cursor.EVERY


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("parts", [1, 2])
def test_a_hugging_face_dataset_goes_on_by_its_own_state(parts: int) -> None:
    def made() -> Any:
        return IterableSource(libraries.hf_iterable(4, 40), parts=parts)

    whole = Reading(made()).read(150)
    reading = Reading(made())
    assert reading.read(100) == whole[:100]
    state = json_copy(reading.reader.state())
    assert all(snapshot["state"]["examples_iterable"] for snapshot in state["snapshots"])
    made_again = made()
    assert Reading(made_again, reading.share, reading.consumed, state).read(50) == whole[100:]


def test_only_states_that_say_all_are_taken() -> None:
    plain = libraries.hf_iterable()
    assert tells_its_state(plain)
    assert tells_its_state(plain.map(libraries.doubled).with_format("torch"))
    assert not tells_its_state(plain.shuffle(seed=1, buffer_size=4))
    assert not tells_its_state(plain.shuffle(seed=1, buffer_size=4).map(libraries.doubled))
    mixed = datasets.interleave_datasets([plain, plain.shuffle(seed=1, buffer_size=4)])
    assert not tells_its_state(mixed)
    assert not tells_its_state(libraries.PerPass())


@pytest.mark.usefixtures("often")
def test_a_state_that_leads_elsewhere_is_noticed_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    whole = Reading(IterableSource(libraries.Stateful(60))).read(50)
    reading = Reading(IterableSource(libraries.Forgets(60)))
    assert reading.read(30) == whole[:30]
    assert reading.restored().read(20) == whole[30:]
    assert "iterable:Forgets: its state of pass 0, element 28, does not lead back there" in caplog.text


@pytest.mark.usefixtures("often")
def test_passes_that_are_not_the_same_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class Random(IterableDataset[dict[str, str]]):
        def __iter__(self) -> Iterator[dict[str, str]]:
            return ({"key": key(number)} for number in np.random.default_rng().permutation(500).tolist())

    reading = Reading(IterableSource(Random()))
    reading.read(30)
    reading = reading.restored()
    reading.read(3)
    assert "Random: pass 0, element 28 is another one than it was before" in caplog.text


def test_states_stay_small_and_a_damaged_one_is_refused(often: None) -> None:
    reading = Reading(IterableSource(libraries.hf_iterable(2, 200)))
    reading.read(300)
    state = reading.reader.state()
    assert len(state["snapshots"]) <= cursor.KEPT
    assert len(str(state)) < 4096
    with pytest.raises(StateError, match="iterable:IterableDataset: its saved snapshots cannot be read"):
        reading.source.open(Share(), {}, {"snapshots": 3})


def test_digests_tell_elements_apart() -> None:
    x = torch.arange(6).reshape(2, 3)
    things: list[Any] = [1, "1", b"1", 1.0, None, [1], (1,), {"a": 1}, {"b": 1}, x, x.T, x.to(torch.int32), x.numpy()]
    assert len({digest(thing) for thing in things}) == len(things)
    assert digest({"a": x.clone(), "b": ["y"]}) == digest({"a": x, "b": ["y"]})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_long_way_through_what_was_consumed_is_gone_in_stretches(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is silent for long counts as hung; so it says that it is on its way, and is asked again."""
    monkeypatch.setattr(Reading, "workers", workers)
    for number, made in enumerate(
        (
            lambda: IterableSource(libraries.PerPass(50, shrinks=True)),
            lambda: IterableSource(libraries.hf_iterable(4, 12).shuffle(seed=2, buffer_size=6), parts=2),
            lambda: IterableSource(libraries.wds_stages(tmp_path), parts=3),
        )
    ):
        whole = Reading(made(), Share(1, 2)).read(60)
        with monkeypatch.context() as hurried:
            hurried.setattr(cursor, "SKIP_SECONDS", 0.0)  # one step at a time
            assert Reading(made(), Share(1, 2)).read(60) == whole, number
            for cut in (7, 12, 24, 41):
                reading = Reading(made(), Share(1, 2))
                reading.read(cut)
                assert reading.restored().read(60 - cut) == whole[cut:], (number, cut)


def test_a_killed_owner_of_an_iterator_is_replaced_and_nothing_is_lost_or_repeated() -> None:
    sources = {"a": IterableSource(libraries.PerPass(60)), "b": IterableSource(libraries.hf_iterable(4, 15), parts=2)}

    def run(workers: int) -> list[list[str]]:
        data = make_interactive_dataset(sources, seed=8, workers=workers)
        rows = []
        try:
            for number in range(30):
                if workers and number % 10 == 4:
                    for process in data._reading.pool.processes:  # type: ignore[union-attr]
                        os.kill(process, signal.SIGKILL)
                rows.append(step(data, 6))
            return rows
        finally:
            data.close()

    assert run(2) == run(0)


# Parts, and who else splits


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_give_what_so_many_workers_of_a_dataloader_would(parts: int) -> None:
    dataset = libraries.SplitsItself(40)
    keys = Reading(IterableSource(dataset, parts=parts)).read(40)
    assert sorted(keys) == [key(number) for number in range(40)]
    for part in range(parts):  # each part in its order
        own = [each for each in keys if int(each[-9:-3]) % parts == part]
        assert own == sorted(own)
    assert get_worker_info() is None


def test_a_dataset_that_splits_itself_is_read_whole_by_the_workers_of_a_dataloader() -> None:
    data = make_interactive_dataset({"a": IterableSource(libraries.SplitsItself(), epochs=1)})
    loader = DataLoader(data, batch_size=2, num_workers=2, collate_fn=list, multiprocessing_context="forkserver")
    keys = [row["key"] for batch in loader for row in batch]
    assert sorted(keys) == ALL


def test_parts_that_cannot_be_are_refused() -> None:
    with pytest.raises(SourceError, match="parts is 0, but a dataset is read in at least 1 part"):
        IterableSource(libraries.SplitsItself(), parts=0)

    class Uncopied(libraries.SplitsItself):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("no copies")

    with pytest.raises(SourceError, match=r"in 2 parts: it cannot be copied \(TypeError: no copies\)"):
        Reading(IterableSource(Uncopied(), parts=2)).read(1)
    assert len(Reading(IterableSource(Uncopied())).read(3)) == 3


class Raises(IterableDataset[dict[str, str]]):
    def __iter__(self) -> Iterator[dict[str, str]]:
        yield from ({"key": key(number)} for number in range(5))
        raise ValueError("the disk is gone")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_an_iterator_raises_is_an_error_that_names_the_element(workers: int) -> None:
    data = with_inline_workers(make_interactive_dataset({"a": Raises()}), workers)
    told = r"iterable:Raises: pass 0, element 5 could not be read \(ValueError: the disk is gone\)"
    with pytest.raises(SourceError, match=told):
        data.take(8)
    items, _ = data.take(4)  # nothing was lost
    assert [item.sample["key"] for item in items] == [key(number) for number in range(4)]


# What is made of what


def test_what_has_a_length_and_is_iterated_is_no_map() -> None:
    made = make_interactive_dataset(
        {
            "torch": libraries.SplitsItself(),
            "hf": libraries.hf_iterable(),
            "hf-map": libraries.hf_map(),
            "one-way": libraries.OneWay(),
            "concatenated": libraries.concatenated(),
        }
    )
    kinds = {name: type(source) for name, source in made.sources.items()}
    assert kinds == {
        "torch": IterableSource,
        "hf": IterableSource,
        "hf-map": MapSource,
        "one-way": IterableSource,
        "concatenated": MapSource,
    }


def test_a_dataset_in_splits_is_refused_with_the_way_out() -> None:
    splits = datasets.DatasetDict({"train": libraries.hf_map()})
    with pytest.raises(
        SourceError, match='"a" is a DatasetDict, which cannot be read; of a dataset in splits give one'
    ):
        make_interactive_dataset({"a": splits})


def test_another_hugging_face_table_is_another_source() -> None:
    assert MapSource(libraries.hf_map()).fingerprint == MapSource(libraries.hf_map()).fingerprint
    assert MapSource(libraries.hf_map()).fingerprint != MapSource(libraries.hf_map().shuffle(seed=1)).fingerprint


# What libraries keep to themselves


def test_webdataset_still_has_the_stages_that_are_seeded(tmp_path: Path) -> None:
    from webdataset import filters, shardlists

    pipeline = libraries.wds_stages(tmp_path)
    made: Any = one_pass(pipeline, 3, 2, 0)
    kinds = [type(stage) for stage in made.pipeline]
    assert shardlists.split_by_node in pipeline.pipeline
    assert shardlists.split_by_node not in made.pipeline
    assert filters.detshuffle in kinds
    assert next(stage for stage in made.pipeline if type(stage) is filters.detshuffle).epoch == 1
    shuffles = [stage for stage in made.pipeline if getattr(stage, "f", None) is filters._shuffle]
    assert len(shuffles) == 1
    assert shuffles[0].kw["rng"].random() == next(
        stage.kw["rng"].random()
        for stage in one_pass(pipeline, 3, 2, 0).pipeline  # type: ignore[attr-defined]
        if getattr(stage, "f", None) is filters._shuffle
    )


def test_hugging_face_still_keeps_a_loaded_state_where_it_is_taken_out() -> None:
    data = libraries.hf_iterable()
    assert data._starting_state_dict is None
    data.load_state_dict({"epoch": 0})
    assert data._starting_state_dict == {"epoch": 0}


def test_torch_still_tells_of_workers_where_they_are_told_of() -> None:
    with AsPart(None, 1, 3):
        info = get_worker_info()
        assert info is not None
        assert (info.id, info.num_workers) == (1, 3)
    with AsPart(None, 0, 1):
        assert get_worker_info() is None


def test_a_part_that_is_entered_twice_leaves_nothing_behind() -> None:
    part = AsPart(None, 1, 3)
    with part:
        with part:
            pass
        assert get_worker_info() is not None
    assert get_worker_info() is None


def test_counts_of_later_passes_are_repeats() -> None:
    reading = Reading(IterableSource(libraries.PerPass(), epochs=2))
    assert Counter(reading.read(100)) == Counter(dict.fromkeys(ALL, 2))
    assert reading.reader.stats().repeats == SIZE
    assert reading.reader.exhausted()
