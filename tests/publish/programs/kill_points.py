"""Kill a writer at its k-th file-system call, for every k, and see what is left.

    python kill_points.py SCENARIO FOLDER STRIDE

Each trial forks a child that does the scenario's work with a profiler which counts the calls of all its threads that reach
the file system and sends SIGKILL to itself right before call k (or, for `torn`, after half of the k-th write; or, for
`fetcher`, the process that fetches for a follower does so to itself). The parent then checks what a reader may find, starts
the work again without a killer, and checks that it ends as it should. Prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np  # noqa: F401 - imported before the forks, so that no child spends calls on it

from publish import DirectoryHub, Follower, Gate, GateSettings, LiveModel, Outbox, Publisher, SigningKey, put
from publish.delta import write_delta
from publish.follower import ServedFrom
from publish.server import Repositories
from publish.server.built import build_object
from publish.server.stored import StoredRepository
from publish.transfer import Object, Told
from tests.publish.parts import Uniform, check_hub, litter, read_version, served_value, ticket, weights_of
from tests.publish.programs.lanes import Killer, in_child, spare, sweep

MODULES = {"posix", "fcntl", "_io", "io"}


def reaches_files(module: str, name: str) -> bool:
    """What a killer counts."""
    return module in MODULES and name not in {"getpid", "fspath", "kill"}


class FileKiller(Killer):
    """Kills this process right before its k-th call that reaches the file system."""

    def __init__(self, at: int) -> None:
        super().__init__(at, reaches_files)


class Tearer:
    """Lets half of the k-th `os.write` reach the file, then kills this process."""

    def __init__(self, at: int) -> None:
        self._at, self._seen, self._write = at, 0, os.write

    def install(self) -> None:
        os.write = self._torn  # type: ignore[assignment]

    def _torn(self, descriptor: int, data: memoryview) -> int:
        self._seen += 1
        if self._seen == self._at:
            self._write(descriptor, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return self._write(descriptor, data)


class FetcherKiller:
    """Has the process that fetches for a follower killed before its k-th call, once; see at_start/sitecustomize.py."""

    def __init__(self, at: int) -> None:
        self._at = at

    def install(self) -> None:
        path = os.pathsep.join((str(Path(__file__).parent / "at_start"), os.environ.get("PYTHONPATH", "")))
        os.environ.update(KILL_FETCHER_AT=str(self._at), PYTHONPATH=path)


class Scenario:
    """Work on a folder: `prepare` once, `work` (killed, then repeated), `look` after the kill, `check` at the end."""

    def prepare(self, root: Path) -> None: ...
    def work(self, root: Path) -> None: ...
    def look(self, root: Path) -> None: ...
    def check(self, root: Path) -> None: ...


def key(root: Path) -> SigningKey:
    return SigningKey.load_or_create(root / "keys" / "publisher.key")


def publish(root: Path, keep: int = 2) -> None:
    hub = DirectoryHub(root / "hub", create=True)
    outbox = Outbox(root / "outbox")
    publisher = Publisher(hub, outbox, key(root), keep=keep)
    with outbox.served():
        while outbox.pending():
            if publisher.step():
                raise RuntimeError("publishing failed")


class Publish(Scenario):
    """Three versions are out, three entries wait: two give way, one is published, and one version is retired."""

    def prepare(self, root: Path) -> None:
        for step in (1, 2, 3):
            put(root / "outbox", weights_of(step), ticket(step))
            publish(root)
        for step in (4, 5, 6):
            put(root / "outbox", weights_of(step), ticket(step))

    def work(self, root: Path) -> None:
        publish(root)

    def look(self, root: Path) -> None:
        check_hub(root / "hub", key(root).public)
        pointer = DirectoryHub(root / "hub").channel("stable")
        assert pointer is not None
        assert read_version(root / "hub", pointer.version, key(root).public)[1] in (3, 6)

    def check(self, root: Path) -> None:
        hub = DirectoryHub(root / "hub")
        pointer = hub.channel("stable")
        assert pointer is not None
        assert read_version(root / "hub", pointer.version, key(root).public)[1] == 6, "the newest was lost"
        assert list(hub.numbers()) == [1, 2, 3, 4], "weights were published twice, or a number was left out"
        assert pointer.generation == 4
        assert not litter(root / "hub"), litter(root / "hub")
        assert not litter(root / "outbox"), litter(root / "outbox")


class HandOver(Scenario):
    """A trainer hands over while the publisher is away; what it hands over is there whole or not at all."""

    def prepare(self, root: Path) -> None:
        for step in (1, 2, 3, 4):
            put(root / "outbox", weights_of(step), ticket(step))
        DirectoryHub(root / "hub", create=True)
        key(root)

    def work(self, root: Path) -> None:
        put(root / "outbox", weights_of(5), ticket(5))

    def look(self, root: Path) -> None:
        entries = Outbox(root / "outbox").pending()
        assert entries[-1].ticket.step in (4, 5)
        for entry in entries:
            assert len(entry.files) == 3

    def check(self, root: Path) -> None:
        publish(root)
        assert read_version(root / "hub", 1, key(root).public)[1] == 5
        assert not litter(root / "outbox"), litter(root / "outbox")


class FirstKey(Scenario):
    """The key and the hub are made on first use."""

    def work(self, root: Path) -> None:
        key(root)
        DirectoryHub(root / "hub", create=True)

    def check(self, root: Path) -> None:
        assert key(root).public == key(root).public
        assert DirectoryHub(root / "hub").numbers() == []
        assert not [path for path in root.rglob("*.tmp")]


class Judge(Scenario):
    """Candidates pass a gate on their way to the served channel: one is good, one is bad, and the last one is good."""

    def prepare(self, root: Path) -> None:
        for step in (10, 11):
            put(root / "outbox", weights_of(step), ticket(step, channel="candidate"))
            self.work(root)
        put(root / "outbox", weights_of(99), ticket(99, channel="candidate"))
        self.work(root)
        put(root / "outbox", weights_of(12), ticket(100, channel="candidate"))

    def work(self, root: Path) -> None:
        hub, outbox = DirectoryHub(root / "hub", create=True), Outbox(root / "outbox")
        gate = Gate(GateSettings(enabled=True), root / "gate", hub)
        publisher = Publisher(hub, outbox, key(root), keep=2, gate=gate)
        with outbox.served():
            while outbox.pending():
                if publisher.step():
                    raise RuntimeError("publishing failed")

    def look(self, root: Path) -> None:
        check_hub(root / "hub", key(root).public)
        pointer = DirectoryHub(root / "hub").channel("stable")
        assert pointer is not None
        assert read_version(root / "hub", pointer.version, key(root).public)[1] in (11, 12), "a bad one is served"

    def check(self, root: Path) -> None:
        hub = DirectoryHub(root / "hub")
        assert [pointer.version for pointer in hub.channels()] == [4, 4], "an orphaned channel"
        assert list(hub.numbers()) == [1, 2, 3, 4]
        gate = Gate(GateSettings(enabled=True), root / "gate", hub)
        decisions = [gate.decision(number) for number in hub.numbers()]
        assert [decision is not None and decision.passed for decision in decisions] == [True, True, False, True]
        assert not litter(root / "hub"), litter(root / "hub")
        assert not litter(root / "outbox"), litter(root / "outbox")


class Operate(Scenario):
    """An operator rolls the channel back, then promotes another version."""

    def prepare(self, root: Path) -> None:
        for step in (1, 2, 3):
            put(root / "outbox", weights_of(step), ticket(step))
            publish(root, keep=9)

    def work(self, root: Path) -> None:
        publisher = Publisher(DirectoryHub(root / "hub"), Outbox(root / "outbox"), key(root))
        publisher.rollback_version("stable", 1, by="operator") if self._version(root) != 1 else None
        publisher.promote_version("stable", 2, by="operator")

    def look(self, root: Path) -> None:
        check_hub(root / "hub", key(root).public)
        assert self._version(root) in (3, 1, 2)

    def check(self, root: Path) -> None:
        assert self._version(root) == 2
        assert not litter(root / "hub"), litter(root / "hub")

    def _version(self, root: Path) -> int:
        pointer = DirectoryHub(root / "hub").channel("stable")
        assert pointer is not None
        return pointer.version


class Follow(Scenario):
    """A follower that serves version 1 finds version 2, loads it and forgets what it no longer needs."""

    def prepare(self, root: Path) -> None:
        for step in (1, 2, 3):
            put(root / "outbox", weights_of(step), ticket(step))
            publish(root, keep=9)
            if step < 3:
                self.work(root)

    def follower(self, root: Path) -> tuple[Follower[object], LiveModel[object]]:
        live: LiveModel[object] = LiveModel(Uniform())
        return Follower(DirectoryHub(root / "hub"), "stable", [key(root).public], root / "cache", live), live

    def work(self, root: Path) -> None:
        follower, _ = self.follower(root)
        follower.restore()
        newest = DirectoryHub(root / "hub").versions()[-1]
        while follower.status().version != newest:
            follower.step()
            assert not follower.status().error, follower.status().error
        follower.close()

    def look(self, root: Path) -> None:
        follower, live = self.follower(root)
        follower.restore()  # as if the hub were down: serve what is here
        assert follower.status().origin is ServedFrom.CACHE
        assert served_value(live) == follower.status().version
        assert served_value(live) in (2, 3), "the last verified version is not served after a restart"
        follower.close()

    def check(self, root: Path) -> None:
        follower, live = self.follower(root)
        follower.restore()
        assert served_value(live) == 3
        follower.close()
        assert len(list((root / "cache" / "versions").iterdir())) <= 2
        assert not litter(root / "cache"), litter(root / "cache")


class FollowApart(Follow):
    """The same follower, for which a process of its own fetches; neither outlives the other, nor loses anything with it."""

    def work(self, root: Path) -> None:
        os.environ[TRIAL] = str(root)
        live: LiveModel[object] = LiveModel(Uniform())
        hub = DirectoryHub(root / "hub")
        follower = Follower(hub, "stable", [key(root).public], root / "cache", live, apart=True)
        follower.restore()
        newest, deadline = hub.versions()[-1], time.monotonic() + 120
        while follower.status().version != newest:
            time.sleep(min(0.02, follower.step()))
            assert time.monotonic() < deadline, follower.status()
        follower.close()

    def look(self, root: Path) -> None:
        deadline = time.monotonic() + 60
        while orphans := _of_trial(root):
            assert time.monotonic() < deadline, f"orphans: {orphans}"
            time.sleep(0.02)
        super().look(root)


class Build(Scenario):
    """A hub builds an object from a delta and the file of a commit; it is there whole or not at all."""

    wanted, base = b"new" * 100_000, b"old" * 100_000

    def prepare(self, root: Path) -> None:
        files = {name: root / name for name in ("new", "old", "delta")}
        files["old"].write_bytes(self.base)
        files["new"].write_bytes(self.wanted)
        write_delta(files["delta"], {"net.safetensors": files["new"]}, {"net.safetensors": files["old"]})
        repository = Repositories(root / "repositories").create("ada", "net")
        with repository.scratch() as scratch:
            old = repository.store(self.base, scratch)
            repository.store(files["delta"].read_bytes(), scratch)
        repository.commit(
            "main", lambda names: names.update({"net.safetensors": old}), title="", message="", author="", parent=None
        )

    def repository(self, root: Path) -> StoredRepository:
        found = Repositories(root / "repositories").find("ada", "net")
        assert found is not None
        return found

    def work(self, root: Path) -> None:
        delta = hashlib.sha256((root / "delta").read_bytes()).hexdigest()
        build_object(self.repository(root), self.object, Told(delta, "main", "net.safetensors"))

    @property
    def object(self) -> Object:
        return Object(hashlib.sha256(self.wanted).hexdigest(), len(self.wanted))

    def look(self, root: Path) -> None:
        found = self.repository(root).content(self.object.oid)
        assert found is None or found.read_bytes() == self.wanted, "a torn object"

    def check(self, root: Path) -> None:
        found = self.repository(root).content(self.object.oid)
        assert found is not None
        assert found.read_bytes() == self.wanted
        with self.repository(root).scratch():  # as the next upload does
            pass
        assert not litter(root), litter(root)


TRIAL = "KILL_POINTS_TRIAL"
"""What the processes of a trial have in their environment."""


def _of_trial(root: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.name != str(os.getpid()) and f"{TRIAL}={root}".encode() in (path / "environ").read_bytes().split(
                b"\0"
            ):
                found.append(path.name)
        except OSError:  # it ended just now
            continue
    return found


SCENARIOS = {kind.__name__: kind for kind in (Publish, HandOver, FirstKey, Judge, Operate, Follow, FollowApart, Build)}


Kind = type[FileKiller] | type[Tearer] | type[FetcherKiller]


def trial(scenario: Scenario, template: Path, root: Path, killer: FileKiller | Tearer | FetcherKiller) -> bool:
    """One kill and one recovery; False when the work ended before the killer's call."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)

    def killed() -> None:
        killer.install()
        scenario.work(root)
        spare()

    ended = in_child(killed)
    assert ended in (0, -signal.SIGKILL), f"the work failed by itself: {ended}"
    for after in (scenario.look, scenario.work, scenario.check):
        assert in_child(lambda after=after: after(root)) == 0, f"{after.__name__} failed"
    return ended != 0 or (root / "killed").exists()


def kill_all(scenario: Scenario, folder: Path, kind: Kind, stride: int) -> dict[str, object]:
    """Kill at every `stride`-th call, starting anywhere below it, until the work gets through."""
    template = folder / "template"
    template.mkdir(parents=True)
    scenario.prepare(template)
    first = 1 + random.randrange(stride)
    return sweep(folder, first, stride, 0, lambda lane, at: trial(scenario, template, lane / "trial", kind(at)))


if __name__ == "__main__":
    name, place, stride = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    ways: list[tuple[str, Kind, int]] = [("killed", FileKiller, stride), ("torn", Tearer, 1)]
    if name == "FollowApart":
        ways = [("killed", FileKiller, stride), ("fetcher", FetcherKiller, stride)]
    if name == "Build":  # it writes by files of Python's own alone
        ways = ways[:1]
    found = {how: kill_all(SCENARIOS[name](), place / how, kind, step) for how, kind, step in ways}
    sys.stdout.write(json.dumps(found) + "\n")
