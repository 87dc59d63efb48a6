"""The hub in a directory: versions whole or absent, numbers used once, channels moved by compare-and-swap."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from publish import (
    ChannelMoved,
    DirectoryHub,
    FileNotAllowed,
    HubUnavailable,
    Manifest,
    SigningKey,
    Unreadable,
    VersionMissing,
    VersionTaken,
)
from publish.durable import digest_of
from publish.pointer import Pointer, unset
from tests.publish.parts import check_hub, litter, read_version, weights_of

ROOT = Path(__file__).parents[2]
KEY = SigningKey(bytes(range(32)))
Files = Callable[[int], dict[str, Path]]


@pytest.fixture
def hub(tmp_path: Path) -> DirectoryHub:
    return DirectoryHub(tmp_path / "hub", create=True)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def make(value: int) -> dict[str, Path]:
        folder = tmp_path / "made" / str(value)
        folder.mkdir(parents=True)
        weights_of(value)(folder)
        return {path.name: path for path in folder.iterdir()}

    return make


def signed(number: int, files: dict[str, Path]) -> Manifest:
    return KEY.sign(
        Manifest(
            format=1,
            version=number,
            created_at=0.0,
            run="run",
            branch="main",
            segment="seg1",
            step=number,
            ema=True,
            parent=None,
            files={name: digest_of(path) for name, path in files.items()},
        )
    )


def move(hub: DirectoryHub, version: int, channel: str = "stable") -> Pointer:
    now = hub.channel(channel) or unset(channel)
    pointer = KEY.sign(now.moved(version, "0" * 64, held=False, at=time.time(), by="test", reason=""))
    hub.move(pointer)
    return pointer


def test_a_committed_version_is_whole_and_its_files_can_be_read(
    hub: DirectoryHub, files: Files, tmp_path: Path
) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    assert read_version(tmp_path / "hub", 1, KEY.public)[1] == 1
    with hub.open(1, "config.json") as file:
        assert json.load(file) == {"size": 64}
    assert hub.versions() == hub.numbers() == [1]
    assert not litter(tmp_path / "hub")


def test_a_commit_that_fails_leaves_nothing(hub: DirectoryHub, files: Files, tmp_path: Path) -> None:
    made = files(1)
    manifest = signed(1, made)
    made["model-00002-of-00002.safetensors"].unlink()
    with pytest.raises(FileNotFoundError):
        hub.commit(manifest, made)
    assert hub.numbers() == []
    assert not litter(tmp_path / "hub")


def test_a_number_is_taken_once(hub: DirectoryHub, files: Files) -> None:
    first, second = files(1), files(2)
    hub.commit(signed(5, first), first)
    for number in (5, 4):
        with pytest.raises(VersionTaken, match="000005 are taken"):
            hub.commit(signed(number, second), second)


def test_a_number_is_not_used_again_after_its_files_were_retired(hub: DirectoryHub, files: Files) -> None:
    for number in (1, 2):
        made = files(number)
        hub.commit(signed(number, made), made)
    move(hub, 1)
    made = files(3)
    hub.commit(signed(3, made), made)
    assert hub.retire(1) == [2]
    assert hub.versions() == [1, 3]
    assert hub.numbers() == [1, 2, 3]
    with pytest.raises(VersionTaken):
        hub.commit(signed(2, made), made)
    assert msgspec.json.decode(hub.manifest(2), type=Manifest).version == 2
    with pytest.raises(VersionMissing), hub.open(2, "config.json"):
        pass


def test_retirement_keeps_what_any_channel_points_at_or_may_go_back_to(hub: DirectoryHub, files: Files) -> None:
    for number in range(1, 10):
        made = files(number)
        hub.commit(signed(number, made), made)
        if number in (2, 4):
            move(hub, number)
        if number == 6:
            move(hub, number, "candidate")
    assert hub.retire(2) == [1, 3, 5, 7]
    assert hub.versions() == [2, 4, 6, 8, 9]
    with pytest.raises(ValueError, match="the newest version always stays"):
        hub.retire(0)


def test_a_reader_finishes_a_file_whose_version_is_retired_meanwhile(hub: DirectoryHub, files: Files) -> None:
    for number in (1, 2):
        made = files(number)
        hub.commit(signed(number, made), made)
    with hub.open(1, "model-00001-of-00002.safetensors") as file:
        first = file.read(10)
        assert hub.retire(1) == [1]
        rest = file.read()
    assert len(first + rest) == made["model-00001-of-00002.safetensors"].stat().st_size


def test_a_channel_moves_only_from_where_it_stands(hub: DirectoryHub, files: Files) -> None:
    for number in (1, 2):
        made = files(number)
        hub.commit(signed(number, made), made)
    assert hub.channel("stable") is None
    stale = unset("stable")
    first = move(hub, 1)
    with pytest.raises(ChannelMoved, match="generation 1"):
        hub.move(KEY.sign(stale.moved(2, "0" * 64, held=False, at=0.0, by="", reason="")))
    assert hub.channel("stable") == first
    assert move(hub, 2).generation == 2


def test_a_channel_never_points_at_what_is_not_there(hub: DirectoryHub) -> None:
    with pytest.raises(VersionMissing, match="000001"):
        move(hub, 1)
    assert hub.channel("stable") is None


def test_of_two_processes_that_move_a_channel_at_once_each_wins_its_own_generations(
    hub: DirectoryHub, files: Files, tmp_path: Path
) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    program = (
        "import sys, pathlib; from publish import *; from publish.pointer import unset\n"
        "hub, key, won = DirectoryHub(pathlib.Path(sys.argv[1])), SigningKey(bytes(range(32))), []\n"
        "while len(won) < 25:\n"
        "    now = hub.channel('stable') or unset('stable')\n"
        "    following = key.sign(now.moved(1, '0' * 64, held=False, at=0.0, by=sys.argv[2], reason=''))\n"
        "    try: hub.move(following)\n"
        "    except ChannelMoved: continue\n"
        "    won.append(following.generation)\n"
        "print(*won)\n"
    )
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "hub"), name], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for name in ("a", "b")
    ]
    won = [[int(word) for word in process.communicate()[0].split()] for process in racing]
    assert sorted(won[0] + won[1]) == list(range(1, 51))
    assert hub.channel("stable").generation == 50


def test_a_watcher_wakes_within_milliseconds(hub: DirectoryHub, files: Files) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    delays: list[float] = []
    woken = threading.Event()

    def follow() -> None:
        seen = 0
        while seen < 30:
            pointer = hub.watch("stable", seen, timeout=5)
            delays.append(time.time() - pointer.moved_at)
            seen = pointer.generation
            woken.set()

    watching = threading.Thread(target=follow)
    watching.start()
    for _ in range(30):
        woken.clear()
        move(hub, 1)
        assert woken.wait(5)
    watching.join(5)
    assert len(delays) == 30
    # The delay holds the move itself (two fsyncs); other load on the machine makes some slow, not half of them.
    assert statistics.median(delays) < 0.1


def test_a_watch_without_news_ends_in_time(hub: DirectoryHub) -> None:
    began = time.monotonic()
    assert hub.watch("stable", 0, timeout=0.05) is None
    assert 0.05 <= time.monotonic() - began < 2


def test_a_folder_that_is_no_hub_is_away_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    for root in (tmp_path / "mount", tmp_path / "nowhere"):
        hub = DirectoryHub(root)
        for ask in (hub.numbers, hub.versions, lambda hub=hub: hub.channel("stable"), lambda hub=hub: hub.manifest(1)):
            with pytest.raises(HubUnavailable, match="is it mounted"):
                ask()
        with pytest.raises(HubUnavailable):
            hub.watch("stable", 0, timeout=1)


def test_a_hub_that_goes_away_is_noticed_and_comes_back(hub: DirectoryHub, files: Files, tmp_path: Path) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    (tmp_path / "hub").rename(tmp_path / "away")
    (tmp_path / "hub").mkdir()
    with pytest.raises(HubUnavailable):
        hub.commit(signed(2, made), made)
    (tmp_path / "hub").rmdir()
    (tmp_path / "away").rename(tmp_path / "hub")
    assert hub.numbers() == [1]


def test_a_hub_or_pointer_of_another_format_is_refused_by_name(hub: DirectoryHub, files: Files, tmp_path: Path) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    move(hub, 1)
    path = tmp_path / "hub" / "channels" / "stable.json"
    for stored, said in (
        (b"\xff", "not a channel pointer"),
        (b"{}", "not a channel"),
        (path.read_bytes().replace(b'"format":1', b'"format":9'), "format 9"),
    ):
        path.write_bytes(stored)
        with pytest.raises(Unreadable, match=said):
            hub.channel("stable")
    (tmp_path / "hub" / "hub.json").write_text('{"format": 9}')
    with pytest.raises(Unreadable, match="only format 1"):
        DirectoryHub(tmp_path / "hub").numbers()


@pytest.mark.parametrize("channel", ["", "../stable", "Stable", "a/b", "-x", ".stable", "x" * 65])
def test_a_channel_s_name_is_a_plain_word(hub: DirectoryHub, channel: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 of a-z"):
        hub.channel(channel)


def test_nothing_but_a_version_s_files_can_be_opened(hub: DirectoryHub, files: Files, tmp_path: Path) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    (tmp_path / "secret.json").write_text("{}")
    for name in ("../../../secret.json", "manifest.json", str(tmp_path / "secret.json")):
        with pytest.raises(FileNotAllowed), hub.open(1, name):
            pass


def test_readers_write_nothing(hub: DirectoryHub, files: Files, tmp_path: Path) -> None:
    made = files(1)
    hub.commit(signed(1, made), made)
    move(hub, 1)

    def stamps() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "hub").rglob("*")}

    before = stamps()
    reader = DirectoryHub(tmp_path / "hub")
    assert reader.watch("stable", 0, timeout=1) is not None
    assert reader.versions() == [1]
    reader.manifest(1)
    with reader.open(1, "config.json") as file:
        file.read()
    assert stamps() == before


def test_everything_is_synced_before_it_is_seen(
    hub: DirectoryHub, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill never loses the page cache, so what only a power cut would show is asserted by order."""
    done: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("sync", str(os.fstat(descriptor).st_ino)))

    def moved(how: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def move(source: Path, target: Path) -> None:
            inside = [source, *source.rglob("*")] if source.is_dir() else [source]
            for path in inside:
                assert ("sync", str(path.stat().st_ino)) in done, f"{path} is renamed into sight before it was synced"
            how(source, target)
            done.append(("moved", str(target.parent.stat().st_ino)))

        return move

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", moved(rename))
    monkeypatch.setattr(os, "replace", moved(replace))
    made = files(1)
    hub.commit(signed(1, made), made)
    move(hub, 1)
    for folder in ("versions", "channels"):
        inode = str((tmp_path / "hub" / folder).stat().st_ino)
        assert done.index(("moved", inode)) < len(done) - 1 - done[::-1].index(("sync", inode)), (
            f"{folder}/ is not synced"
        )


def test_of_two_publishers_on_one_hub_each_weights_become_one_version(hub: DirectoryHub, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from publish import *\n"
        "from tests.publish.parts import ticket, weights_of\n"
        "root, name = pathlib.Path(sys.argv[1]), sys.argv[2]\n"
        "outbox = Outbox(root / name)\n"
        "publisher = Publisher(DirectoryHub(root / 'hub'), outbox, SigningKey(bytes(range(32))), keep=100)\n"
        "with outbox.served():\n"
        "    for step in range(1, 16):\n"
        "        put(root / name, weights_of(step), ticket(step, run=name))\n"
        "        assert publisher.step() == 0.0\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    racing = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name], env=environment) for name in ("a", "b")
    ]
    assert [process.wait() for process in racing] == [0, 0]
    assert hub.numbers() == list(range(1, 31))
    check_hub(tmp_path / "hub", KEY.public)
    origins = [
        (manifest.run, manifest.step)
        for manifest in (read_version(tmp_path / "hub", n, KEY.public)[0] for n in hub.numbers())
    ]
    assert sorted(origins) == [(name, step) for name in ("a", "b") for step in range(1, 16)]
    assert [step for run, step in origins if run == "a"] == list(range(1, 16))
    assert hub.channel("stable").version == 30
    assert not litter(tmp_path / "hub")
