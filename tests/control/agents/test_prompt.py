"""What a model is told, and every way in which it may answer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.agents import AgentError
from control.agents.prompt import LR_ANSWERS, WIDE_ANSWERS, actions, asked, read
from tests.control.agents.pictures import NAN, picture, points, saved


def test_the_question_holds_what_the_paper_gives() -> None:
    seen = picture([3.0, NAN, 2.5], rate=5e-3, max_steps=100, evaluations={"eval_loss": points([2.75], 2)})

    question = asked(seen, "predict the next word", LR_ANSWERS, history=20)

    for part in ("predict the next word", "Step: 3 of 100", "Learning rate: 0.005", "1: 3, 2: not finite, 3: 2.5"):
        assert part in question
    assert "Validation losses so far: 2: 2.75" in question
    for answer in LR_ANSWERS:
        assert f'"{answer}"' in question


def test_histories_are_cut() -> None:
    question = asked(picture([float(step) for step in range(100)]), "", LR_ANSWERS, history=3)

    assert "98: 97, 99: 98, 100: 99" in question
    assert "97: 96" not in question


@pytest.mark.parametrize(
    "text",
    [
        '{"explanation": "too high", "action": "Half"}',
        '```json\n{"action": "half", "explanation": "x"}\n```',
        'I think {this}. So: {"explanation": "a {brace}", "action": "\'Half\'"} — done.',
        '{"action": "Double"} no, wait: {"action": "HALF"}',
    ],
)
def test_an_answer_is_found_among_words(text: str) -> None:
    assert read(text, LR_ANSWERS).action == "Half"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("half it", "no JSON object"),
        ('{"action": "Stop"}', "action"),
        ('{"explanation": "x"}', "action"),
        ('{"action": "Rollback"}', "not one of Double, Half, Same"),
        ('{"action": ["Half"]}', "action"),
        ("", "no JSON object"),
    ],
)
def test_an_answer_that_cannot_be_used_is_named(text: str, said: str) -> None:
    with pytest.raises(AgentError, match=said):
        read(text, LR_ANSWERS)


@given(st.text())
def test_any_text_is_an_answer_or_an_error(text: str) -> None:
    with contextlib.suppress(AgentError):
        read(text, WIDE_ANSWERS)


@pytest.mark.parametrize(
    ("answer", "command"),
    [
        ("Double", "update_optimizer"),
        ("Rollback", "load_checkpoint"),
        ("Evaluate", "do_evaluate"),
        ("Save", "save_checkpoint"),
    ],
)
def test_wide_answers_become_commands(answer: str, command: str) -> None:
    (action,) = actions(read(f'{{"action": "{answer}"}}', WIDE_ANSWERS), picture([1.0], checkpoints=(saved(1),)))

    assert action.command == command


def test_same_is_no_command_and_a_mixture_needs_weights() -> None:
    assert actions(read('{"action": "Same"}', WIDE_ANSWERS), picture()) == []
    with pytest.raises(AgentError, match="weights"):
        actions(read('{"action": "Mixture"}', WIDE_ANSWERS), picture())
    (action,) = actions(read('{"action": "Mixture", "weights": {"live": 2}}', WIDE_ANSWERS), picture())
    assert action.arguments == {"weights": {"live": 2.0}}
