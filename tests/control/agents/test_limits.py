"""What agents may do, how far, and how often."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from control.agents import Action, Guard, Limits, Observation
from tests.control.agents.pictures import mixed, picture

SEEN = picture([1.0], rate=1e-3, mixture=mixed(live=1, base=1))


def objection(action: Action, seen: Observation = SEEN, **limits: Any) -> str | None:
    return Guard(Limits(**limits)).objection([action], seen)


def rate(**arguments: float) -> Action:
    return Action("update_optimizer", {"lr": arguments})


def weights(**by_source: float) -> Action:
    return Action("update_dataset_runtime_hyperparameters", {"weights": by_source})


@pytest.mark.parametrize("name", ["pause_training", "stop_training", "start_training"])
def test_no_settings_let_an_agent_make_a_run_stand_still(name: str) -> None:
    with pytest.raises(ValidationError, match="not for agents"):
        Limits(commands=(name,))


@pytest.mark.parametrize("name", ["set_agents", "accept_suggestion"])
def test_no_settings_let_an_agent_set_its_own_bounds(name: str) -> None:
    with pytest.raises(ValidationError, match="it is for who bounds them"):
        Limits(commands=(name,))


@pytest.mark.parametrize(
    ("action", "limits", "said"),
    [
        (rate(scale=0.5), {}, None),
        (rate(scale=4.0), {}, "more than its factor of 2"),
        (rate(value=3e-3), {}, "more than its factor of 2"),
        (rate(value=1.9e-3), {"max_lr": 1.5e-3}, "above its limit of 0.0015"),
        (rate(scale=0.5), {"min_lr": 8e-4}, "below its limit of 0.0008"),
        (Action("publish_checkpoint"), {}, "not among its commands"),
        (weights(live=1.5), {}, None),
        (weights(live=9), {}, "may by 0.25 at once"),
        (weights(live=1.5), {"shares": {"live": (0.0, 0.55)}}, "outside its range of 0 to 0.55"),
        (weights(live=0, base=0), {}, "nothing to draw from"),
    ],
)
def test_bounds(action: Action, limits: dict[str, Any], said: str | None) -> None:
    found = objection(action, **limits)

    assert (found is None) if said is None else (found is not None and said in found)


@pytest.mark.parametrize(
    ("action", "limits", "allowed"),
    [
        (rate(scale=0.5), {"max_lr": 1e-4}, True),
        (rate(scale=1.1), {"max_lr": 1e-4}, False),
        (rate(scale=2.0), {"min_lr": 1e-2}, True),
        (weights(live=0.6), {"shares": {"live": (0.0, 0.2)}}, True),
        (weights(live=1.1), {"shares": {"live": (0.0, 0.2)}}, False),
        (weights(base=1.5), {"shares": {"live": (0.0, 0.2)}}, True),
    ],
)
def test_what_stands_outside_of_new_bounds_may_come_nearer_to_them(
    action: Action, limits: dict[str, Any], allowed: bool
) -> None:
    assert (objection(action, **limits) is None) is allowed


def test_a_bound_that_cannot_be_held_refuses() -> None:
    assert "not known yet" in str(objection(rate(scale=2.0), picture(), max_lr=1e-2))


def test_budget_counts_what_was_sent_before() -> None:
    guard = Guard(Limits(budget=3), spent=[1.0, 2.0], clock=lambda: 1e6)

    assert guard.resting(10) is None
    assert "2 commands, but 1 are left" in str(guard.objection([rate(scale=0.5)] * 2, SEEN))
    guard.sent(10)
    assert "budget of 3 commands is spent" in str(guard.resting(10))


def test_cool_down_in_steps_and_seconds_and_commands_an_hour() -> None:
    now = [1000.0]
    guard = Guard(Limits(cooldown_steps=5, cooldown=10, per_hour=2), clock=lambda: now[0])
    guard.sent(100)

    assert "rests for 5 steps" in str(guard.resting(104))
    assert "rests for 10 s" in str(guard.resting(105))
    now[0] += 10
    assert guard.resting(105) is None
    guard.sent(105)
    now[0] += 60
    assert "within an hour" in str(guard.resting(200))
    now[0] += 3600
    assert guard.resting(200) is None
