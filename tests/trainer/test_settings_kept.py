"""Settings that outlive what they were made in: a moved last step, and those of commands that a package has registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import Field

from control import Command, CommandKind, EventType, Outcome
from tests.trainer.trainings import Run
from trainer import Arguments, Plan, Steering, register_command
from trainer.command import _types
from trainer.interventions import interventions

Training = Callable[..., Run]


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(_types)
    yield
    _types.clear()
    _types.update(before)


def load_at(run: Run, step: int, save: list[Command], **given: Any) -> list[Command]:
    sent: list[Command] = []
    run.at(
        step,
        lambda: sent.append(
            run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"], save_first=False, **given)
        ),
    )
    return sent


@pytest.mark.parametrize(("last", "steps"), [(8, 8), (16, 16), (24, 24)])
def test_the_last_step_moves_and_the_schedule_keeps_its_shape(training: Training, last: int, steps: int) -> None:
    whole = training(lr_scheduler_type="cosine", max_steps=12)  # of 16 steps an epoch
    whole.train()
    run = training(lr_scheduler_type="cosine", max_steps=12)
    sent = run.send_at(5, "update_training", max_steps=last)
    run.train()
    assert run.step == steps
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert (run.report(sent).before, run.report(sent).after["max_steps" if last <= 16 else "step"]) == (
        {"max_steps": 12},
        last if last <= 16 else 5,
    )
    assert sorted(run.metric("loss")) == list(range(1, steps + 1))
    for name in ("loss", "learning_rate"):
        before, after = whole.metric(name), run.metric(name)
        assert {step: before[step] for step in range(1, min(last, 12) + 1)} == {
            step: after[step] for step in range(1, min(last, 12) + 1)
        }


def test_a_last_step_that_is_over_is_refused_and_one_at_the_very_end_still_counts(training: Training) -> None:
    run = training(max_steps=12)
    late = run.send_at(6, "update_training", max_steps=6)
    further = run.send_at(12, "update_training", max_steps=14)
    run.train()
    assert run.report(late).outcome is Outcome.REJECTED
    assert "not beyond step 6" in run.report(late).reason
    assert run.report(further).outcome is Outcome.SUCCESS
    assert run.step == 14


def test_a_moved_last_step_is_the_checkpoints_also_in_the_next_process(training: Training) -> None:
    run = training(max_steps=12)
    before = run.send_at(2, "save_checkpoint")
    run.send_at(3, "update_training", max_steps=20)
    after = run.send_at(4, "save_checkpoint")
    load_at(run, 5, before, branch_name="short")
    run.train()
    assert run.step == 12
    assert {seg.branch for seg in run.trainer.steering.folder.segments()} == {"main", "short"}

    folder = run.trainer.steering.folder.path.parent / "next"
    other = training(folder, max_steps=12)
    other.train(run.report(after).after["path"])
    assert other.step == 20
    whole = training(max_steps=12)
    whole.train()
    rates = other.metric("learning_rate")
    assert {step: rates[step] for step in range(5, 13)} == {
        step: rate for step, rate in whole.metric("learning_rate").items() if step > 4
    }


class Loud(Arguments):
    """How loud."""

    volume: float = Field(gt=0)


def _turn(steering: Steering, arguments: Loud) -> Plan:
    trainer = steering.trainer
    before = getattr(trainer, "volume", 1.0)
    return Plan(
        lambda: setattr(trainer, "volume", arguments.volume),
        before,
        arguments.volume,
        undo=lambda: setattr(trainer, "volume", before),
    )


def test_a_packages_setting_is_the_checkpoints_and_a_load_takes_it_back(training: Training, registry: None) -> None:
    register_command("volume", Loud, _turn, kind=CommandKind.SETTING)
    run = training()
    early = run.send_at(2, "save_checkpoint")
    run.send_at(3, "volume", volume=3.0)
    run.send_at(4, "volume", volume=5.0)
    late = run.send_at(5, "save_checkpoint")
    heard: dict[tuple[str, int], float] = {}
    steering = run.trainer.steering
    run.on("on_step_end", lambda step: heard.update({(steering.segment.branch, step): run.trainer.volume}))
    load_at(run, 6, early, branch_name="quiet")
    run.trainer.volume = 1.0
    run.train()
    assert heard["main", 5] == 5.0
    assert heard["quiet", 3] == 1.0

    other = training(run.trainer.steering.folder.path.parent / "next")
    other.trainer.volume = 1.0
    other.train(run.report(late).after["path"])
    assert other.trainer.volume == 5.0
    assert [kept.arguments for kept in other.trainer.steering.kept.state()] == [{"volume": 5.0}]


def test_a_setting_whose_package_is_gone_costs_a_warning(training: Training, registry: None) -> None:
    register_command("volume", Loud, _turn, kind=CommandKind.SETTING)
    run = training(max_steps=6)
    run.send_at(2, "volume", volume=3.0)
    save = run.send_at(3, "save_checkpoint")
    run.train()
    del _types["volume"]
    other = training(run.trainer.steering.folder.path.parent / "next", max_steps=6)
    other.train(run.report(save).after["path"])
    assert other.step == 6
    assert any(
        "'volume' is not one that this trainer takes" in body["message"] for body in other.bodies(EventType.HEALTH)
    )


def test_what_was_done_is_noted_with_its_step_in_its_segment(training: Training) -> None:
    run = training()
    save = run.send_at(2, "save_checkpoint")
    run.send_at(3, "update_optimizer", lr={"scale": 0.5})
    run.send_at(3, "update_optimizer", lr={"scale": -1})
    load_at(run, 5, save, branch_name="b")
    run.send_at(7, "do_evaluate")  # there is no data for it: rejected
    run.send_at(8, "pause_training")
    run.at(8, lambda: run.link.send("resume_training"))
    run.train()
    folder = run.trainer.steering.folder
    first, second = folder.segments()
    noted = [(each.step, each.command) for each in interventions(folder.folder_of(first.id))]
    assert noted == [(2, "save_checkpoint"), (3, "update_optimizer"), (5, "load_checkpoint")]
    noted = [(each.step, each.command) for each in interventions(folder.folder_of(second.id))]
    assert noted == [(8, "pause_training"), (8, "resume_training")]
