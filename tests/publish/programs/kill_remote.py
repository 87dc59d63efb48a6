"""Kill a publisher or a follower of a hub on the network at its k-th call that reaches network or disk.

    python kill_remote.py PLACE SCENARIO FOLDER STRIDE

PLACE is `s3` or `juicefs` (a bucket), `repository` (the Hugging Face Hub's API) or `embedded` (a follower of the embedded
hub). The calls that all threads of one run make are counted, and every STRIDE-th of them is a trial: a kill, a look at what
readers find, and a repetition that must end as if nothing had happened. The server is a process of its own, which no kill
reaches. Prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import huggingface_hub  # noqa: F401 - imported before the forks
import numpy as np  # noqa: F401

from auth import Scope, TokenStore
from publish import (
    DirectoryHub,
    Follower,
    HttpHub,
    LiveModel,
    Outbox,
    Publisher,
    SigningKey,
    TrustedKeys,
    decode_manifest,
    put,
)
from publish.follower import ServedFrom
from publish.hub import Hub, ReadableHub
from publish.hugging_face import HuggingFaceHub
from publish.s3 import S3Hub
from tests.publish.parts import Uniform, litter, served_value, ticket, weights_of
from tests.publish.programs.lanes import Killer, in_child, spare, sweep

DISK = {"rename", "replace", "mkdir", "rmdir", "unlink", "link", "open", "write", "fsync", "symlink"}
LINE = {"connect", "send", "sendall", "recv", "recv_into", "close", "shutdown"}
PROGRAM = Path(__file__).parent / "servers.py"


def reaches_disk_or_line(module: str, name: str) -> bool:
    """What a killer counts."""
    return (module == "posix" and name in DISK) or (module in {"socket", "_socket"} and name in LINE)


class Place:
    """Where the hub is. `begin` makes the trial's own copy of what was prepared."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.trial = url, folder, "template"

    def begin(self, number: int) -> None:
        self.trial = f"trial{number}"

    def hub(self) -> Hub:
        raise NotImplementedError

    def reading(self) -> ReadableHub:
        return self.hub()


class Bucket(Place):
    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.client().create_bucket(Bucket="hub")

    def client(self) -> object:
        return boto3.client("s3", endpoint_url=self.url)

    def begin(self, number: int) -> None:
        super().begin(number)
        client = self.client()
        found = client.list_objects_v2(Bucket="hub", Prefix="template/").get("Contents", ())
        for item in found:
            key = item["Key"].replace("template/", f"{self.trial}/", 1)
            client.copy_object(Bucket="hub", Key=key, CopySource={"Bucket": "hub", "Key": item["Key"]})

    def hub(self) -> Hub:
        return S3Hub(f"s3://hub/{self.trial}", endpoint=self.url, create=True, poll=0.01)


class Repository(Place):
    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.token = TokenStore(folder / "tokens.json").mint("operator", [Scope.OPERATE])

    def begin(self, number: int) -> None:
        super().begin(number)
        stored = self.folder / "repositories" / "ada"
        shutil.copytree(stored / "template", stored / self.trial)

    def hub(self) -> Hub:
        return HuggingFaceHub(
            f"ada/{self.trial}", endpoint=self.url, token=self.token, create=True, poll=0.01, commits_per_hour=1e6
        )


class Embedded(Place):
    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.token = TokenStore(folder / "tokens.json").mint("reader", [Scope.READ])

    def hub(self) -> Hub:
        return DirectoryHub(self.folder / "hub")

    def reading(self) -> ReadableHub:
        return HttpHub(self.url, self.token)


def key(root: Path) -> SigningKey:
    return SigningKey.load_or_create(root / "keys" / "publisher.key")


def hand_over(root: Path, *steps: int, numbers: int = 64) -> None:
    for step in steps:
        put(root / "outbox", weights_of(step, numbers), ticket(step))


def publish(place: Place, root: Path) -> None:
    outbox = Outbox(root / "outbox")
    with outbox.served():
        publisher = Publisher(place.hub(), outbox, key(root), keep=2)
        deadline = time.monotonic() + 60
        while outbox.pending():
            time.sleep(min(0.05, publisher.step()))
            assert time.monotonic() < deadline, "publishing does not end"


def check_all(place: Place, root: Path) -> float:
    """Fails unless every version is whole and the channel names one; the value that it names."""
    hub, trusted, values = place.hub(), TrustedKeys([key(root).public]), {}
    for number in hub.versions():
        stored = hub.manifest(number)
        manifest = decode_manifest(stored, str(number))
        trusted.verify(manifest)
        folder = root / "read" / f"{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, expected in manifest.files.items():
            with hub.open(number, name) as source:
                data = source.read()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (expected.sha256, expected.size), "torn"
            (folder / name).write_bytes(data)
        values[number] = (hashlib.sha256(stored).hexdigest(), served_value(LiveModel(Uniform(), folder)))
    pointer = hub.channel("stable")
    assert pointer is not None
    trusted.verify(pointer)
    assert pointer.version in values, "an orphaned channel"
    digest, value = values[pointer.version]
    assert digest == pointer.manifest_sha256
    return value


class Publish:
    """Two versions are out, two entries wait: one gives way, the other is published, and an old one is retired. Files are
    so large that a repository of our own builds them from the delta."""

    numbers = 4096

    def prepare(self, place: Place, root: Path) -> None:
        for step in (1, 2):
            hand_over(root, step, numbers=self.numbers)
            publish(place, root)
        hand_over(root, 3, 4, numbers=self.numbers)

    def work(self, place: Place, root: Path) -> None:
        publish(place, root)

    def look(self, place: Place, root: Path) -> None:
        assert check_all(place, root) in (2, 4)

    def check(self, place: Place, root: Path) -> None:
        assert check_all(place, root) == 4, "the newest was lost"
        assert list(place.hub().numbers()) == [1, 2, 3], "weights were published twice, or a number was left out"
        assert not litter(root / "outbox"), litter(root / "outbox")


class Operate:
    """An operator rolls the channel back, then promotes another version."""

    def prepare(self, place: Place, root: Path) -> None:
        for step in (1, 2, 3):
            hand_over(root, step)
            publish(place, root)

    def work(self, place: Place, root: Path) -> None:
        publisher = Publisher(place.hub(), Outbox(root / "outbox"), key(root))
        if place.hub().channel("stable").version == 3:
            publisher.rollback_version("stable", 2, by="operator")
        publisher.promote_version("stable", 3, by="operator")

    def look(self, place: Place, root: Path) -> None:
        assert check_all(place, root) in (2, 3)

    def check(self, place: Place, root: Path) -> None:
        assert check_all(place, root) == 3
        assert not place.hub().channel("stable").held


class Follow:
    """A follower that served version 1 in an earlier life finds version 3."""

    def prepare(self, place: Place, root: Path) -> None:
        hand_over(root, 1)
        publish(place, root)
        self.work(place, root)
        for step in (2, 3):
            hand_over(root, step)
            publish(place, root)

    def follower(self, place: Place, root: Path) -> tuple[Follower[object], LiveModel[object]]:
        live: LiveModel[object] = LiveModel(Uniform())
        return Follower(place.reading(), "stable", [key(root).public], root / "cache", live), live

    def work(self, place: Place, root: Path) -> None:
        follower, _ = self.follower(place, root)
        follower.restore()
        newest, deadline = place.hub().numbers()[-1], time.monotonic() + 60
        while follower.status().version != newest:
            time.sleep(min(0.05, follower.step()))
            assert time.monotonic() < deadline, follower.status()
        follower.close()

    def look(self, place: Place, root: Path) -> None:
        follower, live = self.follower(place, root)
        follower.restore()  # as if the hub were down
        assert follower.status().origin is ServedFrom.CACHE
        assert served_value(live) in (1, 3), "the last verified version is not served after a restart"
        follower.close()

    def check(self, place: Place, root: Path) -> None:
        follower, live = self.follower(place, root)
        follower.restore()
        assert served_value(live) == 3
        follower.close()
        assert not litter(root / "cache"), litter(root / "cache")


Work = Publish | Operate | Follow
SCENARIOS: dict[str, type[Work]] = {"Publish": Publish, "Operate": Operate, "Follow": Follow}
PLACES = {"s3": Bucket, "juicefs": Bucket, "repository": Repository, "embedded": Embedded}


@contextmanager
def server(place: str, folder: Path) -> Iterator[str]:
    kind = "embedded" if place == "repository" else place
    folder.mkdir(parents=True)
    command = [sys.executable, str(PROGRAM), kind, str(folder)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdin is not None
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    assert url, "the server ended before it answered"
    try:
        yield url
    finally:
        running.stdin.close()
        running.wait(20)


def trial(place: Place, scenario: Work, template: Path, root: Path, at: int, counted: Path | None = None) -> bool:
    """One kill and one recovery; False when the work ended before call `at`. Its calls are `counted` where it does."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    place.begin(at)

    def work() -> None:
        killer = Killer(at, reaches_disk_or_line)
        killer.install()
        scenario.work(place, root)
        spare()
        if counted is not None:
            counted.write_text(str(killer.seen))

    ended = in_child(work)
    assert ended in (0, -signal.SIGKILL), f"the work failed by itself: {ended}"
    for after in (scenario.look, scenario.work, scenario.check):
        assert in_child(lambda after=after: after(place, root)) == 0, f"{after.__name__} failed"
    return ended != 0


def kill_all(place: Place, scenario: Work, folder: Path, stride: int) -> dict[str, object]:
    """Count the calls of a run, then kill at every `stride`-th, starting anywhere below it."""
    template, counted = folder / "template", folder / "counted"
    template.mkdir(parents=True)
    assert in_child(lambda: scenario.prepare(place, template)) == 0, "the preparation failed"
    assert not trial(place, scenario, template, folder / "trial", 0, counted)
    first, calls = 1 + random.randrange(stride), int(counted.read_text())
    return sweep(folder, first, stride, calls, lambda lane, at: trial(place, scenario, template, lane / "trial", at))


def main() -> None:
    where, name, folder, stride = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    # Nothing here is encrypted: clients need not read some hundred certificates each time they are made.
    os.environ["SSL_CERT_DIR"] = str(folder)
    with server(where, folder / "server") as url:
        place = PLACES[where](url, folder / "server")
        found = kill_all(place, SCENARIOS[name](), folder, stride)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
