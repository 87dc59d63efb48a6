"""A source of one's own in two methods: it grows, each partition is read by one share, and mistakes are named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataset import (
    BadSamples,
    InteractiveMixture,
    Share,
    StateError,
    StreamSource,
    make_interactive_dataset,
    merge_states,
)
from tests.dataset.streams import json_copy, key, step
from tests.dataset.test_sources import Lines
from tests.waiting import until


def write(folder: Path, name: str, first: int, count: int) -> None:
    with (folder / f"{name}.jsonl").open("a") as file:
        file.writelines(json.dumps({"key": key(number)}) + "\n" for number in range(first, first + count))


def everything(data: InteractiveMixture) -> list[str]:
    """What is there now, one by one."""
    read: list[str] = []
    while found := step(data, 1):
        read += found
    return read


def test_what_is_added_to_a_partition_and_new_partitions_are_read(tmp_path: Path) -> None:
    write(tmp_path, "a", 0, 3)
    data = make_interactive_dataset({"lines": Lines(tmp_path)})
    assert everything(data) == [key(number) for number in range(3)]
    write(tmp_path, "a", 3, 1)
    write(tmp_path, "b", 4, 2)
    read: list[str] = []
    until(lambda: read.extend(everything(data)) or len(read) == 3)
    assert sorted(read) == [key(number) for number in (3, 4, 5)]


def test_ranks_read_different_partitions_and_another_number_of_them_goes_on(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path, f"part-{number}", 10 * number, 10)
    read: list[str] = []
    state = None
    for world in (1, 3, 2, 1):
        ranks = [make_interactive_dataset({"lines": Lines(tmp_path)}) for _ in range(world)]
        for rank, data in enumerate(ranks):
            if state is not None:
                data.load_state_dict(state)
            data.set_layout(rank, world)
            read += step(data, 7) if len(read) < 40 else everything(data)
        state = json_copy(merge_states([data.state_dict() for data in ranks]))
    assert sorted(read) == [key(number) for number in range(90)]


def test_one_that_does_not_grow_ends(tmp_path: Path) -> None:
    class Fixed(Lines):
        grows = False

    write(tmp_path, "a", 0, 5)
    assert sum(1 for _ in make_interactive_dataset({"lines": Fixed(tmp_path)})) == 5
    (tmp_path / "none").mkdir()
    assert list(make_interactive_dataset({"lines": Fixed(tmp_path / "none")})) == []


def test_another_configuration_is_another_source(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    state = make_interactive_dataset({"lines": Lines(tmp_path)}).state_dict()
    with pytest.raises(StateError, match=r'source "lines" is Lines\(folder=.*other\), but the state was made'):
        make_interactive_dataset({"lines": Lines(tmp_path / "other")}).load_state_dict(state)


@dataclass(frozen=True)
class Wrong(StreamSource):
    step: int = 1
    bad_limit = 2

    def partitions(self) -> list[str]:
        return ["only"]

    def read(self, partition: str, position: int) -> Iterator[tuple[Any, int]]:
        for number in range(position, 100):
            yield {"number": number}, number + self.step

    def decode(self, raw: Any) -> Any:
        if raw["number"] >= 3:
            raise ValueError("no good")
        return raw


def test_mistakes_are_named() -> None:
    with pytest.raises(BadSamples, match=r"Wrong\(step=1\): 3 samples in a row could not be decoded, .* only:5"):
        make_interactive_dataset({"a": Wrong()}).take(5)
    with pytest.raises(ValueError, match=r"Wrong\(step=0\): only gave position 0 after 0, but positions grow"):
        Wrong(step=0).open(Share(), {}).poll()
    with pytest.raises(NotImplementedError, match="StreamSource has to say what `partitions` it has"):
        StreamSource().open(Share(), {}).poll()
