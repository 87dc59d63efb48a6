"""The bandit, and the data agent that it serves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.agents import Bandit, DataAgent, DataSettings, Limits, Task, within
from tests.control.agents.pictures import mixed, picture, points

shares = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def test_the_source_that_teaches_most_gets_the_largest_share() -> None:
    bandit = Bandit(["easy", "hard", "known"])
    for _ in range(200):
        bandit.learn({"easy": 0.3, "hard": 0.9, "known": 0.02}, bandit.shares())

    found = bandit.shares()

    assert found["hard"] > found["easy"] > found["known"] > 0
    assert sum(found.values()) == pytest.approx(1)


def test_exploration_falls_and_no_source_is_forgotten() -> None:
    bandit = Bandit(["a", "b"])
    first = bandit.exploration()
    for _ in range(1000):
        bandit.learn({"a": 1.0, "b": 0.0}, bandit.shares())

    assert bandit.exploration() < first / 10
    assert bandit.shares()["b"] >= bandit.exploration()


@given(shares, st.data())
def test_shares_within_bounds_sum_to_one(wanted: list[float], data: st.DataObject) -> None:
    names = [f"s{index}" for index in range(len(wanted))]
    low = [data.draw(st.floats(0, 1 / len(wanted))) for _ in names]
    high = [data.draw(st.floats(1 / len(wanted), 1)) for _ in names]

    found = within(dict(zip(names, wanted, strict=True)), dict(zip(names, zip(low, high, strict=True), strict=True)))

    assert sum(found.values()) == pytest.approx(1)
    for name, least, most in zip(names, low, high, strict=True):
        assert least - 1e-6 <= found[name] <= most + 1e-6


def test_it_turns_towards_the_loss_and_stays_within_the_operators_bounds() -> None:
    limits = Limits(shares={"live": (0.1, 0.6)}, share_move=0.15)
    agent = DataAgent(DataSettings(), limits)
    weights = {"live": 0.5, "base": 0.5}
    for turn in range(1, 40):
        losses = {"loss/live": points([1.0], turn), "loss/base": points([0.1], turn)}
        decision = agent.decide(picture(step=turn, metrics=losses, mixture=mixed(**weights)))
        assert decision is not None
        for action in decision.actions:
            moved = dict(action.arguments["weights"])
            assert abs(moved["live"] - weights["live"]) <= 0.15 + 1e-6
            assert 0.1 <= moved["live"] <= 0.6 + 1e-6
            weights = moved
            agent.acted(decision)

    assert weights["live"] == pytest.approx(0.6, abs=0.02)


def test_evaluations_count_beside_the_loss() -> None:
    settings = DataSettings(tasks={"eval_folder": Task(source="live")}, by_task=1.0)
    seen = picture(
        step=10,
        metrics={"loss/live": points([0.1], 10), "loss/base": points([0.1], 10)},
        evaluations={"eval_folder": points([0.05], 10)},
        mixture=mixed(live=1, base=1),
    )
    decision = DataAgent(settings, Limits()).decide(seen)

    assert decision is not None
    assert decision.saw["rewards"] == {"live": 0.95, "base": 1.0}  # the loss of base is the largest that was seen


def test_the_weakest_task_gets_its_scripted_source_once() -> None:
    settings = DataSettings(
        tasks={
            "eval_folder": Task(source="live", helper="/shards/folder", helper_gap=0.5),
            "eval_menu": Task(source="base", helper="/shards/menu"),
        }
    )
    seen = picture(
        step=10,
        evaluations={"eval_folder": points([0.2], 10), "eval_menu": points([0.9], 10)},
        mixture=mixed(live=1, base=1),
    )
    agent = DataAgent(settings, Limits())

    decision = agent.decide(seen)
    assert decision is not None
    (action,) = decision.actions
    assert action.command == "update_dataset"
    assert action.arguments == {"sources": {"live-help": {"path": "/shards/folder", "weight": 0.1}}}
    agent.acted(decision)
    again = agent.decide(seen)
    assert again is None or not again.actions


def test_a_source_that_is_not_its_business_keeps_its_weight() -> None:
    agent = DataAgent(DataSettings(hold=("base",)), Limits(share_move=1))
    losses = {f"loss/{name}": points([loss], 5) for name, loss in {"live": 1.0, "history": 0.1, "base": 1.0}.items()}
    decision = None
    for _ in range(50):
        decision = agent.decide(picture(step=5, metrics=losses, mixture=mixed(live=1, history=1, base=2)))
        agent._since = -1

    assert decision is not None
    weights = decision.actions[0].arguments["weights"]
    assert "base" not in weights
    assert sum(weights.values()) == pytest.approx(2, abs=1e-4)
