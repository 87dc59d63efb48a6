"""Sources that are added and taken out: the others go on where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataset import (
    InteractiveMixture,
    IterableSource,
    LiveSource,
    MapSource,
    ParameterError,
    Source,
    SourceError,
    make_interactive_dataset,
    register_source,
)
from tests.dataset import libraries
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, step, write_tar


def two_sources() -> InteractiveMixture:
    lists = {name: [{"key": key(first + number)} for number in range(40)] for name, first in (("a", 0), ("b", 100))}
    return make_interactive_dataset(lists, {"a": 1, "b": 1}, decode=either)


def either(element: Any) -> Any:
    return decode(element) if "json" in element else element


def numbers(first: int, count: int = 20, epochs: int | None = None) -> Source:
    """A kind of source, as an app registers it."""
    if first < 0:
        raise ValueError(f"first is {first}, but it is at least 0")
    return IterableSource(libraries.SplitsItself(first + count), decode=Above(first), epochs=epochs, parts=2)


class Above:
    """A decode function that can be sent to workers."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, row: Any) -> Any:
        return {**row, "key": key(5000 + self.first)}


def three() -> int:
    return 3


register_source("numbers", numbers)
register_source("nothing", three)
register_source("hf-table", libraries.hf_map)


def gone_on(data: InteractiveMixture, **sources: Any) -> InteractiveMixture:
    """The same with other sources, where it stands; as a trainer does it."""
    state = json_copy(data.state_dict())
    anew = data.reconstructed(sources=sources)
    anew.load_state_dict(state)
    return anew


def test_a_source_is_added_with_its_weight_and_the_others_go_on(tmp_path: Path) -> None:
    write_tar(tmp_path / "more" / "a.tar", [key(1000 + number) for number in range(20)])
    data = two_sources()
    read = step(data, 30)
    data.set_weights({"b": 0})
    data = gone_on(data, more={"path": str(tmp_path / "more"), "weight": 3})
    assert data.weights.by_source == {"a": 1, "b": 0, "more": 3}
    after = step(data, 24)
    assert sum(each >= key(1000) for each in after) > 8
    live = [each for each in read + after if each < key(100)]
    assert len(live) == len(set(live))
    assert data.construction["sources"]["more"] == {"path": str(tmp_path / "more"), "weight": 3.0}


def test_a_source_of_a_registered_kind_is_added_and_goes_on_in_another_process() -> None:
    data = two_sources()
    step(data, 20)
    one = {"kind": "numbers", "arguments": {"first": 7}, "weight": 2}
    table = {"kind": "hf-table", "arguments": {"size": 9}, "weight": 1}
    data = gone_on(data, one=one, table=table)
    assert key(5007) in step(data, 24)
    assert type(data.sources["table"]) is MapSource  # what a factory gives is read as if it had been handed over
    saved = json_copy({"construction": data.construction, "state": data.state_dict()})
    assert saved["construction"]["sources"]["one"] == one
    other = two_sources().reconstructed(**saved["construction"])
    other.load_state_dict(saved["state"])
    assert step(other, 20) == step(data, 20)
    without = gone_on(other, one=None)
    assert set(without.sources) == {"a", "b", "table"}
    with pytest.raises(
        ParameterError, match=r'source "one" is numbers\(first=7\) and cannot become numbers\(first=8\)'
    ):
        without.reconstructed(sources={"one": {"kind": "numbers", "arguments": {"first": 8}}})


def test_a_kind_has_one_factory() -> None:
    register_source("numbers", numbers)
    with pytest.raises(ValueError, match=r"'numbers' is taken by tests\.dataset\.test_remake\.numbers"):
        register_source("numbers", three)


def test_a_source_without_a_weight_waits_for_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "more.tar", [key(1000)])
    data = gone_on(two_sources(), more=str(tmp_path / "more.tar"))
    assert data.weights.by_source["more"] == 0
    data.set_weights({"a": 0, "b": 0, "more": 1})
    assert step(data, 2) == [key(1000)] * 2


def test_a_source_is_taken_out_and_begins_anew_when_it_comes_again() -> None:
    data = two_sources()
    step(data, 20)
    without = gone_on(data, b=None)
    assert set(without.sources) == {"a"}
    assert max(step(without, 12)) < key(100)
    assert without.construction["sources"] == {"a": {"is": "map:list[40]"}, "b": None}
    again = gone_on(without, b=data.construction["sources"]["b"])
    assert set(again.sources) == {"a", "b"}
    assert "b" not in again.consumed.sources


def test_another_process_makes_it_of_what_a_checkpoint_says(tmp_path: Path) -> None:
    write_tar(tmp_path / "more.tar", [key(1000)])
    data = gone_on(two_sources(), more=str(tmp_path / "more.tar"), a=None)
    step(data, 10)
    saved = json_copy({"construction": data.construction, "state": data.state_dict()})
    other = two_sources().reconstructed(**saved["construction"])
    other.load_state_dict(saved["state"])
    assert other.construction == data.construction
    assert step(other, 8) == step(data, 8)


def test_an_older_checkpoint_has_its_own_sources_and_a_newer_one_brings_those_back(tmp_path: Path) -> None:
    write_tar(tmp_path / "more.tar", [key(1000 + number) for number in range(40)])
    data = two_sources()
    step(data, 10)
    older = json_copy({"construction": data.construction, "state": data.state_dict()})
    data = gone_on(data, more={"path": str(tmp_path / "more.tar"), "weight": 3}, b=None)
    step(data, 10)
    newer = json_copy({"construction": data.construction, "state": data.state_dict()})
    rest = step(data, 10)

    def loaded(data: InteractiveMixture, saved: Any) -> InteractiveMixture:
        anew = data.constructed(saved["construction"])
        anew.load_state_dict(saved["state"])
        return anew

    again = loaded(data, older)
    assert set(again.sources) == {"a", "b"}
    assert again.weights.by_source == {"a": 1, "b": 1}
    assert again.construction == older["construction"] | {"sources": {**older["construction"]["sources"], "more": None}}
    forth = loaded(again, newer)
    assert (set(forth.sources), forth.construction) == ({"a", "more"}, newer["construction"])
    assert step(forth, 10) == rest


def test_a_source_that_a_program_was_given_since_stays() -> None:
    """What is added in code is newer than any checkpoint; only what was added while training ran is taken out."""
    older = json_copy({"construction": two_sources().construction, "state": two_sources().state_dict()})
    lists = {name: [{"key": key(number)} for number in range(40)] for name in ("a", "b", "c")}
    data = make_interactive_dataset(lists, {"a": 1, "b": 1, "c": 2}, decode=either).constructed(older["construction"])
    data.load_state_dict(older["state"])
    assert data.weights.by_source == {"a": 1, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ({"more": "/nowhere"}, 'source "more": there is nothing at /nowhere; give a path to shards'),
        ({"more": 3}, 'source "more": 3 is no description of one .* give it as a path to shards'),
        ({"more": {"path": "x", "wait": 1}}, "Object contains unknown field `wait`"),
        ({"more": {"weight": 1}}, "names not one of a path and a kind; give it as a path to shards"),
        ({"more": {"path": "x", "kind": "numbers"}}, "names not one of a path and a kind"),
        ({"more": {"path": "x", "arguments": {"count": 1}}}, "names not one of a path and a kind"),
        ({"more": {"kind": "numbers", "weight": -1}}, "its weight is -1.0, but a weight is at least 0 and finite"),
        (
            {"more": {"kind": "number"}},
            "the kind 'number' is not registered .did you mean 'numbers'.; call register_source",
        ),
        ({"more": {"kind": "numbers"}}, "missing a required argument: 'first'; its arguments are first, count, epochs"),
        (
            {"more": {"kind": "numbers", "arguments": {"first": 1, "size": 2}}},
            "got an unexpected keyword argument 'size'; its arguments are",
        ),
        (
            {"more": {"kind": "numbers", "arguments": {"first": "one"}}},
            "\"first\" is 'one' .Expected `int`, got `str`",
        ),
        (
            {"more": {"kind": "numbers", "arguments": {"first": -1}}},
            "source \"more\" cannot be made of 'numbers' with {'first': -1} .ValueError: first is -1, but it is at least 0",
        ),
        ({"more": {"kind": "nothing"}}, "cannot be made of 'nothing' .* is a int, which cannot be read"),
        ({"more": {"kind": "numbers", "arguments": {"first": object()}}}, "is no description of one"),
        ({"a": "/data"}, r'source "a" is map:list\[40\] and cannot become /data; give it another name'),
        ({"a": None, "b": None}, "sources: none is left"),
        ([], r"sources: \[\] changes none"),
    ],
)
def test_what_cannot_be_is_refused(sources: Any, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        two_sources().reconstructed(sources=sources)


def test_what_a_history_follows_cannot_be_taken_out(tmp_path: Path) -> None:
    log = MemoryLog(1)
    sources = {"live": LiveSource(log), "history": archive_of(log, tmp_path)}
    data = make_interactive_dataset(sources)
    with pytest.raises(SourceError, match='source "history" follows "live", which is not among the sources'):
        data.reconstructed(sources={"live": None})
    with pytest.raises(ParameterError, match="a mixture is made anew with other sources"):
        data.reconstructed(weights={"live": 1})
