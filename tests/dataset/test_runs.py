"""Whole runs of samples: row by row what asking for each by itself gives, whatever is changed, skipped or restored."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset import (
    BadSamples,
    BatchReader,
    InteractiveMixture,
    MapSource,
    Run,
    ShardSource,
    Share,
    Source,
    SourceError,
    make_interactive_dataset,
    merge_states,
)
from ingest.deletions import Deletions
from tests.dataset.streams import MemoryLog, Reading, decode, json_copy, key, write_tar

SIZE = 40


class Rows:
    """A map-style dataset, of which some elements cannot be used."""

    def __init__(self, name: str, bad: Sequence[int] = ()) -> None:
        self.name, self.bad = name, frozenset(bad)

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            if index % 2:
                raise OSError(f"{index} cannot be read")
            return [index]  # no mapping
        return {"key": f"{self.name}{index}"}


class Several(Rows):
    """One that gives several at once."""

    asked = 0

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        type(self).asked += 1
        return [self[index] for index in indices]


class OneByOne:
    """A source whose readers are asked for every sample by itself."""

    def __init__(self, source: Source) -> None:
        self.source, self.fingerprint, self.has_epochs = source, source.fingerprint, True
        self.one_state = getattr(source, "one_state", False)
        self.deletions = getattr(source, "deletions", None)

    def open(self, *given: Any) -> Any:
        return _OneByOneReader(self.source.open(*given))


class _OneByOneReader:
    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        if name == "poll_many":
            raise AttributeError(name)
        return getattr(self._reader, name)


def used(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Decodes all but a few."""
    sample = decode(members)
    if sample["key"].endswith(("3-00", "4-00")):
        raise ValueError("no good")
    return sample


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    for shard, (first, end) in enumerate([(0, 7), (7, 8), (8, SIZE)]):
        write_tar(folder / f"{shard}.tar", [key(100 * number) for number in range(first, end)])
    return folder


def mixture(tars: Path, log: MemoryLog, at_once: bool, bad: Sequence[int] = (3, 4, 5, 20)) -> InteractiveMixture:
    sources: dict[str, Source] = {
        "rows": MapSource(Rows("r", bad)),
        "several": MapSource(Several("s", bad), shuffle=False),
        "shards": ShardSource(tars, used),
        "deletable": ShardSource(tars, decode, deletions=Deletions(log)),
    }
    made = sources if at_once else {name: OneByOne(source) for name, source in sources.items()}
    return make_interactive_dataset(made, dict(zip(made, (4, 3, 2, 1), strict=True)), seed=3)


def test_these_sources_give_runs(tars: Path) -> None:
    for source in (MapSource(Rows("r")), ShardSource(tars, decode)):
        reader = source.open(Share(), {})
        assert isinstance(reader, BatchReader)
        run = reader.poll_many(8)
        assert isinstance(run, Run)
        assert len(run) == 8
        again = source.open(Share(), {})
        assert run.items() == [again.poll() for _ in range(8)]
        assert not isinstance(OneByOne(source).open(Share(), {}), BatchReader)


def told(ranks: Sequence[InteractiveMixture], size: int) -> list[Any]:
    """What a step of one batch on each rank read, and its receipts without the number of the stream."""
    steps = []
    for data in ranks:
        items, receipt = data.take(size) or ([], None)
        assert receipt is not None
        assert [item.key for item in items] == list(receipt.keys)
        assert {receipt.version} == {data.weights.version}
        data.complete([receipt])
        steps.append(
            (
                [item.sample for item in items],
                [(item.key, item.span, item.size) for item in items],
                receipt.keys,
                receipt.sources,
                receipt.spans,
                receipt.sizes,
                receipt.redraws,
                receipt.version,
            )
        )
    return steps


names = st.sampled_from(["rows", "several", "shards", "deletable"])
moves = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 70)),
        st.tuples(st.just("give up"), st.integers(1, 30)),
        st.tuples(st.just("weigh"), names, st.integers(0, 5)),
        st.tuples(st.just("limit"), names, st.none() | st.just(9)),
        st.tuples(st.just("delete"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("resume"), st.integers(1, 3)),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves)
def test_whole_runs_are_row_by_row_what_is_read_one_by_one(tars: Path, moves: list[tuple[Any, ...]]) -> None:
    log = MemoryLog(1)
    pair = [[mixture(tars, log, at_once)] for at_once in (True, False)]
    for move in moves:
        if move[0] == "take":
            at_once, one_by_one = (told(ranks, move[1]) for ranks in pair)
            assert at_once == one_by_one
            continue
        if move[0] == "delete":
            log.delete(key(100 * move[1]).partition("/")[0])
            for data in (data for ranks in pair for data in ranks):
                _looks_again(data)
        for number, ranks in enumerate(pair):
            if move[0] == "resume":
                state = json_copy(merge_states([data.state_dict() for data in ranks]))
                pair[number] = [
                    _resumed(mixture(tars, log, number == 0), state, rank, move[1]) for rank in range(move[1])
                ]
            for data in ranks:
                if move[0] == "give up":
                    data.take(move[1])
                    data.rewind()
                elif move[0] == "weigh":
                    others = dict.fromkeys(data.sources, 1)
                    data.set_weights({**others, move[1]: move[2]})
                elif move[0] == "limit":
                    data.set_interactive_parameters({"epochs": {move[1]: move[2]}})
    assert [data.consumed for data in pair[0]] == [data.consumed for data in pair[1]]


def _resumed(data: InteractiveMixture, state: Any, rank: int, world: int) -> InteractiveMixture:
    data.load_state_dict(state)
    data.set_layout(rank, world)
    return data


def _looks_again(data: InteractiveMixture) -> None:
    """Learn of deletions now, not within 50 ms, so that both see them at the same sample."""
    readers = data._reading.readers
    for view in () if readers is None else (*readers._deleted, *_views(readers)):
        view._next_look = 0.0


def _views(readers: Any) -> list[Any]:
    finishers = (reader._finisher for reader in readers._readers.values())
    return [finisher._deleted for finisher in finishers if finisher._deleted is not None]


def test_a_change_between_two_batches_holds_for_all_of_the_next_and_positions_are_exact(tars: Path) -> None:
    """Runs are read for one batch and no further: what is not in a batch is not read, and not consumed."""
    data = mixture(tars, MemoryLog(1), at_once=True, bad=())
    given = dict.fromkeys(data.sources, 0)
    for number, size in enumerate([37, 1, 64, 128, 5]):
        only = list(data.sources)[number % 4]
        data.set_weights({name: int(name == only) for name in data.sources})
        samples, receipt = data.take_samples(size) or ([], None)
        assert receipt is not None
        assert (set(receipt.sources), receipt.version, len(samples)) == ({only}, number + 1, size)
        assert data._reading.readers.stats()[only].polled - given[only] == size  # type: ignore[union-attr]
        data.complete([receipt])
        given[only] += size
        if only != "shards":  # of which some are skipped
            epoch, place = data.consumed.watermark()[only]["0/1"]
            assert epoch * SIZE + place == given[only]


def test_one_dataset_that_gives_several_at_once_is_asked_so() -> None:
    before = Several.asked
    data = make_interactive_dataset({"several": Several("s")})
    data.take_samples(16)
    assert Several.asked == before + 1


@pytest.mark.parametrize("source", [MapSource(Rows("r", range(SIZE)), bad_limit=7), None])
def test_too_many_in_a_row_that_cannot_be_used_end_reading(source: Source | None, tars: Path) -> None:
    reader: Any = (source or ShardSource(tars, no_good, bad_limit=7)).open(Share(), {})
    with pytest.raises(BadSamples, match="8 samples in a row could not be decoded"):
        reader.poll_many(30)


def no_good(members: Mapping[str, bytes]) -> dict[str, Any]:
    raise ValueError("no good")


def test_where_all_were_deleted_it_counts_as_dry_and_does_not_block() -> None:
    log = MemoryLog(1)
    with tempfile.TemporaryDirectory() as folder:
        write_tar(Path(folder) / "0.tar", [key(number) for number in range(5)])
        log.delete(key(0).partition("/")[0])
        reader = ShardSource(folder, decode, deletions=Deletions(log)).open(Share(), {})
        assert len(reader.poll_many(3)) == 0
        reader.close()


def test_a_shard_that_was_replaced_ends_reading_and_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [key(number) for number in range(8)])
    reading = Reading(ShardSource(tmp_path, decode))
    assert len(reading.read(3)) == 3
    write_tar(path, [key(number) for number in range(8)])
    with pytest.raises(SourceError, match=r"a\.tar: it was changed or replaced while it is read"):
        reading.reader.poll_many(3)  # type: ignore[attr-defined]
