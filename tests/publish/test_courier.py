"""Handing over without waiting for the disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from publish import Courier, Outbox, Placed
from tests.publish.parts import ticket, weights_of


def test_what_waits_gives_way_to_what_is_newer_and_the_last_one_is_never_lost(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    told: list[Placed] = []

    def slow(folder: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        weights_of(1)(folder)

    with Courier(tmp_path / "outbox", told=told.append) as courier:
        assert courier.give(slow, ticket(1)) is None
        assert begun.wait(30)
        assert courier.give(weights_of(2), ticket(2)) is None
        gave_way = courier.give(weights_of(3), ticket(3))
        assert gave_way is not None
        assert gave_way.step == 2
        assert courier.give(weights_of(9), ticket(9, channel="candidate")) is None
        go_on.set()
    assert [placed.entry.ticket.step for placed in told] == [1, 3, 9]
    assert [entry.ticket.step for entry in Outbox(tmp_path / "outbox").pending()] == [1, 3, 9]


def test_what_cannot_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(folder: Path) -> None:
        raise OSError("no space left on device")

    with Courier(tmp_path / "outbox") as courier:
        courier.give(broken, ticket(1))
    with Courier(tmp_path / "outbox") as courier:
        courier.give(weights_of(2), ticket(2))
    assert "step 1 are not handed over" in caplog.text
    assert [entry.ticket.step for entry in Outbox(tmp_path / "outbox").pending()] == [2]
