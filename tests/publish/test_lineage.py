"""Where versions come from."""

from __future__ import annotations

import pytest

from publish import Ancestor, SigningKey, TrustedKeys, Untrusted, VersionMissing, put
from publish.lineage import Stretch, lineage, trained_on
from tests.publish.conftest import Kitchen
from tests.publish.parts import ticket, weights_of


def publish(kitchen: Kitchen, step: int, reached: dict[str, tuple[int, int]], **said: object) -> None:
    put(kitchen.outbox, weights_of(step), ticket(step, watermark={"live": reached}, **said))
    assert kitchen.publisher.step() == 0.0


@pytest.fixture
def keys(kitchen: Kitchen) -> TrustedKeys:
    publish(kitchen, 10, {"samples/0": (5, 0)})
    publish(kitchen, 20, {"samples/0": (9, 2), "samples/1": (1, 0)})
    publish(kitchen, 30, {"samples/0": (12, 0), "samples/1": (1, 0)})
    publish(kitchen, 25, {"samples/0": (10, 0), "samples/1": (4, 0)}, segment="seg2", ancestors=(Ancestor("seg1", 22),))
    return TrustedKeys([kitchen.key.public])


def test_a_version_tells_its_parents_and_what_each_added(kitchen: Kitchen, keys: TrustedKeys) -> None:
    found = list(lineage(kitchen.hub, 4, keys))
    assert [link.manifest.version for link in found] == [4, 2, 1], "version 3 is on another branch"
    assert found[0].stretches == (
        Stretch("live", "samples/0", (9, 2), (10, 0)),
        Stretch("live", "samples/1", (1, 0), (4, 0)),
    )
    assert found[2].stretches == (Stretch("live", "samples/0", (0, 0), (5, 0)),)


def test_what_one_version_was_trained_on_and_another_was_not(kitchen: Kitchen, keys: TrustedKeys) -> None:
    asked = [trained_on(kitchen.hub, version, "live", "samples/0", (9, 2), keys) for version in (1, 2, 3, 4)]
    assert asked == [False, False, True, True]
    assert not trained_on(kitchen.hub, 1, "base", "samples/0", (0, 0), keys)


def test_a_retired_version_still_has_its_lineage(kitchen: Kitchen, keys: TrustedKeys) -> None:
    kitchen.publisher.promote_version("stable", 4, by="ada")
    for step in range(40, 47):
        publish(kitchen, step, {"samples/0": (step, 0)})
    assert 1 not in kitchen.hub.versions()
    assert [link.manifest.version for link in lineage(kitchen.hub, 4, keys)] == [4, 2, 1]


def test_a_lineage_is_believed_only_with_the_publisher_s_signature(kitchen: Kitchen, keys: TrustedKeys) -> None:
    with pytest.raises(Untrusted):
        list(lineage(kitchen.hub, 4, TrustedKeys([SigningKey(bytes(range(32))).public])))
    with pytest.raises(VersionMissing):
        list(lineage(kitchen.hub, 9, keys))
