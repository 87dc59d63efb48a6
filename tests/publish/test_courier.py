"""Handing over without waiting for the disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from publish import Courier, FileNotAllowed, Outbox, durable
from tests.publish.parts import litter, ticket, weights_of


def slowed(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """Let syncing an entry begin with `before`, as a slow disk would."""
    real = durable.sync_tree

    def sync(folder: Path) -> None:
        before()
        real(folder)

    monkeypatch.setattr(durable, "sync_tree", sync)


def test_what_waits_gives_way_to_what_is_newer_and_the_last_one_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    slowed(monkeypatch, lambda: (begun.set(), go_on.wait(30)))
    outbox = tmp_path / "outbox"
    with Courier(outbox) as courier:
        first = courier.give(weights_of(1), ticket(1))
        assert begun.wait(30)
        overtaken = courier.give(weights_of(2), ticket(2))
        last = courier.give(weights_of(3), ticket(3))
        other = courier.give(weights_of(9), ticket(9, channel="candidate"))
        assert Outbox(outbox).pending() == [], "nothing is seen before it is synced"
        go_on.set()
    assert overtaken.cancelled()
    assert [future.result().entry.ticket.step for future in (first, last, other)] == [1, 3, 9]
    assert [entry.ticket.step for entry in Outbox(outbox).pending()] == [1, 3, 9]
    assert not litter(outbox)


def test_weights_may_change_as_soon_as_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: list[int] = []
    slowed(monkeypatch, lambda: writers.append(threading.get_ident()))
    with Courier(tmp_path / "outbox") as courier:
        held = [1]
        placed = courier.give(lambda folder: weights_of(held[0])(folder), ticket(1))
        held[0] = 2
    expected = tmp_path / "expected"
    expected.mkdir()
    weights_of(1)(expected)
    for path in expected.iterdir():
        assert (placed.result().entry.folder / path.name).read_bytes() == path.read_bytes()
    assert threading.get_ident() not in writers, "whoever gives waits for the disk"


def test_what_cannot_be_written_or_synced_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, full = tmp_path / "outbox", [True]

    def space() -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    slowed(monkeypatch, space)
    with Courier(outbox) as courier:
        with pytest.raises(FileNotAllowed, match=r"weights\.bin"):
            courier.give(lambda folder: (folder / "weights.bin").write_bytes(b""), ticket(1))
        with pytest.raises(OSError, match="No space left"):
            courier.give(weights_of(2), ticket(2)).result(30)
        full[0] = False
        courier.give(weights_of(3), ticket(3)).result(30)
    assert "step 2 are not handed over" in caplog.text
    assert [entry.ticket.step for entry in Outbox(outbox).pending()] == [3]
    assert not litter(outbox)
