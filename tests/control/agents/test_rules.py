"""The rules on runs that go well and badly."""

from __future__ import annotations

import random

import pytest

from control.agents import Decision, NotFinite, Observation, Plateau, Policy, RulesSettings, Spike, Warned, rules
from control.agents.rules import PlateauSettings, SpikeSettings
from tests.control.agents.pictures import NAN, picture, saved

LOWER = ("update_optimizer", {"lr": {"scale": 0.5}})
CALM = [2.0 + 0.05 * random.Random(step).uniform(-1, 1) for step in range(60)]


def wants(policy: Policy, seen: Observation) -> list[tuple[str, dict[str, object]]]:
    decision = policy.decide(seen)
    return [(action.command, dict(action.arguments)) for action in decision.actions] if decision else []


def load(uuid: str) -> tuple[str, dict[str, object]]:
    return ("load_checkpoint", {"uuid": uuid, "save_first": False})


def act(policy: Policy, seen: Observation) -> Decision:
    decision = policy.decide(seen)
    assert decision is not None
    assert decision.actions
    policy.acted(decision)
    return decision


def test_a_calm_run_is_left_alone() -> None:
    assert wants(rules(RulesSettings()), picture(CALM, checkpoints=(saved(30),))) == []


def test_one_high_loss_is_not_yet_a_spike() -> None:
    assert wants(Spike(SpikeSettings()), picture([*CALM, 9.0], checkpoints=(saved(30),))) == []


def test_a_spike_leads_back_before_it_and_halves_the_rate() -> None:
    seen = picture([*CALM, 9.0, 9.5, 9.1], checkpoints=(saved(30), saved(55), saved(62)))

    assert wants(Spike(SpikeSettings()), seen) == [load("at-55"), LOWER]


def test_without_a_checkpoint_a_spike_halves_the_rate() -> None:
    assert wants(Spike(SpikeSettings()), picture([*CALM, 9.0, 9.5, 9.1])) == [LOWER]


def test_deciding_again_without_acting_changes_nothing() -> None:
    spike, seen = Spike(SpikeSettings()), picture([*CALM, 9.0, 9.5, 9.1], checkpoints=(saved(55),))

    assert [wants(spike, seen) for _ in range(5)] == [[load("at-55"), LOWER]] * 5


def test_each_visit_to_one_checkpoint_lowers_the_rate_once_more_and_the_fourth_goes_further_back() -> None:
    spike, seen = Spike(SpikeSettings()), picture([*CALM, 9.0, 9.5, 9.1], checkpoints=(saved(30), saved(55)))

    visits = [[action.command for action in act(spike, seen).actions] for _ in range(3)]

    assert [len(visit) - 1 for visit in visits] == [1, 2, 3]
    assert wants(spike, seen)[0] == load("at-30")


def test_nan_leads_back_before_its_first_step() -> None:
    seen = picture([*CALM, NAN, NAN], checkpoints=(saved(30), saved(60), saved(61)))

    assert wants(NotFinite(), seen) == [load("at-60"), LOWER]


def test_nan_that_is_over_is_left_alone() -> None:
    assert wants(NotFinite(), picture([*CALM, NAN, 2.0], checkpoints=(saved(30),))) == []


def test_a_checkpoint_that_is_broken_from_its_first_step_on_is_shunned() -> None:
    rule = NotFinite()
    act(rule, picture([*CALM, NAN], checkpoints=(saved(30), saved(60))))

    after = picture([*CALM, NAN], checkpoints=(saved(30), saved(60)))  # step 61 again, and NaN again

    assert wants(rule, after)[0] == load("at-30")


def test_where_no_checkpoint_is_left_the_layers_that_were_named_are_reset() -> None:
    reset = {"layer_name": "h.0.mlp", "operation_name": "reset_parameters"}
    mend = ({"command": "model_layer_operation", "arguments": reset},)
    warned = Warned(61, "poisoned_layers", "NaN in h.0.mlp", ("h.0.mlp",), mend)

    assert wants(NotFinite(), picture([*CALM, NAN], warnings=(warned,))) == [("model_layer_operation", reset)]


def test_nan_without_checkpoint_and_without_a_layer_is_said_and_nothing_done() -> None:
    decision = NotFinite().decide(picture([*CALM, NAN]))

    assert decision is not None
    assert not decision.actions
    assert "no layer was named" in decision.explanation


def test_nan_comes_before_a_spike() -> None:
    decision = rules(RulesSettings()).decide(picture([*CALM, 9.0, 9.0, 9.0, NAN], checkpoints=(saved(30),)))

    assert decision is not None
    assert decision.by == "rule:not_finite"


@pytest.mark.parametrize("falling", [True, False])
def test_a_plateau_lowers_the_rate_and_a_slope_does_not(falling: bool) -> None:
    losses = [3.0 - (0.002 * step if falling else 0.0) for step in range(400)]
    rule = Plateau(PlateauSettings(enabled=True, patience=100, smooth=10))

    assert wants(rule, picture(losses)) == ([] if falling else [LOWER])


def test_after_a_lowering_a_plateau_is_looked_for_anew() -> None:
    rule = Plateau(PlateauSettings(enabled=True, patience=100, smooth=10))
    act(rule, picture([3.0] * 400))

    assert wants(rule, picture([3.0] * 450)) == []
    assert wants(rule, picture([3.0] * 520)) == [LOWER]
