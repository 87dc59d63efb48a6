"""Sources that are added and taken out: the others go on where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataset import InteractiveMixture, LiveSource, ParameterError, SourceError, make_interactive_dataset
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, step, write_tar


def two_sources() -> InteractiveMixture:
    lists = {name: [{"key": key(first + number)} for number in range(40)] for name, first in (("a", 0), ("b", 100))}
    return make_interactive_dataset(lists, {"a": 1, "b": 1}, decode=either)


def either(element: Any) -> Any:
    return decode(element) if "json" in element else element


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


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ({"more": "/nowhere"}, 'source "more": there is nothing at /nowhere; give a path to shards'),
        ({"more": 3}, 'source "more": 3 is neither a path to shards nor a path with a weight'),
        ({"more": {"path": "x", "wait": 1}}, "neither a path to shards nor a path with a weight"),
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
