"""The hand-over: whole or absent, newest first, bounded."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from publish import FileNotAllowed, Outbox, OutboxError, OutboxLocked, put
from tests.publish.parts import litter, ticket, weights_of


def steps(outbox: Path) -> list[int]:
    return [entry.ticket.step for entry in Outbox(outbox).pending()]


def test_what_was_put_is_pending_in_order_with_its_files_and_ticket(tmp_path: Path) -> None:
    said = ticket(
        7, watermark={"live": {"samples/0": (3, 1)}}, weights={"live": 0.5}, command="abc", newest_sample_time=1.5
    )
    put(tmp_path, weights_of(6), ticket(6))
    placed = put(tmp_path, weights_of(7), said)
    older, newer = Outbox(tmp_path).pending()
    assert older.ticket.step == 6
    assert newer.ticket == said
    assert newer.path == placed.entry.path
    assert newer.path.name == "0000000002-seg1-7"
    assert sorted(newer.files) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_an_entry_is_invisible_while_it_is_written_and_absent_when_that_fails(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        weights_of(1)(folder)
        assert steps(tmp_path) == []
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        put(tmp_path, write, ticket(1))
    assert steps(tmp_path) == []
    assert not litter(tmp_path)


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.safetensors", "model.pt", "code.py"])
def test_a_file_that_no_version_may_hold_is_refused_where_it_is_written(tmp_path: Path, name: str) -> None:
    def write(folder: Path) -> None:
        weights_of(1)(folder)
        (folder / name).write_bytes(b"x")

    with pytest.raises(FileNotAllowed, match=name):
        put(tmp_path, write, ticket(1))
    assert steps(tmp_path) == []


def test_an_entry_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match=r"no \*\.safetensors among \['config.json'\]"):
        put(tmp_path, lambda folder: (folder / "config.json").write_text("{}"), ticket(1))


@pytest.mark.parametrize("segment", ["", "../x", "a/b", ".x", "a b"])
def test_a_segment_s_name_must_be_fit_for_a_folder(tmp_path: Path, segment: str) -> None:
    with pytest.raises(ValueError, match="names a folder"):
        put(tmp_path, weights_of(1), ticket(1, segment=segment))


def test_a_channel_s_name_is_checked_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to 64 of a-z"):
        put(tmp_path, weights_of(1), ticket(1, channel="../stable"))


def test_while_nobody_publishes_the_newest_stay_and_the_dropped_are_told(tmp_path: Path) -> None:
    put(tmp_path, weights_of(100), ticket(100, channel="candidate"))
    dropped = [
        said.step for step in range(1, 9) for said in put(tmp_path, weights_of(step), ticket(step), kept=3).dropped
    ]
    assert dropped == [1, 2, 3, 4, 5]
    assert steps(tmp_path) == [100, 6, 7, 8]
    assert not litter(tmp_path)


def test_what_the_publisher_took_is_not_dropped_and_comes_back_after_its_death(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(tmp_path, weights_of(1), ticket(1))
    with outbox.served():
        (entry,) = outbox.pending()
        assert outbox.take(entry) is not None
    for step in (2, 3, 4):
        put(tmp_path, weights_of(step), ticket(step), kept=1)
    assert steps(tmp_path) == [1, 4]
    (first, _) = outbox.pending()
    with outbox.served():
        assert outbox.take(first) == first
        outbox.finish(first)
    assert steps(tmp_path) == [4]


def test_an_entry_that_was_dropped_meanwhile_cannot_be_taken(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(tmp_path, weights_of(1), ticket(1))
    (entry,) = outbox.pending()
    put(tmp_path, weights_of(2), ticket(2), kept=1)
    with outbox.served():
        assert outbox.take(entry) is None


def test_one_publisher_serves_an_outbox(tmp_path: Path) -> None:
    with (
        Outbox(tmp_path).served(),
        pytest.raises(OutboxLocked, match="another publisher"),
        Outbox(tmp_path).served(),
    ):
        pass
    with Outbox(tmp_path).served():
        pass


def test_what_is_no_entry_is_put_aside_and_stands_in_nobody_s_way(tmp_path: Path) -> None:
    put(tmp_path, weights_of(1), ticket(1))
    waiting = tmp_path / "waiting"
    for name, stored in (
        ("0000000002-seg1-2", b"\xff"),
        ("0000000003-seg1-3", b'{"format": 9}'),
        ("0000000004-seg1-4", None),
    ):
        (waiting / name).mkdir()
        if stored is not None:
            (waiting / name / "ticket.json").write_bytes(stored)
    (waiting / "notes.txt").write_text("of a person")
    assert steps(tmp_path) == [1]
    assert [path.name for path in (tmp_path / "rejected").iterdir()] == ["0000000004-seg1-4"]
    put(tmp_path, weights_of(5), ticket(5))
    assert steps(tmp_path) == [1, 5]


def test_a_put_wakes_the_publisher_at_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with outbox.served():
        assert outbox.pending() == []
        later = threading.Timer(0.1, lambda: put(tmp_path, weights_of(1), ticket(1)))
        later.start()
        began = time.monotonic()
        outbox.wait(20)
        assert time.monotonic() - began < 10
        assert len(outbox.pending()) == 1
        later.join()


def test_a_put_between_looking_and_waiting_is_not_slept_through(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with outbox.served():
        assert outbox.pending() == []
        put(tmp_path, weights_of(1), ticket(1))
        began = time.monotonic()
        outbox.wait(20)
        assert time.monotonic() - began < 10


def test_an_entry_is_synced_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    fsync, rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def move(source: Path, target: Path) -> None:
        for path in (source, *source.rglob("*")):
            assert path.stat().st_ino in synced, f"{path} is renamed into sight before it was synced"
        rename(source, target)
        synced.discard(target.parent.stat().st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    placed = put(tmp_path, weights_of(1), ticket(1))
    assert placed.entry.path.parent.stat().st_ino in synced, "the new name is not synced"
