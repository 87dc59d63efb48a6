"""What becomes of followers' alarms."""

from __future__ import annotations

from pathlib import Path

import pytest

from publish import Alarm, ChannelMoved, Deed, Recalls, RecallSettings
from tests.publish.conftest import Kitchen


def alarm(version: int) -> Alarm:
    return Alarm("stable", version, version - 1, "failed: 0.9 is above 0.05", {"failed": 0.9}, raised_at=1.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def recalls(kitchen: Kitchen, root: Path, clock: Clock, **settings: object) -> Recalls:
    return Recalls(RecallSettings(**settings), root, kitchen.publisher.channels, clock)


def test_an_alarm_takes_the_channel_back_holds_it_and_is_recorded_with_its_figures(
    kitchen: Kitchen, tmp_path: Path, clock: Clock
) -> None:
    for step in (1, 2):
        kitchen.publish(step)
    desk = recalls(kitchen, tmp_path / "recalls", clock)
    assert desk.take(alarm(2), "server-1").deed is Deed.ROLLED_BACK
    pointer = kitchen.hub.channel("stable")
    assert pointer is not None
    assert (pointer.version, pointer.held, pointer.moved_by) == (1, True, "alarm of server-1")
    assert "failed 0.9" in pointer.reason
    assert desk.take(alarm(2), "server-2").deed is Deed.STALE, "one bad version costs one rollback"
    kitchen.publish(3)
    assert kitchen.hub.channel("stable").version == 1
    again = recalls(kitchen, tmp_path / "recalls", clock)
    assert [recall.deed for recall in again.decisions()] == [Deed.ROLLED_BACK, Deed.STALE]
    assert again.decisions()[0].alarm.figures == {"failed": 0.9}
    kitchen.publisher.release_channel("stable", by="ada")
    kitchen.publish(4)
    assert kitchen.hub.channel("stable").version == 4


def test_as_many_followers_as_are_asked_for_must_complain(kitchen: Kitchen, tmp_path: Path, clock: Clock) -> None:
    for step in (1, 2):
        kitchen.publish(step)
    desk = recalls(kitchen, tmp_path / "recalls", clock, followers=2)
    assert desk.take(alarm(2), "server-1").deed is Deed.WAITING
    assert desk.take(alarm(2), "server-1").deed is Deed.WAITING, "the same one again is no second"
    assert desk.take(alarm(2), "server-2").deed is Deed.ROLLED_BACK


def test_alarms_cause_only_so_many_rollbacks_in_an_hour(kitchen: Kitchen, tmp_path: Path, clock: Clock) -> None:
    desk = recalls(kitchen, tmp_path / "recalls", clock, per_hour=2)
    deeds = []
    for step in range(1, 6):
        kitchen.publish(step)
        if step > 1:
            deeds.append(desk.take(alarm(step), "server-1").deed)
            if deeds[-1] is Deed.ROLLED_BACK:
                kitchen.publisher.promote_version("stable", step, by="ada")
    assert deeds == [Deed.ROLLED_BACK, Deed.ROLLED_BACK, Deed.EXHAUSTED, Deed.EXHAUSTED]
    clock.now += 3601
    assert desk.take(alarm(5), "server-1").deed is Deed.ROLLED_BACK


def test_what_a_person_holds_stays_and_what_has_nothing_before_it_too(
    kitchen: Kitchen, tmp_path: Path, clock: Clock
) -> None:
    desk = recalls(kitchen, tmp_path / "recalls", clock)
    kitchen.publish(1)
    assert desk.take(alarm(1), "server-1").deed is Deed.NOWHERE
    kitchen.publish(2)
    kitchen.publisher.pin_version("stable", by="ada")
    assert desk.take(alarm(2), "server-1").deed is Deed.HELD
    assert kitchen.hub.channel("stable").version == 2
    off = recalls(kitchen, tmp_path / "off", clock, enabled=False)
    assert off.take(alarm(2), "server-1").deed is Deed.OFF


def test_a_complaint_about_one_version_takes_no_other_back(kitchen: Kitchen) -> None:
    for step in (1, 2, 3):
        kitchen.publish(step)
    with pytest.raises(ChannelMoved, match="not at 000002"):
        kitchen.publisher.channels.rollback("stable", by="x", standing=2)
    assert kitchen.hub.channel("stable").version == 3
