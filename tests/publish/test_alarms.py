"""A version that is worse than it may be is sent back by the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from publish import Alarm, Alarms, AlarmSettings, LiveModel
from publish.checks import Rule
from tests.publish.conftest import Follow, Kitchen
from tests.publish.parts import Weights, served_value

FEW = AlarmSettings(enabled=True, least=4, window=20, score=Rule(at_most_worse=0.2, higher_is_better=True))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def ask(live: LiveModel[Weights], times: int, *, failing: bool = False) -> None:
    for _ in range(times):
        try:
            with live.use():
                if failing:
                    raise RuntimeError("this version paints nothing")
        except RuntimeError:
            pass


def test_a_version_whose_requests_fail_goes_back_at_once_and_does_not_come_again(
    kitchen: Kitchen, follow: Follow
) -> None:
    raised: list[Alarm] = []
    follower, live = follow(alarms=Alarms(FEW), raise_alarm=raised.append)
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
        ask(live, 5)
    kitchen.publish(3)
    follower.step()
    ask(live, 5, failing=True)
    assert served_value(live) == 3
    follower.step()
    assert served_value(live) == 2
    assert follower.status().refused
    assert follower.status().alarms == 1
    (alarm,) = raised
    assert (alarm.channel, alarm.version, alarm.back_to) == ("stable", 3, 2)
    assert "failed: " in alarm.reason
    assert alarm.figures["failed"] > 0.8
    assert alarm.figures["before_failed"] == 0
    for _ in range(3):
        follower.step()
    assert served_value(live) == 2
    assert len(raised) == 1
    kitchen.publish(4)
    follower.step()
    assert served_value(live) == 4


def test_figures_of_too_few_requests_raise_nothing(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(alarms=Alarms(FEW))
    for step in (1, 2):
        kitchen.publish(step)
        follower.step()
    ask(live, 3, failing=True)
    follower.step()
    assert served_value(live) == 2


def test_nobody_goes_back_where_there_is_nothing_before(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(alarms=Alarms(FEW))
    kitchen.publish(1)
    follower.step()
    ask(live, 20, failing=True)
    follower.step()
    assert served_value(live) == 1


def filled(alarms: Alarms, digest: str, *, seconds: float = 0.1, score: float = 1.0, failed: int = 0) -> None:
    alarms.begin(digest)
    for number in range(10):
        alarms.served(digest, seconds, failed=number < failed)
        alarms.score(digest, score)


@pytest.mark.parametrize(
    ("figure", "worse"),
    [("failed", {"failed": 3}), ("p95_seconds", {"seconds": 0.5}), ("score", {"score": 0.5})],
)
def test_each_figure_is_held_against_its_rule_and_the_version_before(figure: str, worse: dict[str, float]) -> None:
    alarms = Alarms(FEW, Clock())
    filled(alarms, "one")
    filled(alarms, "two")
    assert alarms.broken("two", "one")[0] == ""
    filled(alarms, "three", **worse)
    reason, figures = alarms.broken("three", "two")
    assert reason.startswith(f"{figure}: ")
    assert {figure, f"before_{figure}"} <= figures.keys()


def test_after_its_probation_a_version_raises_no_alarm_by_itself() -> None:
    clock = Clock()
    alarms = Alarms(FEW, clock)
    filled(alarms, "one")
    clock.now = FEW.probation_seconds + 1
    for _ in range(10):
        alarms.served("one", 0.1, failed=True)
    assert alarms.broken("one", "") == ("", {})


def test_only_a_few_versions_and_requests_are_kept() -> None:
    alarms = Alarms(FEW, Clock())
    for number in range(100):
        filled(alarms, str(number))
    assert len(alarms._records) == 3
    assert all(len(record.failed) <= FEW.window for record in alarms._records.values())


def test_a_cached_version_after_a_restart_is_watched_too(kitchen: Kitchen, follow: Follow, tmp_path: Path) -> None:
    alarms = Alarms(FEW)
    follower, live = follow(alarms=alarms)
    kitchen.publish(1)
    follower.step()
    ask(live, 6)
    assert alarms._records[live.current.digest].figures(4)["failed"] == 0
