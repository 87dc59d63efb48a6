"""A script's lines: each once, in the order of their steps, also over a restart and where one of them fails."""

from __future__ import annotations

from control.agents import Decision, Line, Script
from tests.control.agents.pictures import picture

HALF = {"lr": {"scale": 0.5}}
LINES = (
    Line(step=20, command="save_checkpoint", why="before the rate is changed"),
    Line(step=10, command="update_optimizer", arguments=HALF),
    Line(step=20, command="update_optimizer", arguments=HALF),
)


def decided(script: Script, step: int) -> Decision | None:
    return script.decide(picture(step=step))


def test_a_line_is_sent_once_when_its_step_has_come() -> None:
    script = Script(LINES)
    sent = []
    for step in (1, 9, 10, 11, 25, 26, 27, 28):
        decision = decided(script, step)
        if decision is not None:
            (action,) = decision.actions
            sent.append((step, action.command, decision.explanation))
            script.acted(decision)
    assert sent == [
        (10, "update_optimizer", "update_optimizer is due at step 10"),
        (25, "save_checkpoint", "before the rate is changed"),
        (26, "update_optimizer", "update_optimizer is due at step 20"),
    ]


def test_a_line_that_fails_is_tried_again_without_those_before_it() -> None:
    script = Script(LINES)
    first = decided(script, 30)
    assert first is not None
    script.acted(first)

    assert [decided(script, step) for step in (31, 32)][1] == decided(script, 32)
    again = decided(script, 32)
    assert again is not None
    assert [action.command for action in again.actions] == ["save_checkpoint"]


def test_going_back_to_a_checkpoint_sends_nothing_again() -> None:
    script = Script(LINES)
    first = decided(script, 15)
    assert first is not None
    script.acted(first)

    assert decided(script, 5) is None
    assert decided(script, 12) is None


def test_a_script_that_remembers_leaves_out_what_was_done_and_sends_lines_that_were_added() -> None:
    script, saw = Script(LINES), []
    for step in (10, 20, 21):
        decision = decided(script, step)
        assert decision is not None
        script.acted(decision)
        saw.append(decision.saw)

    longer = Script([*LINES, Line(step=15, command="do_evaluate"), LINES[1]])
    longer.remember([*saw, {"step": 3}])

    sent = []
    while (decision := decided(longer, 50)) is not None:
        sent += [action.command for action in decision.actions]
        longer.acted(decision)
    assert sent == ["update_optimizer", "do_evaluate"]
