"""What operators set of an agent over its settings file: what holds, who said so, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest

from control.agents import AgentSettings, Limits, LLMAgentSettings, Mode, RulesAgentSettings
from control.agents.settled import SettingError, Settled

FILED = RulesAgentSettings(every=5, limits=Limits(max_lr=1e-2, budget=20))


def changed(*changes: dict[str, Any], file: AgentSettings = FILED) -> Settled:
    settled = Settled(file)
    for index, each in enumerate(changes):
        settled = settled.changed(each, "ada", float(index))
    return settled


def test_what_was_set_last_holds_over_the_file_and_the_rest_stays() -> None:
    settled = changed({"mode": "act", "limits": {"max_lr": 0.1, "budget": None}}, {"limits": {"max_lr": 0.2}})

    settings = settled.settings()

    assert (settings.mode, settings.every) == (Mode.ACT, 5)
    assert (settings.limits.max_lr, settings.limits.budget, settings.limits.lr_factor) == (0.2, None, 2.0)
    assert settled.shown()["chosen"] == {
        "mode": {"author": "ada", "time": 0.0},
        "limits.budget": {"author": "ada", "time": 0.0},
        "limits.max_lr": {"author": "ada", "time": 1.0},
    }
    assert settled.shown()["file"]["limits"]["max_lr"] == 1e-2


def test_what_was_set_holds_over_another_file_and_what_was_handed_back_does_not() -> None:
    chosen = changed(
        {"every": 7, "limits": {"max_lr": 0.1, "budget": 3}}, {"every": "file", "limits": {"max_lr": "file"}}
    )
    other = RulesAgentSettings(every=9, limits=Limits(max_lr=1e-3, budget=50))

    settings = Settled(other, chosen.chosen).settings()

    assert (settings.every, settings.limits.max_lr, settings.limits.budget) == (9, 1e-3, 3)


def test_every_kind_of_agent_keeps_what_is_its_own() -> None:
    file = LLMAgentSettings.model_validate({"llm": {"url": "http://127.0.0.1:1/v1", "model": "tiny", "key": "secret"}})

    settings = changed({"limits": {"budget": 1}}, file=file).settings()

    assert isinstance(settings, LLMAgentSettings)
    assert settings.llm == file.llm


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"every": 0}, "every: it is 0, but it is a whole number of steps, 1 or more, between two looks"),
        ({"mode": "watch"}, 'mode: it is \'watch\', but it is "act" or "suggest"'),
        (
            {"limits": {"max_lr": -1}},
            "limits.max_lr: it is -1, but it is a learning rate above 0, or null for no upper bound",
        ),
        ({"limits": {"budget": 1.5}}, "limits.budget: it is 1.5, but it is a whole number of commands"),
        (
            {"limits": {"min_lr": None}},
            "limits.min_lr: it is None, but it is a learning rate of 0 or more; 0 sets no lower",
        ),
        ({"limits": {"max_lr": float("nan")}}, "limits.max_lr: it is nan, but"),
        (
            {"limits": {"min_lr": 0.1}},
            "limits.max_lr: it is 0.01, below min_lr, which is 0.1; raise it, or lower min_lr",
        ),
        (
            {"limits": {"shares": {"live": [0.6, 0.1]}}},
            "limits.shares: 'live' is given 0.6 to 0.1, but a range goes from",
        ),
        (
            {"limits": {"shares": {"live": 0.5}}},
            "limits.shares: it is 0.5, but it is the least and the largest share by",
        ),
        ({"limits": {"shares": {"a": [0.6, 1], "b": [0.6, 1]}}}, "limits.shares: the least come to 1.2 together"),
        ({"limits": {"commands": ["stop_training"]}}, "limits.commands: 'stop_training' is not for agents: a run must"),
        ({"limits": {"max_rate": 1}}, "limits: 'max_rate' is no limit; these are: commands, min_lr, max_lr"),
        ({"limits": 5}, "limits: it is 5, but it is an object"),
        ({"kind": "llm"}, "'kind' is no setting of an agent; these are: enabled, mode, every, limits"),
    ],
)
def test_what_is_refused_is_said_with_the_value_the_rule_and_the_way_out(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        changed(wrong).settings()

    assert said in str(refused.value)
