"""The paper's form: `make_interactive_dataset` around a dataset class."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset, IterableDataset

from dataset import ParameterError, SourceError, make_interactive_dataset


class Mixed(Dataset[str]):
    """As in the paper's example: it mixes by probabilities that are changed while it runs."""

    def __init__(self, data_source: list[str], num_samples: int, tokenizer: object = None, temperature: float = 1.0):
        self.data_source = data_source
        self.num_samples = num_samples
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.sampling_probabilities = [1.0 / len(data_source)] * len(data_source)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> str:
        return random.choices(self.data_source, self.sampling_probabilities)[0]


class Stream(IterableDataset[int]):
    def __init__(self, start: int) -> None:
        self.start = start
        self.stride = 1

    def __iter__(self):
        value = self.start
        while True:
            yield value
            value += self.stride


def mixed(**arguments):
    interactive = make_interactive_dataset(Mixed)
    names = ["sampling_probabilities", "temperature"]
    given = {"data_source": ["gsm8k", "alpaca"], "num_samples": 64, "interactive_parameter_names": names}
    return interactive(**{**given, **arguments})


def test_it_is_a_subclass_that_reads_as_the_class_does() -> None:
    data = mixed()
    assert isinstance(data, Mixed)
    assert type(data).__name__ == "InteractiveMixed"
    assert len(data) == 64
    assert {data[number] for number in range(64)} == {"gsm8k", "alpaca"}


def test_a_changed_parameter_holds_for_the_next_sample() -> None:
    data = mixed()
    batches = iter(DataLoader(data, batch_size=8))
    next(batches)
    before = data.set_interactive_parameters({"sampling_probabilities": [0, 1]})
    assert before == {"sampling_probabilities": [0.5, 0.5]}
    assert set(next(batches)) == {"alpaca"}
    assert data.interactive_parameters() == {"sampling_probabilities": [0.0, 1.0], "temperature": 1.0}


def test_an_iterable_class_obeys_too() -> None:
    data = make_interactive_dataset(Stream)(start=0, interactive_parameter_names=["stride"])
    values = iter(data)
    assert [next(values), next(values)] == [0, 1]
    data.set_interactive_parameters({"stride": 10})
    assert [next(values), next(values)] == [11, 21]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sampling_probabilities": "0.5"}, r"\"sampling_probabilities\" is '0.5', a str, but it is a list"),
        ({"sampling_probabilities": [0.5, "x"]}, r"\"sampling_probabilities\[1\]\" is 'x', a str, but it is a float"),
        ({"temperature": None}, r"\"temperature\" is None, a NoneType, but it is a float \(now 1.0\)"),
        ({"temperature": True}, r"\"temperature\" is True, a bool"),
        ({"num_samples": 3}, '"num_samples" is no interactive parameter of InteractiveMixed; these are: sampling_'),
    ],
)
def test_wrong_types_and_names_are_refused_and_nothing_changes(values, told: str) -> None:
    data = mixed()
    with pytest.raises(ParameterError, match=told):
        data.set_interactive_parameters({"temperature": 2.0, **values})
    assert data.interactive_parameters() == {"sampling_probabilities": [0.5, 0.5], "temperature": 1.0}


def test_a_name_that_is_no_attribute_is_refused_when_it_is_made() -> None:
    with pytest.raises(
        ParameterError, match='"ratio" is to be interactive, but InteractiveMixed has no such attribute'
    ):
        mixed(interactive_parameter_names=["ratio"])


def test_the_names_may_stand_in_the_class() -> None:
    class Named(Mixed):
        interactive_parameter_names = ("temperature",)

    data = make_interactive_dataset(Named)(["a"], 3)
    assert data.interactive_parameters() == {"temperature": 1.0}


def test_it_can_be_made_anew_with_other_arguments_of_its_constructor() -> None:
    tokenizer = object()
    data = mixed(tokenizer=tokenizer)
    data.set_interactive_parameters({"temperature": 0.5})
    assert data.construction == {"data_source": ["gsm8k", "alpaca"], "num_samples": 64, "temperature": 1.0}
    anew = data.reconstructed(data_source=["code"], num_samples=5)
    assert (anew.data_source, len(anew), anew.tokenizer) == (["code"], 5, tokenizer)
    assert anew.interactive_parameters()["temperature"] == 0.5
    assert anew.construction["num_samples"] == 5
    assert len(data) == 64


def test_positional_arguments_are_known_by_their_names() -> None:
    data = make_interactive_dataset(Mixed)(["a", "b"], 7, interactive_parameter_names=["temperature"])
    assert data.construction["num_samples"] == 7
    assert len(data.reconstructed(num_samples=9)) == 9


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_samples": "many"}, "\"num_samples\" is 'many', a str, but it is a int"),
        ({"shuffle": True}, '"shuffle" is no argument that InteractiveMixed can be made anew with'),
        ({"tokenizer": object()}, '"tokenizer" is no argument that InteractiveMixed can be made anew with'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        mixed(tokenizer=object()).reconstructed(**changes)


class Counting(Dataset[int]):
    """Gives its parameter; can be pickled."""

    def __init__(self, count: int, value: int = 0) -> None:
        self.count, self.value = count, value

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return self.value


class CountingOn(IterableDataset[int]):
    """The same, as an iterable."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def __iter__(self) -> Iterator[int]:
        while True:
            yield self.value


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("made_of", [Counting, CountingOn])
def test_a_changed_parameter_reaches_workers_persistent_or_not(made_of: Any, persistent: bool) -> None:
    arguments = {"count": 400} if made_of is Counting else {}
    data: Any = make_interactive_dataset(made_of)(**arguments, interactive_parameter_names=["value"])
    loader = DataLoader(data, batch_size=4, num_workers=2, prefetch_factor=2, persistent_workers=persistent)
    for value in (1, 2):  # the second time with workers that are there, if they are persistent
        batches = iter(loader)
        next(batches)
        data.set_interactive_parameters({"value": value})
        read = [set(next(batches).tolist()) for _ in range(4 + 6)]
        assert read[4:] == [{value}] * 6
    data.set_interactive_parameters({"value": 3})
    assert set(next(iter(loader)).tolist()) == {3}


def test_an_interactive_dataset_can_be_pickled_and_copied() -> None:
    data: Any = make_interactive_dataset(Counting)(5, interactive_parameter_names=["value"])
    data.set_interactive_parameters({"value": 7})
    for twin in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert type(twin) is type(data)
        assert (len(twin), twin[0], twin.interactive_parameters()) == (5, 7, {"value": 7})
        twin.set_interactive_parameters({"value": 1})
    assert data[0] == 7


def test_what_is_no_dataset_class_is_refused() -> None:
    with pytest.raises(SourceError, match="list is no torch Dataset"):
        make_interactive_dataset(list)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="weights, decode and workers go with named sources"):
        make_interactive_dataset(Mixed, weights={"a": 1})  # type: ignore[call-overload]
