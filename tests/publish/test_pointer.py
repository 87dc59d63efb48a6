"""The order of a channel's moves, as a reader that may have slept sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publish import Replayed
from publish.errors import Unreadable
from publish.pointer import HISTORY, Pointer, decode_pointer, unset


def walk(versions: list[int]) -> list[Pointer]:
    """The pointers of a channel that goes to these versions one after the other."""
    pointers = [unset("stable")]
    for version in versions:
        pointers.append(pointers[-1].moved(version, f"m{version}", held=False, at=0.0, by="test", reason=""))
    return pointers[1:]


moves = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(moves, st.data())
def test_a_reader_may_sleep_through_any_moves_and_still_obeys_the_next(
    versions: list[int], data: st.DataObject
) -> None:
    generation = version = 0
    for pointer in walk(versions):
        if data.draw(st.booleans()):
            pointer.check_order(generation, version)
            generation, version = pointer.generation, pointer.version


@given(moves, st.data())
def test_a_pointer_shown_again_is_refused(versions: list[int], data: st.DataObject) -> None:
    pointers = walk(versions)
    seen = data.draw(st.integers(0, len(pointers) - 1))
    for older in pointers[:seen]:
        with pytest.raises(Replayed):
            older.check_order(pointers[seen].generation, pointers[seen].version)


def test_an_older_version_under_a_newer_generation_needs_a_rollback() -> None:
    first, second = walk([1, 2])
    fake = Pointer(format=1, channel="stable", generation=3, version=1, manifest_sha256="m1")
    with pytest.raises(Replayed, match="nobody rolled"):
        fake.check_order(second.generation, second.version)
    second.moved(1, "m1", held=True, at=0.0, by="me", reason="").check_order(second.generation, second.version)
    assert first.generation == 1


def test_one_generation_names_one_version() -> None:
    (only,) = walk([4])
    with pytest.raises(Replayed, match="was seen with version 000005"):
        only.check_order(1, 5)


@given(moves)
def test_history_holds_what_a_rollback_may_go_to(versions: list[int]) -> None:
    for pointer in walk(versions):
        assert len(pointer.history) <= HISTORY
        assert all(number < pointer.version for number in pointer.history)
        assert list(pointer.history) == sorted(pointer.history)
        assert pointer.previous == (pointer.history[-1] if pointer.history else None)


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (b"\xff", "the hub: not a channel pointer .*; promote a version"),
        (b"null", "the hub: not a channel pointer"),
        (b'{"format":9,"channel":"stable","generation":1,"version":1,"manifest_sha256":""}', "only 1 is known here"),
    ],
)
def test_what_no_hub_of_this_format_tells_is_refused_by_name(stored: bytes, told: str) -> None:
    with pytest.raises(Unreadable, match=told):
        decode_pointer(stored, "the hub", "promote a version")
