"""Which versions have trained on given samples."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.positions import Consumed, Span
from publish import Manifest, SigningKey, TrustedKeys, VersionMissing, put
from publish.trained import Asked, Trained, versions_trained_on
from tests.publish.conftest import Kitchen
from tests.publish.parts import ticket, weights_of

KEY = SigningKey(bytes(range(32)))
TRUSTED = TrustedKeys([KEY.public])


class Hub:
    """Manifests in memory."""

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.read: list[int] = []

    def add(self, consumed: Consumed, parent: int | None = None, key: SigningKey = KEY) -> None:
        number = len(self.stored) + 1
        made = Manifest(1, number, 0.0, "run", "main", "seg1", number, True, parent, {}, consumed=consumed.dump())
        self.stored[number] = key.sign(made).encode()

    def numbers(self) -> list[int]:
        return sorted(self.stored)

    def manifest(self, version: int) -> bytes:
        self.read.append(version)
        try:
            return self.stored[version]
        except KeyError:
            raise VersionMissing(str(version)) from None


def consumed(*spans: tuple[str, str, int, int]) -> Consumed:
    made = Consumed()
    for source, partition, start, end in spans:
        made.add(source, Span(partition, (start, 0), (end, 0)))
    return made


def test_a_version_its_children_and_nobody_else_has_trained_on_a_sample() -> None:
    hub = Hub()
    hub.add(consumed(("live", "0", 0, 5)))
    hub.add(consumed(("live", "0", 0, 9), ("live", "1", 0, 3)), parent=1)
    hub.add(consumed(("live", "1", 0, 9)), parent=1)  # went back to 1, and read on elsewhere
    hub.add(consumed(), parent=2)  # says nothing itself, and descends from one that did
    found = versions_trained_on(hub, TRUSTED, {"0": [(6, 0), (7, 2)]})
    assert [(one.version, one.certain, one.possible) for one in found.versions] == [(2, 2, 0), (4, 2, 0)]
    assert [one.version for one in versions_trained_on(hub, TRUSTED, {"0": [(4, 3)]}).versions] == [1, 2, 3, 4]
    assert versions_trained_on(hub, TRUSTED, {"0": [(9, 0)], "2": [(0, 0)]}).versions == ()


def test_what_live_jumped_over_may_have_come_through_history() -> None:
    hub = Hub()
    gap = [("live", "0", 0, 3), ("live", "0", 7, 9)]
    hub.add(consumed(*gap))
    hub.add(consumed(*gap, ("history", "0/1", 0, 40)), parent=1)
    found = versions_trained_on(hub, TRUSTED, {"0": [(1, 0), (5, 0), (20, 0)]})
    assert found.versions == (Trained(1, "run", "seg1", 1, 1), Trained(2, "run", "seg1", 2, 1, 1))


def test_nothing_is_said_of_what_no_trusted_key_signed_or_nobody_can_read() -> None:
    hub = Hub()
    hub.add(consumed(("live", "0", 0, 9)))
    hub.add(consumed(("live", "0", 0, 9)), key=SigningKey(bytes(32)))
    hub.stored[3] = b"{"
    found = versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]})
    assert [one.version for one in found.versions] == [1]
    assert found.unknown == (2, 3)


def test_manifests_are_read_once_and_again_when_a_version_is_added_also_one_that_descends() -> None:
    hub, asked = Hub(), Asked()
    hub.add(consumed(("live", "0", 0, 5)))
    for _ in range(3):
        found = asked.versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]})
        assert [one.version for one in found.versions] == [1]
    assert hub.read == [1]
    hub.add(consumed(("live", "0", 0, 9)), parent=1)
    for _ in range(3):
        found = asked.versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]})
        assert [one.version for one in found.versions] == [1, 2], "a certificate of later names it too"
    assert hub.read == [1, 1, 2]
    assert asked.versions_trained_on(hub, TRUSTED, {"0": [(9, 0)]}).versions == (), "another question"
    stranger = TrustedKeys([SigningKey(bytes(32)).public])
    assert asked.versions_trained_on(hub, stranger, {"0": [(1, 0)]}).unknown == (1, 2), "asked by another"


def test_what_could_not_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, asked = Hub(), Asked()
    hub.add(consumed(("live", "0", 0, 5)))
    whole, hub.stored[1] = hub.stored[1], b"{"
    assert asked.versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]}).unknown == (1,)
    hub.stored[1] = whole
    assert asked.versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]}).unknown == (1,), "not at once"
    monkeypatch.setattr("publish.trained.DOUBTED", 0.0)
    assert [one.version for one in asked.versions_trained_on(hub, TRUSTED, {"0": [(1, 0)]}).versions] == [1]


@settings(max_examples=50)
@given(
    spans=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=8),
    points=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=8, unique=True),
)
def test_it_agrees_with_what_training_calls_consumed(
    spans: list[tuple[int, int]], points: list[tuple[int, int]]
) -> None:
    made = consumed(*(("live", "0", start, start + size) for start, size in spans))
    hub = Hub()
    hub.add(made)
    covered = sum(made.partition("live", "0").touches(point, (point[0], point[1] + 1)) for point in points)
    found = versions_trained_on(hub, TRUSTED, {"0": points}).versions
    assert sum(one.certain for one in found) == covered


def test_retired_versions_are_listed_too(kitchen: Kitchen) -> None:
    dumped = consumed(("live", "0", 0, 5)).dump()
    for step in range(1, 7):
        put(kitchen.outbox, weights_of(step), ticket(step, consumed=dumped))
        kitchen.publisher.step()
    assert 1 not in kitchen.hub.versions()
    found = versions_trained_on(kitchen.hub, TrustedKeys([kitchen.key.public]), {"0": [(4, 0)]})
    assert [one.version for one in found.versions] == [1, 2, 3, 4, 5, 6]
