"""From the outbox to the hub: every fault on the way, and what operators do to channels."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from publish import (
    Ancestor,
    Coalesced,
    DirectoryHub,
    Failed,
    Moved,
    Outbox,
    OutboxLocked,
    Published,
    Publisher,
    Retired,
    SigningKey,
    Untrusted,
    VersionMissing,
    put,
)
from tests.publish.conftest import Kitchen
from tests.publish.parts import litter, read_version, ticket, weights_of
from tests.waiting import until


def published(kitchen: Kitchen) -> list[Published]:
    return [event for event in kitchen.events if isinstance(event, Published)]


def standing(kitchen: Kitchen, channel: str = "stable") -> int:
    pointer = kitchen.hub.channel(channel)
    assert pointer is not None
    return pointer.version


def test_a_ticket_becomes_a_signed_version_and_the_channel_points_at_it(kitchen: Kitchen) -> None:
    said = ticket(
        40,
        watermark={"live": {"samples/0": (12, 3)}},
        consumed={"format": 1, "sources": {}},
        weights={"live": 0.5, "base": 0.5},
        newest_sample_time=123.5,
        evaluation={"loss": 0.25},
        command="abc",
    )
    put(kitchen.outbox, weights_of(40), said)
    assert kitchen.publisher.step() == 0.0
    manifest, value = read_version(kitchen.root / "hub", 1, kitchen.key.public)
    assert value == 40
    for field in (
        "run",
        "branch",
        "segment",
        "step",
        "ema",
        "watermark",
        "consumed",
        "weights",
        "evaluation",
        "command",
    ):
        assert getattr(manifest, field) == getattr(said, field)
    assert manifest.newest_sample_time == 123.5
    assert standing(kitchen) == 1
    moved, told = kitchen.events
    assert isinstance(moved, Moved)
    assert isinstance(told, Published)
    assert told.ticket == said
    assert told.manifest == manifest
    assert told.moved == moved
    assert not told.repeated
    assert 0 <= told.seconds < 60
    assert Outbox(kitchen.outbox).pending() == []


def test_the_newest_of_a_channel_wins_and_the_others_are_counted(kitchen: Kitchen) -> None:
    for step in (1, 2, 3):
        put(kitchen.outbox, weights_of(step), ticket(step))
    put(kitchen.outbox, weights_of(4), ticket(4, channel="candidate"))
    assert kitchen.publisher.step() == 0.0
    gone = [(event.ticket.step, event.newer.step) for event in kitchen.events if isinstance(event, Coalesced)]
    assert gone == [(1, 2), (2, 3)]
    assert sorted(event.ticket.step for event in published(kitchen)) == [3, 4]
    assert read_version(kitchen.root / "hub", standing(kitchen), kitchen.key.public)[1] == 3
    assert read_version(kitchen.root / "hub", standing(kitchen, "candidate"), kitchen.key.public)[1] == 4
    assert not litter(kitchen.outbox)


def test_weights_that_the_hub_holds_already_are_not_published_twice(kitchen: Kitchen) -> None:
    for channel in ("candidate", "stable", "stable"):
        put(kitchen.outbox, weights_of(1), ticket(1, channel=channel))
        kitchen.publisher.step()
    assert kitchen.hub.numbers() == [1]
    assert standing(kitchen, "candidate") == standing(kitchen) == 1
    assert [(event.repeated, event.moved is not None) for event in published(kitchen)] == [
        (False, True),
        (True, True),
        (True, False),
    ]


def test_raw_and_averaged_weights_of_one_step_are_two_versions(kitchen: Kitchen) -> None:
    import msgspec

    put(kitchen.outbox, weights_of(1), ticket(1))
    kitchen.publisher.step()
    put(kitchen.outbox, weights_of(2), msgspec.structs.replace(ticket(1), ema=False))
    kitchen.publisher.step()
    assert kitchen.hub.numbers() == [1, 2]


def test_while_the_hub_is_away_training_goes_on_and_the_newest_is_published_when_it_is_back(kitchen: Kitchen) -> None:
    kitchen.publish(1)
    (kitchen.root / "hub").rename(kitchen.root / "away")

    def tried() -> int:
        kitchen.publisher.step()
        return sum(isinstance(event, Failed) for event in kitchen.events)

    for step in (2, 3, 4):
        put(kitchen.outbox, weights_of(step), ticket(step))
        until(lambda step=step: tried() == step - 1, "another try")
    assert 0 < kitchen.publisher.step() == pytest.approx(kitchen.publisher.step(), abs=0.1), (
        "it waits, however often asked"
    )
    failures = [event for event in kitchen.events if isinstance(event, Failed)]
    assert [(event.ticket.step, event.attempt) for event in failures] == [(2, 1), (3, 2), (4, 3)]
    assert "is it mounted" in failures[0].error
    assert all(event.retry_in is not None and event.retry_in <= 30 for event in failures)
    (kitchen.root / "away").rename(kitchen.root / "hub")
    until(lambda: kitchen.publisher.step() == 0.0, "the hub is back")
    assert kitchen.hub.numbers() == [1, 2]
    assert read_version(kitchen.root / "hub", 2, kitchen.key.public)[1] == 4
    assert standing(kitchen) == 2


def test_a_publisher_that_starts_again_knows_what_it_published(kitchen: Kitchen) -> None:
    kitchen.publish(1)
    put(kitchen.outbox, weights_of(1), ticket(1))
    again = Publisher(
        DirectoryHub(kitchen.root / "hub"), Outbox(kitchen.outbox), kitchen.key, tell=kitchen.events.append
    )
    assert again.step() == 0.0
    assert published(kitchen)[-1].repeated
    assert kitchen.hub.numbers() == [1]


def test_an_entry_that_can_never_be_published_is_put_aside_and_newer_ones_get_through(kitchen: Kitchen) -> None:
    placed = put(kitchen.outbox, weights_of(1), ticket(1))
    (placed.entry.path / "files" / "training_args.bin").write_bytes(b"pickle")
    assert kitchen.publisher.step() == 0.0
    (failed,) = kitchen.events
    assert isinstance(failed, Failed)
    assert failed.retry_in is None
    assert "training_args.bin" in failed.error
    kitchen.publish(2)
    assert kitchen.hub.numbers() == [1]
    assert (kitchen.outbox / "rejected" / placed.entry.path.name).is_dir()


def test_old_versions_are_retired_and_that_is_told(kitchen: Kitchen) -> None:
    for step in range(1, 9):
        kitchen.publish(step)
    # Three stay by number (6, 7, 8), and what stable stood at in its last moves (4 to 7).
    assert kitchen.hub.versions() == [4, 5, 6, 7, 8]
    assert kitchen.hub.numbers() == list(range(1, 9))
    assert [event.versions for event in kitchen.events if isinstance(event, Retired)] == [(1,), (2,), (3,)]


def test_a_version_s_parent_is_the_newest_before_it_along_its_branch(kitchen: Kitchen) -> None:
    def publish(step: int, segment: str, *ancestors: Ancestor) -> int | None:
        put(kitchen.outbox, weights_of(step), ticket(step, segment=segment, ancestors=ancestors))
        kitchen.publisher.step()
        return published(kitchen)[-1].manifest.parent

    assert publish(10, "a") is None
    assert publish(20, "a") == 1
    assert publish(30, "a") == 2
    assert publish(25, "b", Ancestor("a", 22)) == 2
    assert publish(28, "b", Ancestor("a", 22)) == 4
    assert publish(29, "c", Ancestor("b", 24), Ancestor("a", 22)) == 2
    assert publish(9, "d", Ancestor("a", 5)) is None
    assert publish(20, "a") == 1


def test_a_version_that_goes_back_behind_the_one_before_says_so(kitchen: Kitchen) -> None:
    def publish(step: int, reached: dict[str, tuple[int, int]], **more: object) -> int | None:
        put(kitchen.outbox, weights_of(step), ticket(step, watermark={"live": reached}, **more))
        kitchen.publisher.step()
        return published(kitchen)[-1].manifest.rewinds

    assert publish(1, {"samples/0": (5, 0)}) is None
    assert publish(2, {"samples/0": (9, 2), "samples/1": (1, 0)}) is None
    assert publish(3, {"samples/0": (9, 1), "samples/1": (1, 0)}, segment="seg2") == 2
    assert publish(4, {"samples/0": (9, 3)}, segment="seg2") == 3
    assert publish(5, {"samples/0": (9, 3)}, segment="seg2") is None
    assert publish(6, {}, run="another") is None


def test_a_listener_that_fails_is_not_the_publisher_s_concern(kitchen: Kitchen) -> None:
    def deaf(event: object) -> None:
        raise RuntimeError("the control server is away")

    put(kitchen.outbox, weights_of(1), ticket(1))
    assert Publisher(kitchen.hub, Outbox(kitchen.outbox), kitchen.key, tell=deaf).step() == 0.0
    assert standing(kitchen) == 1


def test_a_rollback_goes_one_back_and_holds_until_somebody_promotes(kitchen: Kitchen) -> None:
    for step in (1, 2, 3):
        kitchen.publish(step)
    moved = kitchen.publisher.rollback_version("stable", by="ada", reason="hands have six fingers")
    assert (moved.before, moved.pointer.version, moved.pointer.held) == (3, 2, True)
    assert (moved.pointer.moved_by, moved.pointer.reason) == ("ada", "hands have six fingers")
    kitchen.publish(4)
    assert standing(kitchen) == 2
    assert published(kitchen)[-1].moved is None
    assert kitchen.publisher.rollback_version("stable", by="ada").pointer.version == 1
    assert kitchen.publisher.promote_version("stable", by="ada").pointer.version == 4
    kitchen.publish(5)
    assert standing(kitchen) == 5


def test_a_released_channel_stays_until_the_next_version(kitchen: Kitchen) -> None:
    for step in (1, 2):
        kitchen.publish(step)
    kitchen.publisher.rollback_version("stable", by="ada")
    assert kitchen.publisher.channels.release("stable", by="ada").pointer.version == 1
    kitchen.publish(3)
    assert standing(kitchen) == 3


def test_a_pinned_channel_stays_where_it_is_told(kitchen: Kitchen) -> None:
    for step in (1, 2, 3):
        kitchen.publish(step)
    assert kitchen.publisher.pin_version("stable", by="ada").pointer.version == 3
    kitchen.publish(4)
    assert standing(kitchen) == 3
    assert kitchen.publisher.pin_version("stable", 1, by="ada").pointer.held
    assert standing(kitchen) == 1


def test_an_operator_hears_why_a_channel_cannot_move(kitchen: Kitchen) -> None:
    with pytest.raises(VersionMissing, match="no version was published yet"):
        kitchen.publisher.promote_version("stable", by="ada")
    with pytest.raises(VersionMissing, match="never set"):
        kitchen.publisher.pin_version("stable", by="ada")
    kitchen.publish(1)
    with pytest.raises(VersionMissing, match="remembers none before it"):
        kitchen.publisher.rollback_version("stable", by="ada")
    with pytest.raises(VersionMissing, match="000001 is not older"):
        kitchen.publisher.rollback_version("stable", 1, by="ada")
    with pytest.raises(VersionMissing, match="000009"):
        kitchen.publisher.promote_version("stable", 9, by="ada")
    for step in range(2, 9):
        kitchen.publish(step)
    with pytest.raises(VersionMissing, match="its files are not"):
        kitchen.publisher.rollback_version("stable", 1, by="ada")
    assert standing(kitchen) == 8


def test_after_a_key_was_replaced_older_versions_can_still_be_promoted(kitchen: Kitchen) -> None:
    kitchen.publish(1)
    successor = SigningKey.load_or_create(kitchen.root / "keys" / "successor.key")
    stranger = Publisher(kitchen.hub, Outbox(kitchen.outbox), successor)
    with pytest.raises(Untrusted):
        stranger.promote_version("stable", 1, by="ada")
    heir = Publisher(kitchen.hub, Outbox(kitchen.outbox), successor, older_keys=[kitchen.key.public])
    assert heir.promote_version("stable", 1, by="ada").pointer.key_id == successor.public.key_id


def test_a_manifest_planted_under_another_number_is_not_believed(kitchen: Kitchen) -> None:
    for step in (1, 2):
        kitchen.publish(step)
    versions = kitchen.root / "hub" / "versions"
    (versions / "000002" / "manifest.json").write_bytes((versions / "000001" / "manifest.json").read_bytes())
    with pytest.raises(Exception, match="is that of version 000001"):
        kitchen.publisher.pin_version("stable", 2, by="mallory")


def test_a_running_publisher_takes_what_comes_and_stops_when_told(tmp_path: Path) -> None:
    hub = DirectoryHub(tmp_path / "hub", create=True)
    key = SigningKey.load_or_create(tmp_path / "publisher.key")
    publisher = Publisher(hub, Outbox(tmp_path / "outbox"), key)
    stop = threading.Event()
    running = threading.Thread(target=publisher.run, args=(stop,))
    running.start()
    try:
        for step in (1, 2, 3):
            put(tmp_path / "outbox", weights_of(step), ticket(step))
            until(lambda step=step: hub.numbers() == list(range(1, step + 1)), f"version {step} is published")
        with pytest.raises(OutboxLocked):
            Publisher(hub, Outbox(tmp_path / "outbox"), key).run(stop)
    finally:
        stop.set()
        running.join(10)
    assert not running.is_alive()
