"""The gate: what it lets through, what it holds back, and what it remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from publish import Gate, GateSettings, Judged, Outbox, Publisher, put
from publish.checks import Rule, drift, figures_keep, finite
from publish.gate import numbers
from tests.publish.conftest import Kitchen
from tests.publish.parts import litter, ticket, weights_of

Figures = Mapping[str, float]


class Gated:
    """A kitchen whose candidates are judged."""

    def __init__(self, kitchen: Kitchen, evaluate: Callable[[Path], Figures] | None = None, **settings: object) -> None:
        self.kitchen = kitchen
        self.evaluate = evaluate
        self.settings = GateSettings.model_validate({"enabled": True, "at_most_drift": None, **settings})
        self.start()

    def start(self) -> None:
        """As after a crash."""
        self.gate = Gate(self.settings, self.kitchen.root / "gate", self.kitchen.hub, self.evaluate)
        self.publisher = Publisher(
            self.kitchen.hub,
            Outbox(self.kitchen.outbox),
            self.kitchen.key,
            tell=self.kitchen.events.append,
            gate=self.gate,
        )

    def publish(self, value: float, step: int | None = None, **said: object) -> Judged:
        said = {"channel": "candidate", **said}
        put(self.kitchen.outbox, weights_of(value), ticket(int(value) if step is None else step, **said))
        assert self.publisher.step() == 0.0
        return [event for event in self.kitchen.events if isinstance(event, Judged)][-1]

    def standing(self, channel: str = "stable") -> int | None:
        pointer = self.kitchen.hub.channel(channel)
        return pointer.version if pointer else None


def test_a_candidate_that_passes_goes_on_to_the_served_channel(kitchen: Kitchen) -> None:
    gated = Gated(kitchen)
    judged = gated.publish(1)
    assert judged.decision.passed
    assert judged.moved is not None
    assert gated.standing() == gated.standing("candidate") == 1
    assert not litter(kitchen.root)


def test_what_is_published_to_the_served_channel_by_hand_is_not_judged(kitchen: Kitchen) -> None:
    gated = Gated(kitchen)
    put(kitchen.outbox, weights_of(float("nan")), ticket(1, channel="stable"))
    gated.publisher.step()
    assert not [event for event in kitchen.events if isinstance(event, Judged)]
    assert gated.standing() == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_candidate_with_a_number_that_is_none_is_held_back(kitchen: Kitchen, value: float) -> None:
    gated = Gated(kitchen)
    gated.publish(1)
    judged = gated.publish(value, step=2)
    assert not judged.decision.passed
    assert judged.decision.reason.startswith("finite: 128 of 128 numbers are NaN or infinite")
    assert (gated.standing(), gated.standing("candidate")) == (1, 2)
    assert gated.publish(3).moved is not None, "the next one is judged for itself"
    assert gated.standing() == 3


def test_weights_that_moved_too_far_are_held_back(kitchen: Kitchen) -> None:
    gated = Gated(kitchen, at_most_drift=0.5)
    for value, step, stands in ((10, 1, 1), (14, 2, 2), (40, 3, 2), (20, 4, 4)):
        judged = gated.publish(value, step=step)
        assert gated.standing() == stands, judged.decision.reason
    shares = [
        event.decision.checks[1].figures["share"]
        for event in kitchen.events
        if isinstance(event, Judged) and len(event.decision.checks) > 1
    ]
    assert shares == pytest.approx([4 / 10, 26 / 14, 6 / 14])


def test_the_trainer_s_figures_are_held_against_those_of_what_stands(kitchen: Kitchen) -> None:
    gated = Gated(kitchen, loss={"eval_loss.live": {"at_most": 1.0, "at_most_worse": 0.1}})
    for step, loss, stands in ((1, 0.5, 1), (2, 0.54, 2), (3, 0.6, 2), (4, 0.55, 4), (5, 1.5, 4), (6, None, 4)):
        evaluation = {} if loss is None else {"eval_loss": {"live": loss, "base": 9.0}, "note": "text"}
        judged = gated.publish(step, evaluation=evaluation)
        assert gated.standing() == stands, judged.decision.reason
    assert judged.decision.reason == "loss: eval_loss.live was not measured"


def test_the_app_s_own_evaluation_judges_and_is_remembered(kitchen: Kitchen) -> None:
    scores = {1: 0.90, 2: 0.85, 3: 0.50, 4: float("nan"), 5: 0.84}
    asked: list[int] = []

    def evaluate(folder: Path) -> Figures:
        assert json.loads((folder / "config.json").read_text()) == {"size": 64}
        asked.append(len(asked) + 1)
        return {"score": scores[asked[-1]], "seconds": 3}

    rule = {"score": {"at_most_worse": 0.1, "higher_is_better": True}}
    gated = Gated(kitchen, evaluate, app=rule)
    for step, stands in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 5)):
        judged = gated.publish(step)
        assert gated.standing() == stands, judged.decision.reason
    assert judged.decision.app == {"score": 0.84, "seconds": 3.0}
    assert gated.gate.decision(5) == judged.decision
    assert "worse than 0.85" in gated.gate.decision(3).reason
    assert "it is nan" in gated.gate.decision(4).reason
    assert gated.gate.decision(9) is None


def test_an_evaluation_that_fails_holds_its_candidate_back_and_nothing_else(kitchen: Kitchen) -> None:
    def evaluate(folder: Path) -> Figures:
        raise RuntimeError("out of memory")

    gated = Gated(kitchen, evaluate)
    judged = gated.publish(1)
    assert judged.decision.reason == "app: its evaluation failed (RuntimeError: out of memory)"
    assert (gated.standing(), gated.standing("candidate")) == (None, 1)


def test_the_app_is_not_asked_about_a_candidate_that_failed_before(kitchen: Kitchen) -> None:
    gated = Gated(kitchen, lambda folder: pytest.fail("it was asked"))
    assert not gated.publish(float("nan"), step=1).decision.passed


def test_by_hand_a_candidate_waits_for_an_operator(kitchen: Kitchen) -> None:
    gated = Gated(kitchen, by_hand=True)
    judged = gated.publish(1)
    assert judged.decision.passed
    assert judged.moved is None
    assert gated.standing() is None
    gated.publisher.promote_version("stable", by="ada")
    assert gated.standing() == 1


def test_a_rollback_holds_the_channel_against_what_passes_until_somebody_promotes(kitchen: Kitchen) -> None:
    gated = Gated(kitchen)
    for step in (1, 2):
        gated.publish(step)
    gated.publisher.rollback_version("stable", by="ada")
    judged = gated.publish(3)
    assert (judged.decision.passed, judged.moved, gated.standing()) == (True, None, 1)
    gated.publisher.promote_version("stable", 3, by="ada")
    gated.publish(4)
    assert gated.standing() == 4


def test_after_a_crash_the_recorded_decision_stands_and_the_app_is_not_asked_again(kitchen: Kitchen) -> None:
    asked: list[Path] = []
    gated = Gated(kitchen, lambda folder: asked.append(folder) or {"score": 1.0})
    advance = gated.publisher.channels.advance

    def dies(channel: str, known: object) -> object:
        if channel == "stable":
            raise OSError("the machine goes down right after the decision was recorded")
        return advance(channel, known)

    gated.publisher.channels.advance = dies  # type: ignore[method-assign]
    put(kitchen.outbox, weights_of(1), ticket(1, channel="candidate"))
    assert gated.publisher.step() > 0
    assert (gated.standing(), len(asked)) == (None, 1)
    gated.start()
    assert gated.publisher.step() == 0.0
    assert (gated.standing(), len(asked)) == (1, 1)


def test_what_stands_is_fetched_where_it_is_not_at_hand_and_checked(kitchen: Kitchen) -> None:
    gated = Gated(kitchen, at_most_drift=0.5)
    for step in (10, 11, 12):
        gated.publish(step)
    gated.publisher.promote_version("stable", 1, by="ada")
    judged = gated.publish(13)
    assert judged.decision.standing == 1
    assert judged.decision.checks[1].figures["share"] == pytest.approx(0.3)


# Checks by themselves


@pytest.mark.parametrize(
    ("rule", "value", "standing", "broken"),
    [
        ({"at_most": 1}, 1.0, None, False),
        ({"at_most": 1}, 1.01, None, True),
        ({"at_least": 1}, 0.9, None, True),
        ({"at_most_worse": 0.1}, 1.09, 1.0, False),
        ({"at_most_worse": 0.1}, 1.11, 1.0, True),
        ({"at_most_worse": 0.1}, 99.0, None, False),
        ({"at_most_worse": 0.1}, -0.95, -1.0, False),
        ({"at_most_worse": 0.1}, -0.85, -1.0, True),
        ({"at_most_worse": 0.0, "higher_is_better": True}, 2.0, 1.0, False),
        ({"at_most_worse": 0.0, "higher_is_better": True}, 0.99, 1.0, True),
        ({"at_most": 1}, float("nan"), None, True),
    ],
)
def test_rules(rule: dict[str, object], value: float, standing: float | None, broken: bool) -> None:
    assert bool(Rule.model_validate(rule).broken_by(value, standing)) is broken


def test_a_rule_that_rules_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="lets everything pass"):
        Rule()


@pytest.mark.parametrize("bits", [0x7FC0, 0x7F81, 0xFF80, 0x7F80])
def test_half_precision_brain_floats_are_looked_at_too(tmp_path: Path, bits: int) -> None:
    words = np.full(100, 0x3F80, np.uint16)
    words[7] = bits
    save_file({"w": words}, tmp_path / "model.safetensors")
    raw = (tmp_path / "model.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
    head = int.from_bytes(raw[:8], "little")
    (tmp_path / "model.safetensors").write_bytes((head + 1).to_bytes(8, "little") + raw[8:])
    check = finite({"model.safetensors": tmp_path / "model.safetensors"})
    assert (check.passed, check.figures) == (False, {"not_finite": 1, "numbers": 100})


def test_integers_are_no_concern_of_the_checks(tmp_path: Path) -> None:
    save_file({"ids": np.arange(5)}, tmp_path / "model.safetensors")
    files = {"model.safetensors": tmp_path / "model.safetensors"}
    assert finite(files).passed
    assert drift(files, files, 0.1).figures == {"share": 0.0, "at_most": 0.1, "compared": 0.0}


def test_figures_are_numbers_by_name() -> None:
    assert numbers({"a": 1, "b": {"c": 0.5, "d": "text"}, "e": True, "f": None}) == {"a": 1.0, "b.c": 0.5}
    check = figures_keep("loss", {"a": 2.0}, {"a": 1.0}, {"a": Rule(at_most=1)})
    assert msgspec.to_builtins(check)["reason"] == "a: 2 is above 1"
