"""When a newer setting makes an older one pointless."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control import Command, CommandKind
from control.knobs import lasting, set_outright, supersedes, turned

SETTING = CommandKind.SETTING

knob_values = st.one_of(
    st.floats(0, 1).map(lambda v: {"value": v}), st.floats(0, 1).map(lambda v: {"scale": v}), st.floats(0, 1)
)
arguments = st.dictionaries(
    st.sampled_from(["lr", "eps", "weights"]),
    st.one_of(knob_values, st.dictionaries(st.sampled_from("ab"), knob_values, min_size=1)),
)


def command(arguments: dict[str, Any]) -> Command:
    return Command(command="tune", arguments=arguments)


def apply(state: dict[str, float], tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, float]:
    """What a setting does to the knobs, read as a trainer reads it."""
    for key, value in tree.items():
        knob = ".".join(path)
        if key == "scale" and path:
            state[knob] = state.get(knob, 1.0) * value
        elif key == "value" and path:
            state[knob] = value
        elif isinstance(value, dict) and value:
            apply(state, value, (*path, key))
        else:
            state[".".join((*path, key))] = value
    return state


def test_values_and_scales_turn_the_knob_they_stand_under() -> None:
    tree = {"lr": {"scale": 0.5}, "weights": {"live": 0.3}, "eps": {"value": 1e-8}}
    assert turned(tree) == {"lr", "weights.live", "eps"}
    assert set_outright(tree) == {"weights.live", "eps"}


@given(old=arguments, new=arguments)
def test_leaving_out_what_is_superseded_never_changes_where_the_knobs_end(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    if supersedes(command(new), command(old), SETTING):
        assert apply(apply({}, old), new) == apply({}, new)


@given(st.lists(arguments, max_size=6))
def test_what_lasts_of_many_settings_leaves_the_knobs_where_all_of_them_do(many: list[dict[str, Any]]) -> None:
    def end(settings: list[Command]) -> dict[str, float]:
        state: dict[str, float] = {}
        for setting in settings:
            apply(state, setting.arguments)
        return state

    settings = [command(tree) for tree in many]
    assert end(lasting(settings)) == end(settings)


def test_a_newer_value_supersedes_a_scale_and_no_scale_supersedes_anything() -> None:
    value, scale = command({"lr": {"value": 1.0}}), command({"lr": {"scale": 0.5}})
    assert supersedes(value, scale, SETTING)
    assert supersedes(value, value, SETTING)
    assert not supersedes(scale, value, SETTING)
    assert not supersedes(scale, scale, SETTING)


def test_only_settings_of_one_name_that_are_no_dry_run_supersede() -> None:
    one = command({"lr": {"value": 1.0}})
    assert not supersedes(one, one, CommandKind.ACTION)
    assert not supersedes(one, one.model_copy(update={"command": "other"}), SETTING)
    assert not supersedes(one.model_copy(update={"dry_run": True}), one, SETTING)
    assert not supersedes(one, command({}), SETTING)
