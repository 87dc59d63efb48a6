"""One flipped byte in each object of a hub, and a disk that is really full: what is served stays whole, and it ends well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from publish import DirectoryHub, Follower, LiveModel, Outbox, Publisher, SigningKey, put
from publish.hub import ReadableHub
from publish.s3 import S3Hub
from tests.publish.conftest import Kitchen
from tests.publish.parts import Uniform, Weights, served_value, ticket, weights_of
from tests.s3_servers import moto_server

ROOT = Path(__file__).parents[2]
KEY = SigningKey(bytes(range(32)))
Flip = Callable[[], None]


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def follow_through(hub: ReadableHub, cache: Path, key: SigningKey, damage: Flip, repair: Flip) -> None:
    """From version 1 on, with damage and then without: never anything but 1 or 2, and 2 in the end."""
    live: LiveModel[Weights] = LiveModel(Uniform())
    follower = Follower(hub, "stable", [key.public], cache, live, longest_wait=0.01)
    follower.restore()
    assert served_value(live) == 1
    damage()
    for _ in range(4):
        follower.step()
        assert served_value(live) in (1, 2)
    repair()
    for _ in range(200):
        if follower.status().version == 2:
            break
        follower.step()
    assert served_value(live) == 2
    follower.close()


def test_one_flipped_byte_in_each_file_of_a_directory_is_never_served(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.publish(1)
    live: LiveModel[Weights] = LiveModel(Uniform())
    first = Follower(kitchen.hub, "stable", [kitchen.key.public], tmp_path / "cache", live)
    first.restore()
    first.step()
    first.close()
    kitchen.publish(2)
    root = kitchen.root / "hub"
    objects = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size]
    assert {"hub.json", "stable.json", "manifest.json", "config.json", "000002"} <= {path.name for path in objects}
    for number, path in enumerate(objects):
        cache = tmp_path / f"cache{number}"
        shutil.copytree(tmp_path / "cache", cache)
        data = path.read_bytes()

        def write(content: bytes, path: Path = path) -> None:
            path.unlink()  # files may be linked elsewhere
            path.write_bytes(content)

        hub = DirectoryHub(root)
        follow_through(hub, cache, kitchen.key, lambda data=data: write(flipped(data)), lambda data=data: write(data))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with moto_server() as address:
        yield address


def test_one_flipped_byte_in_each_object_of_a_bucket_is_never_served(server: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="hub")
    hub = S3Hub("s3://hub/x", endpoint=server, create=True, poll=0.001)
    outbox = Outbox(tmp_path / "outbox")
    publisher = Publisher(hub, outbox, KEY)
    with outbox.served():
        for step in (1, 2):
            put(tmp_path / "outbox", weights_of(step), ticket(step))
            assert publisher.step() == 0.0
            if step == 1:
                live: LiveModel[Weights] = LiveModel(Uniform())
                first = Follower(hub, "stable", [KEY.public], tmp_path / "cache", live)
                first.restore()
                first.step()
                first.close()
    listed = client.list_objects_v2(Bucket="hub")["Contents"]
    keys = [item["Key"] for item in listed if "000001" not in item["Key"]]  # of version 1 nothing is read any more
    assert len(keys) >= 8
    for number, key in enumerate(keys):
        cache = tmp_path / f"cache{number}"
        shutil.copytree(tmp_path / "cache", cache)
        data = client.get_object(Bucket="hub", Key=key)["Body"].read()
        reading = S3Hub("s3://hub/x", endpoint=server, poll=0.001)

        def write(content: bytes, key: str = key) -> None:
            client.put_object(Bucket="hub", Key=key, Body=content)

        follow_through(reading, cache, KEY, lambda data=data: write(flipped(data)), lambda data=data: write(data))


FULL = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from publish import DirectoryHub, Follower, LiveModel, Outbox, Publisher, SigningKey, put
from tests.publish.parts import Uniform, served_value, ticket, weights_of
root = Path(sys.argv[1])
lift = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
key = SigningKey.load_or_create(root / "key")
"""


def with_a_full_disk(folder: Path, largest: int, program: str) -> None:
    """Run a program whose process cannot write more than `largest` bytes to a file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FULL + program, str(folder), str(largest)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_on_a_full_disk_nothing_half_is_handed_over(tmp_path: Path) -> None:
    with_a_full_disk(
        tmp_path,
        200,
        """
try:
    put(root / "outbox", weights_of(1), ticket(1))
except Exception as error:
    print(error)
else:
    raise AssertionError("it fitted")
assert Outbox(root / "outbox").pending() == []
lift()
put(root / "outbox", weights_of(2), ticket(2))
assert [entry.ticket.step for entry in Outbox(root / "outbox").pending()] == [2]
""",
    )


def test_on_a_full_disk_a_publisher_waits_and_the_newest_is_published_when_there_is_room(tmp_path: Path) -> None:
    put(tmp_path / "outbox", weights_of(1), ticket(1))
    with_a_full_disk(
        tmp_path,
        300,
        """
import time
hub, outbox = DirectoryHub(root / "hub", create=True), Outbox(root / "outbox")
publisher = Publisher(hub, outbox, key)
with outbox.served():
    assert publisher.step() > 0, "the manifest fitted"
    assert hub.versions() == [] and hub.channel("stable") is None
    lift()
    put(root / "outbox", weights_of(2), ticket(2))
    while wait := publisher.step():
        time.sleep(wait)
assert hub.versions() == [1]
live = LiveModel(Uniform(), root / "hub" / "versions" / "000001")
assert served_value(live) == 2
""",
    )


def test_on_a_full_disk_a_follower_serves_what_it_has_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with_a_full_disk(
        tmp_path,
        1 << 30,
        """
import time
hub, outbox = DirectoryHub(root / "hub", create=True), Outbox(root / "outbox")
publisher = Publisher(hub, outbox, key)
with outbox.served():
    live = LiveModel(Uniform())
    follower = Follower(hub, "stable", [key.public], root / "cache", live)
    follower.restore()
    for step in (1, 2):
        put(root / "outbox", weights_of(step), ticket(step))
        assert publisher.step() == 0.0
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
        follower.step()
        assert served_value(live) == 1
    assert "File too large" in follower.status().error, follower.status()
    lift()
    while follower.status().version != 2:
        follower.step()
assert served_value(live) == 2
assert not list((root / "cache" / "staging").iterdir())
""",
    )
