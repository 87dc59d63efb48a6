"""A gateway that loses a share leaves it to the other one for longer and longer."""

from __future__ import annotations

from ingest.gateway.losses import FORGIVEN, LONGEST, Losses


def test_who_loses_a_share_again_and_again_waits_for_longer_each_time() -> None:
    losses = Losses()
    pauses = [losses.pause(3, now) for now in (100.0, 101.0, 104.0, 110.0, 120.0, 140.0, 160.0)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, LONGEST, LONGEST, LONGEST]
    assert losses.pause(2, 160.0) == 1.0, "another share was not lost before"


def test_a_loss_is_forgiven_after_a_while() -> None:
    losses = Losses()
    assert [losses.pause(0, now) for now in (0.0, 1.0, 1.0 + FORGIVEN)] == [1.0, 2.0, 1.0]
