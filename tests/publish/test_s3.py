"""The hub in S3, against a server that speaks it: the promises of the directory hub, kept without a lock."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import msgspec
import pytest

from publish import (
    ChannelMoved,
    Follower,
    HubUnavailable,
    LiveModel,
    Manifest,
    Outbox,
    Publisher,
    SigningKey,
    Unreadable,
    VersionMissing,
    VersionTaken,
    put,
)
from publish.durable import digest_of
from publish.pointer import Pointer, unset
from publish.s3 import S3Hub
from tests.publish.parts import Uniform, served_value, ticket, weights_of
from tests.s3_servers import moto_server

KEY = SigningKey(bytes(range(32)))
Files = Callable[[int], dict[str, Path]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def address(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bucket = f"hub-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/models/desktop"


@pytest.fixture
def hub(address: str, server: str) -> S3Hub:
    return S3Hub(address, endpoint=server, create=True, poll=0.02)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def make(value: int) -> dict[str, Path]:
        folder = tmp_path / "made" / str(value)
        folder.mkdir(parents=True, exist_ok=True)
        weights_of(value)(folder)
        return {path.name: path for path in folder.iterdir()}

    return make


def signed(number: int, files: dict[str, Path], step: int | None = None) -> Manifest:
    digests = {name: digest_of(path) for name, path in files.items()}
    return KEY.sign(Manifest(1, number, 0.0, "run", "main", "seg1", step or number, True, None, digests))


def commit(hub: S3Hub, files: Files, number: int) -> None:
    made = files(number)
    hub.commit(signed(number, made), made)


def move(hub: S3Hub, version: int, channel: str = "stable") -> Pointer:
    now = hub.channel(channel) or unset(channel)
    pointer = KEY.sign(now.moved(version, "0" * 64, held=False, at=time.time(), by="test", reason=""))
    hub.move(pointer)
    return pointer


def test_a_committed_version_can_be_read_and_its_folder_loads_as_it_is(
    hub: S3Hub, files: Files, address: str, server: str, tmp_path: Path
) -> None:
    commit(hub, files, 1)
    assert list(hub.versions()) == list(hub.numbers()) == [1]
    with hub.open(1, "config.json") as file:
        assert file.read() == files(1)["config.json"].read_bytes()
    client = boto3.client("s3", endpoint_url=server)
    bucket = address.split("/")[2]
    found = [
        item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix="models/desktop/versions")["Contents"]
    ]
    for key in found:
        client.download_file(bucket, key, str(tmp_path / key.rpartition("/")[2]))
    assert served_value(LiveModel(Uniform(), tmp_path)) == 1
    assert (tmp_path / "manifest.json").read_bytes() == hub.manifest(1)


def test_a_commit_that_fails_half_way_is_no_version(hub: S3Hub, files: Files) -> None:
    made = files(1)
    manifest = signed(1, made)
    made["model-00002-of-00002.safetensors"].unlink()
    with pytest.raises((FileNotFoundError, HubUnavailable)):
        hub.commit(manifest, made)
    assert list(hub.numbers()) == list(hub.versions()) == []
    commit(hub, files, 1)
    assert list(hub.versions()) == [1]


def test_of_two_publishers_who_prepared_one_number_one_gets_it_whole(hub: S3Hub, files: Files) -> None:
    one, other = files(1), files(2)
    won: list[int] = []
    ready = threading.Barrier(2)

    def race(manifest: Manifest, made: dict[str, Path]) -> None:
        ready.wait()
        try:
            hub.commit(manifest, made)
        except VersionTaken:
            return
        won.append(manifest.step)

    racing = [
        threading.Thread(target=race, args=(signed(1, made, step), made)) for step, made in ((1, one), (2, other))
    ]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert len(won) == 1
    assert msgspec.json.decode(hub.manifest(1), type=Manifest).step == won[0]
    with hub.open(1, "model-00001-of-00002.safetensors") as file:
        assert file.read() == files(won[0])["model-00001-of-00002.safetensors"].read_bytes()
    with pytest.raises(VersionTaken, match="000001 are taken"):
        hub.commit(signed(1, one), one)


def test_of_many_moves_at_once_each_generation_is_one_s(hub: S3Hub, files: Files) -> None:
    commit(hub, files, 1)
    won: list[int] = []

    def race() -> None:
        mine = 0
        while mine < 5:
            now = hub.channel("stable") or unset("stable")
            following = KEY.sign(now.moved(1, "0" * 64, held=False, at=0.0, by=str(uuid.uuid4()), reason=""))
            try:
                hub.move(following)
            except ChannelMoved:
                continue
            won.append(following.generation)
            mine += 1

    racing = [threading.Thread(target=race) for _ in range(3)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert sorted(won) == list(range(1, 16))
    assert hub.channel("stable").generation == 15


def test_a_channel_never_points_at_what_is_not_there(hub: S3Hub) -> None:
    with pytest.raises(VersionMissing, match="000001"):
        move(hub, 1)
    assert hub.channel("stable") is None


def test_retirement_keeps_what_channels_need_and_all_manifests(hub: S3Hub, files: Files) -> None:
    for number in range(1, 7):
        commit(hub, files, number)
        if number in (2, 3):
            move(hub, number)
    assert list(hub.retire(2)) == [1, 4]
    assert list(hub.versions()) == [2, 3, 5, 6]
    assert list(hub.numbers()) == [1, 2, 3, 4, 5, 6]
    assert msgspec.json.decode(hub.manifest(1), type=Manifest).version == 1
    with pytest.raises(VersionMissing), hub.open(1, "config.json"):
        pass


def test_a_watcher_hears_of_a_move_and_ends_in_time_without_one(hub: S3Hub, files: Files) -> None:
    commit(hub, files, 1)
    first = move(hub, 1)
    assert hub.watch("stable", 0, 5) == first
    began = time.monotonic()
    assert hub.watch("stable", 1, 0.1) is None
    assert time.monotonic() - began < 5
    later = threading.Timer(0.2, lambda: move(hub, 1))
    later.start()
    assert hub.watch("stable", 1, 20).generation == 2
    later.join()


def test_a_watcher_asks_no_more_often_than_it_may_however_often_it_is_asked(
    address: str, server: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = S3Hub(address, endpoint=server, create=True, poll=60)
    commit(hub, files, 1)
    first = move(hub, 1)
    assert hub.watch("stable", 0, 1) == first
    monkeypatch.setattr(hub, "_get", lambda *asked, **named: pytest.fail("it asked again"))
    began = time.monotonic()
    assert [hub.watch("stable", 1, 0.02) for _ in range(5)] == [None] * 5
    assert time.monotonic() - began >= 0.1


def test_a_place_that_is_no_hub_or_of_another_format_is_refused(address: str, server: str) -> None:
    for ask in (lambda hub: hub.numbers(), lambda hub: hub.channel("stable"), lambda hub: hub.watch("stable", 0, 1)):
        with pytest.raises(HubUnavailable, match="no hub here"):
            ask(S3Hub(address, endpoint=server))
    S3Hub(address, endpoint=server, create=True)
    bucket = address.split("/")[2]
    boto3.client("s3", endpoint_url=server).put_object(Bucket=bucket, Key="models/desktop/hub.json", Body=b"{}")
    with pytest.raises(Unreadable, match="only format 1"):
        S3Hub(address, endpoint=server).numbers()
    with pytest.raises(ValueError, match="reads s3://bucket/prefix"):
        S3Hub("https://example.org/x")


def test_a_service_that_is_away_is_said_so(address: str) -> None:
    hub = S3Hub(address, endpoint="http://127.0.0.1:9")
    with pytest.raises(HubUnavailable):
        hub.numbers()


def test_from_the_outbox_over_s3_to_the_served_model(hub: S3Hub, address: str, server: str, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    publisher = Publisher(hub, outbox, KEY, keep=3)
    live: LiveModel[object] = LiveModel(Uniform())
    reader = S3Hub(address, endpoint=server, poll=0.02)
    follower = Follower(reader, "stable", [KEY.public], tmp_path / "cache", live)
    follower.restore()
    with outbox.served():
        for step in range(1, 6):
            put(tmp_path / "outbox", weights_of(step), ticket(step))
            assert publisher.step() == 0.0
            follower.step()
            assert (served_value(live), follower.status().error) == (step, "")
    assert follower.status().rebuilt >= 1, "deltas come over S3 too"
    publisher.rollback_version("stable", by="ada")
    follower.step()
    assert served_value(live) == 4
    follower.close()
