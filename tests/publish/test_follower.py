"""The serving side: what it believes, what it survives, and what it says of itself."""

from __future__ import annotations

import json
import resource
import threading
import time
from pathlib import Path

import pytest

from publish import (
    CacheLocked,
    DirectoryHub,
    Follower,
    LiveModel,
    Outbox,
    Publisher,
    ServedFrom,
    SigningKey,
    Status,
    put,
)
from tests.publish.conftest import Follow, Kitchen
from tests.publish.parts import Uniform, litter, served_value, ticket, weights_of
from tests.waiting import until

FILES = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "manifest.json"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    weights_of(0)(folder)
    return folder


def version(kitchen: Kitchen, number: int) -> Path:
    return kitchen.root / "hub" / "versions" / f"{number:06d}"


def replace_bytes(path: Path, data: bytes) -> None:
    """Write anew instead of in place, so that no other name of the file changes."""
    path.unlink()
    path.write_bytes(data)


def test_the_follower_serves_each_version_that_the_channel_names(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, live = follow(base=base)
    assert follower.status().origin is ServedFrom.BASE
    for step in (1, 2, 3):
        kitchen.publish(step)
        follower.step()
        assert served_value(live) == step
        status = follower.status()
        assert (status.origin, status.version, status.label) == (ServedFrom.HUB, step, f"{step:06d}")
        assert (status.generation, status.swaps, status.hub_reachable, status.error) == (step, step, True, "")
        assert status.lag_seconds == 0
    assert len(list((kitchen.root / "cache" / "versions").iterdir())) == 2
    assert not litter(kitchen.root / "cache")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_byte_in_any_file_is_never_served(
    kitchen: Kitchen, follow: Follow, base: Path, file: str, place: str
) -> None:
    follower, live = follow(base=base)
    kitchen.publish(1)
    follower.step()
    kitchen.publish(2)
    (kitchen.root / "hub" / "deltas" / "000002").unlink()  # else it leads around the damage
    path = version(kitchen, 2) / file
    whole = path.read_bytes()
    at = {"first": 0, "middle": len(whole) // 2, "last": len(whole) - 1}[place]
    replace_bytes(path, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    follower.step()
    assert served_value(live) == 1
    assert "DigestMismatch" in follower.status().error
    assert follower.status().lag_seconds > 0
    assert not litter(kitchen.root / "cache")
    replace_bytes(path, whole)
    until(lambda: (follower.step(), served_value(live) == 2)[1], "a repaired version is served without a restart")
    assert follower.status().error == ""


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", ["missing", "short", "long", "empty"])
def test_a_torn_or_missing_file_is_never_served(
    kitchen: Kitchen, follow: Follow, base: Path, file: str, fault: str
) -> None:
    follower, live = follow(base=base)
    kitchen.publish(1)
    path = version(kitchen, 1) / file
    whole = path.read_bytes()
    path.unlink()
    if fault != "missing":
        path.write_bytes({"short": whole[:-1], "long": whole + b" ", "empty": b""}[fault])
    follower.step()
    assert served_value(live) == 0
    assert follower.status().origin is ServedFrom.BASE
    assert follower.status().errors == 1


def test_versions_of_a_stranger_are_not_served(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    stranger = SigningKey.load_or_create(kitchen.root / "keys" / "stranger.key")
    follower, live = follow(base=base, keys=[stranger.public])
    kitchen.publish(1)
    follower.step()
    assert served_value(live) == 0
    assert "Untrusted" in follower.status().error


def test_a_stranger_s_version_behind_a_trusted_looking_channel_is_not_served(
    kitchen: Kitchen, follow: Follow, base: Path
) -> None:
    """The hub is taken over: somebody publishes there with a key of his own, on top of ours."""
    follower, live = follow(base=base)
    kitchen.publish(1)
    follower.step()
    stranger = SigningKey.load_or_create(kitchen.root / "keys" / "stranger.key")
    intruder = Publisher(kitchen.hub, Outbox(kitchen.root / "elsewhere"), stranger)
    put(kitchen.root / "elsewhere", weights_of(666), ticket(666))
    with Outbox(kitchen.root / "elsewhere").served():
        assert intruder.step() == 0.0
    follower.step()
    assert served_value(live) == 1
    assert "Untrusted" in follower.status().error


def test_keys_are_rotated_without_a_gap(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    successor = SigningKey.load_or_create(kitchen.root / "keys" / "successor.key")
    follower, live = follow(base=base, keys=[kitchen.key.public, str(successor.public)])
    kitchen.publish(1)
    follower.step()
    heir = Publisher(kitchen.hub, Outbox(kitchen.outbox), successor, older_keys=[kitchen.key.public])
    put(kitchen.outbox, weights_of(2), ticket(2))
    assert heir.step() == 0.0
    follower.step()
    assert served_value(live) == 2


def test_an_old_channel_pointer_shown_again_is_refused(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, live = follow(base=base)
    pointer = kitchen.root / "hub" / "channels" / "stable.json"
    kitchen.publish(1)
    old = pointer.read_bytes()
    follower.step()
    kitchen.publish(2)
    follower.step()
    pointer.write_bytes(old)
    follower.step()
    assert served_value(live) == 2
    assert "Replayed" in follower.status().error


def test_an_old_pointer_is_refused_after_a_restart_too(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, _ = follow(base=base)
    pointer = kitchen.root / "hub" / "channels" / "stable.json"
    kitchen.publish(1)
    old = pointer.read_bytes()
    kitchen.publish(2)
    follower.step()
    follower.close()
    pointer.write_bytes(old)
    again, live = follow(base=base)
    again.step()
    assert served_value(live) == 2
    assert "Replayed" in again.status().error


def test_an_old_manifest_in_a_new_place_is_refused(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, live = follow(base=base)
    for step in (1, 2):
        kitchen.publish(step)
    for path in version(kitchen, 1).iterdir():
        replace_bytes(version(kitchen, 2) / path.name, path.read_bytes())
    follower.step()
    assert served_value(live) == 0
    assert "DigestMismatch" in follower.status().error


def test_a_rollback_of_the_channel_is_obeyed_at_once_from_the_warm_version(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow()
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
    kitchen.publisher.rollback_version("stable", by="ada")
    follower.step()
    assert served_value(live) == 1
    assert follower.status().load_seconds == 0
    kitchen.publish(3)
    follower.step()
    assert served_value(live) == 1
    kitchen.publisher.promote_version("stable", by="ada")
    follower.step()
    assert served_value(live) == 3


def test_a_follower_that_slept_through_a_rollback_obeys_it(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow()
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
    kitchen.publisher.rollback_version("stable", by="ada")
    kitchen.publisher.channels.release("stable", by="ada")
    follower.step()
    assert served_value(live) == 1


def test_with_the_hub_down_at_start_the_last_verified_version_is_served(
    kitchen: Kitchen, follow: Follow, base: Path
) -> None:
    follower, _ = follow(base=base)
    kitchen.publish(1)
    follower.step()
    follower.close()
    (kitchen.root / "hub").rename(kitchen.root / "away")
    again, live = follow(hub=DirectoryHub(kitchen.root / "hub"), base=base)
    assert again.step() > 0
    assert served_value(live) == 1
    status = again.status()
    assert (status.origin, status.version, status.hub_reachable, status.ready) == (ServedFrom.CACHE, 1, False, True)
    (kitchen.root / "away").rename(kitchen.root / "hub")
    kitchen.publish(2)
    again.step()
    assert served_value(live) == 2
    assert again.status().hub_reachable


def test_with_nothing_at_all_the_packaged_base_is_served_and_status_says_so(
    kitchen: Kitchen, follow: Follow, base: Path
) -> None:
    follower, live = follow(hub=DirectoryHub(kitchen.root / "nowhere"), base=base)
    follower.step()
    assert served_value(live) == 0
    assert (follower.status().origin, follower.status().label, follower.status().ready) == (
        ServedFrom.BASE,
        "base",
        True,
    )


def test_an_empty_hub_is_reachable_and_leaves_the_base(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, live = follow(base=base)
    assert follower.step() == 0.0
    assert served_value(live) == 0
    assert (follower.status().hub_reachable, follower.status().error) == (True, "")


def test_without_base_and_version_the_follower_is_not_ready(kitchen: Kitchen, follow: Follow) -> None:
    follower, _ = follow()
    follower.step()
    assert follower.status().origin is ServedFrom.NOTHING
    assert not follower.status().ready
    kitchen.publish(1)
    follower.step()
    assert follower.status().ready


@pytest.mark.parametrize("file", FILES)
def test_a_cached_version_that_rotted_is_not_served_and_is_fetched_again(
    kitchen: Kitchen, follow: Follow, base: Path, file: str
) -> None:
    follower, _ = follow(base=base)
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
    digest = json.loads((kitchen.root / "cache" / "state.json").read_bytes())["digest"]
    follower.close()
    path = kitchen.root / "cache" / "versions" / digest / file
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    again, live = follow(base=base)
    assert served_value(live) == 1, "the version before is served, since it is whole"
    again.step()
    assert served_value(live) == 2
    assert again.status().error == ""


@pytest.mark.parametrize("stored", [b"", b"\xff", b"{}", b'{"format":9,"hub":"","channel":""}'])
def test_a_state_file_that_is_none_costs_a_download_and_no_more(
    kitchen: Kitchen, follow: Follow, base: Path, stored: bytes
) -> None:
    follower, _ = follow(base=base)
    kitchen.publish(1)
    follower.step()
    follower.close()
    (kitchen.root / "cache" / "state.json").write_bytes(stored)
    again, live = follow(base=base)
    assert served_value(live) == 0
    again.step()
    assert served_value(live) == 1


def test_another_hub_begins_its_own_count_of_generations(kitchen: Kitchen, follow: Follow, base: Path) -> None:
    follower, _ = follow(base=base)
    for step in (1, 2, 3):
        kitchen.publish(step)
        follower.step()
    follower.close()
    other = DirectoryHub(kitchen.root / "other", create=True)
    put(kitchen.outbox, weights_of(7), ticket(7))
    assert Publisher(other, Outbox(kitchen.outbox), kitchen.key).step() == 0.0
    again, live = follow(hub=other, base=base)
    assert served_value(live) == 3
    again.step()
    assert served_value(live) == 7


def test_an_app_s_alarm_rolls_back_and_the_bad_version_stays_away(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow()
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
    follower.roll_back("every answer is black")
    assert served_value(live) == 1
    follower.step()
    assert served_value(live) == 1
    assert follower.status().refused
    follower.close()
    again, live = follow()
    again.step()
    assert served_value(live) == 1
    kitchen.publish(3)
    again.step()
    assert served_value(live) == 3
    assert not again.status().refused


def test_a_version_that_its_loader_refuses_is_tried_again_and_a_newer_one_at_once(
    kitchen: Kitchen, follow: Follow, base: Path
) -> None:
    class Fussy(Uniform):
        refused = 0

        def load(self, folder: Path, spare: object) -> object:
            weights = super().load(folder, None)
            if weights["first"][0] == 1 and self.refused < 3:
                self.refused += 1
                raise RuntimeError("CUDA out of memory")
            return weights

    loader = Fussy()
    follower, live = follow(base=base, loader=loader)
    kitchen.publish(1)
    follower.step()
    assert "out of memory" in follower.status().error
    until(lambda: (follower.step(), served_value(live) == 1)[1], "the fourth try gets through")
    assert loader.refused == 3
    assert follower.status().errors == 0
    loader.refused = -1000
    follower.close()
    again, live = follow(base=base, loader=loader, cache=kitchen.root / "cache2")
    for _ in range(20):
        again.step()
    assert again.status().errors >= 1
    kitchen.publish(2)
    began = time.monotonic()
    until(lambda: (again.step(), served_value(live) == 2)[1], "a newer version ends the wait")
    assert time.monotonic() - began < 2


def test_a_full_disk_leaves_what_is_served_and_is_over_when_there_is_room(kitchen: Kitchen, follow: Follow) -> None:
    """The limit on file sizes makes real writes fail half-way, as a full disk does."""
    follower, live = follow()
    kitchen.publish(1)
    follower.step()
    kitchen.publish(2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        follower.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert served_value(live) == 1
    assert "File too large" in follower.status().error
    assert not litter(kitchen.root / "cache")
    until(lambda: (follower.step(), served_value(live) == 2)[1], "room again")


def test_one_cache_belongs_to_one_follower(kitchen: Kitchen, follow: Follow) -> None:
    follower, _ = follow()
    with pytest.raises(CacheLocked, match="its own"):
        follow()
    follower.close()
    follow()


def test_the_thread_follows_tells_and_survives_its_listener(kitchen: Kitchen, base: Path) -> None:
    told: list[Status] = []

    def listen(status: Status) -> None:
        told.append(status)
        raise RuntimeError("the control server is away")

    live = LiveModel(Uniform(), base)
    follower = Follower(
        kitchen.hub, "stable", [kitchen.key.public], kitchen.root / "cache", live, tell=listen, heartbeat=0.05
    )
    follower.start()
    try:
        for step in (1, 2, 3):
            kitchen.publish(step)
            until(lambda step=step: served_value(live) == step, f"version {step} is served")
            until(lambda step=step: told[-1].version == step, f"version {step} is told")
        count = len(told)
        until(lambda: len(told) > count + 2, "heartbeats without news")
    finally:
        follower.close()
    assert not any(thread.name == "follow-stable" for thread in threading.enumerate())


def test_a_reader_during_retirement_gets_whole_versions_only(kitchen: Kitchen, base: Path) -> None:
    """A slow follower meets a publisher that keeps one version: what vanishes under it is looked up anew."""

    class Slow(DirectoryHub):
        def open(self, version: int, name: str):  # type: ignore[no-untyped-def]
            time.sleep(0.004)
            return super().open(version, name)

    live = LiveModel(Uniform(), base)
    follower = Follower(Slow(kitchen.root / "hub"), "stable", [kitchen.key.public], kitchen.root / "cache", live)
    hasty = Publisher(kitchen.hub, Outbox(kitchen.outbox), kitchen.key, keep=1)
    follower.start()
    try:
        for step in range(1, 41):
            put(kitchen.outbox, weights_of(step), ticket(step))
            assert hasty.step() == 0.0
            served_value(live)
        until(lambda: served_value(live) == 40, "the newest is served in the end")
    finally:
        follower.close()
    assert follower.status().swaps > 1
