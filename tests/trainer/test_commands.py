"""Commands: each acts between two steps and has one outcome; a wrong one changes nothing and ends nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from torch.nn import functional

from control import Command, CommandKind, EventType, Outcome, RunStatus, Status
from tests.trainer.trainings import Run, Sentences, gpt2
from trainer import (
    Arguments,
    CommandFailed,
    CommandRejected,
    Every,
    InteractiveSettings,
    Later,
    Plan,
    Steering,
    StepDone,
    register_command,
)
from trainer.command import _types, command_types

Training = Callable[..., Run]


@pytest.fixture
def registry() -> Iterator[None]:
    """Commands that a test registers are forgotten after it."""
    before = dict(_types)
    yield
    _types.clear()
    _types.update(before)


def statuses(run: Run, command: Command) -> list[Status]:
    return [report.status for report in run.link.reports if report.uuid == command.uuid]


# Pause, resume, stop


def test_everything_is_served_while_paused_without_a_step(training: Training) -> None:
    run = training(eval_dataset=Sentences(8), lr_scheduler_type="constant")
    thread = run.paused_after(4)
    link = run.link
    saved = link.outcome(link.send("save_checkpoint"))
    evaluated = link.outcome(link.send("do_evaluate"))
    slowed = link.outcome(link.send("update_optimizer", lr={"scale": 0.5}))
    assert [report.outcome for report in (saved, evaluated, slowed)] == [Outcome.SUCCESS] * 3
    assert saved.after["step"] == 4
    assert evaluated.after["eval_loss"] > 0
    assert slowed.takes_effect_at == 5
    assert run.step == 4
    record = run.trainer.steering.folder.record()
    assert record is not None
    assert record.status is RunStatus.PAUSED
    link.send("resume_training")
    thread.join(30)
    rates = run.metric("learning_rate")
    assert (run.step, rates[4], rates[5]) == (12, 1e-3, 5e-4)


def test_stop_takes_no_further_step(training: Training) -> None:
    run = training()
    sent = run.send_at(5, "stop_training")
    run.train()
    assert run.step == 5
    assert run.report(sent).outcome is Outcome.SUCCESS
    record = run.trainer.steering.folder.record()
    assert record is not None
    assert record.status is RunStatus.STOPPED


def test_stop_while_paused_takes_no_further_step(training: Training) -> None:
    run = training()
    thread = run.paused_after(5)
    sent = run.link.send("stop_training", save=True)
    thread.join(30)
    assert not thread.is_alive()
    assert run.step == 5
    assert run.link.outcome(sent).outcome is Outcome.SUCCESS
    assert [(c.card.step, c.card.reason) for c in run.trainer.steering.checkpoints.all()] == [(5, "stop")]


def test_a_pause_that_was_wanted_before_the_start_comes_before_the_first_step(training: Training) -> None:
    run = training()
    run.link.send("pause_training", again=True)
    run.link.send("stop_training")
    run.train()
    assert run.step == 0
    assert run.metric("loss") == {}


def test_commands_behind_a_stop_fail_with_its_reason(training: Training) -> None:
    run = training()
    run.send_at(5, "stop_training")
    late = run.send_at(5, "save_checkpoint")
    run.train()
    assert run.report(late).outcome is Outcome.FAILED
    assert run.report(late).reason == "stopped by a command"


def test_the_end_of_training_is_told(training: Training) -> None:
    run = training()
    run.train()
    assert [body["status"] for body in run.bodies(EventType.RUN)] == ["running", "finished"]
    assert run.link.closed == "step 12 was the last"


def test_a_crash_is_told_and_raised(training: Training) -> None:
    run = training()

    def explode() -> None:
        raise MemoryError("no more")

    run.at(3, explode)
    with pytest.raises(MemoryError):
        run.train()
    told = run.bodies(EventType.RUN)[-1]
    assert (told["status"], told["reason"]) == ("crashed", "training ended with MemoryError: no more")


# Optimizer


def test_other_numbers_change_only_on_groups_that_use_them(training: Training) -> None:
    run = training(weight_decay=0.1)
    sent = run.send_at(3, "update_optimizer", weight_decay=0.3, betas={"value": [0.8, 0.99]}, eps=1e-6)
    run.train()
    groups = run.trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [group["betas"] for group in groups] == [(0.8, 0.99)] * 2
    assert run.report(sent).before == {"betas": [0.9, 0.999], "weight_decay": 0.1, "eps": 1e-8}
    assert run.link.state["optimizer"]["weight_decay"] == 0.3


def test_weight_decay_from_zero_reaches_the_group_that_is_meant_to_decay(training: Training) -> None:
    run = training(weight_decay=0.0)
    run.send_at(3, "update_optimizer", weight_decay=0.2)
    run.train()
    assert [group["weight_decay"] for group in run.trainer.optimizer.param_groups] == [0.2, 0.0]


def test_gradient_clipping_changes_live(training: Training) -> None:
    whole = training()
    whole.train()
    run = training()
    sent = run.send_at(6, "update_optimizer", max_grad_norm=1e-4)
    run.train()
    assert run.report(sent).before == {"max_grad_norm": 1.0}
    losses, clipped = whole.metric("loss"), run.metric("loss")
    assert [step for step in losses if losses[step] != clipped[step]] == list(range(8, 13))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "nothing is given"),
        ({"lr": "abc"}, "lr"),
        ({"lr": {"value": -1}}, "lr.value: input should be greater than 0 (got -1)"),
        ({"lr": {"value": 1e-3, "scale": 2}}, "give exactly one of value, scale and peak"),
        ({"lr": {"value": float("inf")}}, "give exactly one of value, scale and peak"),
        ({"betas": [0.9, 1.5]}, "betas.1"),
        ({"momentum": 0.9}, "momentum: AdamW has none; it has lr, betas, weight_decay, eps, max_grad_norm"),
        ({"learning_rate": 1e-3}, "learning_rate: extra inputs are not permitted"),
    ],
)
def test_a_wrong_optimizer_update_is_rejected_with_the_reason(
    training: Training, arguments: dict[str, Any], reason: str
) -> None:
    run = training(max_steps=4)
    sent = run.send_at(2, "update_optimizer", **arguments)
    run.train()
    report = run.report(sent)
    assert report.outcome is Outcome.REJECTED
    assert reason in report.reason
    assert run.step == 4


def test_bounds_of_the_trainer_hold_and_show_in_the_schema(training: Training) -> None:
    bounds = {"update_optimizer": {"lr.value": (1e-6, 1e-2), "weight_decay": (0.0, 0.5)}}
    run = training(settings={"bounds": bounds}, max_steps=4)
    high = run.send_at(2, "update_optimizer", lr={"value": 0.1})
    fine = run.send_at(2, "update_optimizer", lr={"value": 0.01})
    run.train()
    assert run.report(high).outcome is Outcome.REJECTED
    assert "lr.value is 0.1, and this trainer takes 1e-06 to 0.01" in run.report(high).reason
    assert run.report(fine).outcome is Outcome.SUCCESS
    spec = command_types()["update_optimizer"].spec(InteractiveSettings(bounds=bounds).bounds["update_optimizer"])
    rate = spec.arguments["$defs"]["Rate"]["properties"]["value"]["anyOf"][0]
    assert (rate["minimum"], rate["maximum"]) == (1e-6, 1e-2)
    assert spec.arguments["properties"]["weight_decay"]["anyOf"][0]["maximum"] == 0.5


# Evaluation


def test_an_evaluation_leaves_no_trace_in_training(training: Training) -> None:
    whole = training()
    whole.train()
    run = training(eval_dataset=Sentences(8))
    sent = run.send_at(6, "do_evaluate")
    run.train()
    assert run.report(sent).after["eval_loss"] > 0
    assert run.metric("loss") == whole.metric("loss")
    assert [
        (event.step, "eval_loss" in event.body) for event in run.link.events if event.type is EventType.EVALUATION
    ] == [(6, True)]


def test_an_evaluation_without_data_is_rejected(training: Training) -> None:
    run = training(max_steps=4)
    sent = run.send_at(2, "do_evaluate")
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert "no eval_dataset" in run.report(sent).reason


def test_a_requested_evaluation_does_not_take_the_place_of_a_scheduled_one(training: Training) -> None:
    run = training(eval_dataset=Sentences(8), eval_strategy="steps", eval_steps=6)
    run.send_at(6, "do_evaluate")
    run.train()
    evaluated = [event.step for event in run.link.events if event.type is EventType.EVALUATION]
    assert evaluated == [6, 6, 12]


# Layers


def test_a_layer_is_reset_with_its_moments(training: Training) -> None:
    run = training(max_steps=6, max_grad_norm=0.0)
    weight = run.trainer.model.transformer.h[0].mlp.c_fc.weight

    def poison() -> None:
        with torch.no_grad():
            weight.fill_(float("nan"))

    seen: list[bool] = []
    run.at(3, poison)
    sent = run.send_at(
        3, "model_layer_operation", layer_name="transformer.h.0.mlp.c_fc", operation_name="reset_parameters"
    )
    run.at(4, lambda: seen.append(bool(torch.isfinite(weight).all())))
    run.train()
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert seen == [True]
    assert all(math.isfinite(loss) for loss in run.metric("loss").values())
    optimizer = run.trainer.optimizer.optimizer
    assert int(optimizer.state[weight]["step"]) == 3  # of six steps, the three after the reset
    assert int(optimizer.state[run.trainer.model.transformer.wte.weight]["step"]) == 6


@pytest.mark.parametrize(
    ("layer", "operation", "params", "reason"),
    [
        ("", "save_pretrained", {"save_directory": "/tmp/stolen"}, "may not be called on the model"),
        ("transformer", "forward", {}, "may not be called"),
        ("transformer.h.9", "reset_parameters", {}, "the model has no layer"),
        ("transformer.wte", "reset_parameters", {"std": 3}, "takes none"),
        ("", "requires_grad_", {"requires_grad": False}, "leaves nothing to train"),
        ("", "requires_grad_", {"requires_grad": "no"}, "true or false"),
    ],
)
def test_only_allowed_operations_run(
    training: Training, layer: str, operation: str, params: dict[str, Any], reason: str
) -> None:
    run = training(max_steps=3)
    sent = run.send_at(2, "model_layer_operation", layer_name=layer, operation_name=operation, params=params)
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert reason in run.report(sent).reason
    assert not Path("/tmp/stolen").exists()


def test_a_frozen_layer_no_longer_moves(training: Training) -> None:
    run = training()
    weight = run.trainer.model.transformer.wpe.weight
    values: dict[int, torch.Tensor] = {}
    run.send_at(
        3,
        "model_layer_operation",
        layer_name="transformer.wpe",
        operation_name="requires_grad_",
        params={"requires_grad": False},
    )
    run.at(4, lambda: values.update({4: weight.clone()}))
    run.train()
    assert not weight.requires_grad
    assert weight.equal(values[4])


def test_a_dropout_changes_live_and_is_the_checkpoints_after_a_load(training: Training) -> None:
    run = training()
    save = run.send_at(2, "save_checkpoint")
    sent = run.send_at(3, "model_layer_parameter_update", layer_name="transformer.drop", param_name="p", value=0.5)
    kept = run.send_at(4, "save_checkpoint")
    seen: dict[str, float] = {}
    drop = run.trainer.model.transformer.drop

    def go(step: int, saved: list[Command], branch: str) -> None:
        run.at(
            step,
            lambda: run.link.send(
                "load_checkpoint", uuid=run.report(saved).after["uuid"], branch_name=branch, save_first=False
            ),
        )

    go(5, save, "before")
    run.at(6, lambda: seen.update(before=drop.p))
    go(7, kept, "after")
    run.at(8, lambda: seen.update(after=drop.p))
    run.train()
    assert (run.report(sent).before, run.report(sent).after) == (0.1, 0.5)
    assert seen == {"before": 0.1, "after": 0.5}


@pytest.mark.parametrize(
    ("layer", "name", "value", "reason"),
    [
        ("transformer.drop", "p", 1.5, "lies between 0 and 1"),
        ("transformer.drop", "p", "high", "value"),
        ("transformer.drop", "training", 0, "may not be set"),
        ("transformer", "forward", 1, "may not be set"),
        ("transformer.wte", "weight", 0.5, "may not be set"),
        ("transformer.ln_f", "eps", -1, "lies between"),
    ],
)
def test_only_allowed_numbers_are_set(training: Training, layer: str, name: str, value: Any, reason: str) -> None:
    run = training(max_steps=3)
    sent = run.send_at(2, "model_layer_parameter_update", layer_name=layer, param_name=name, value=value)
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert reason in run.report(sent).reason


def test_the_model_tree_names_what_may_be_done(training: Training) -> None:
    run = training(max_steps=1)
    run.train()
    tree = run.link.state["model"]
    json.dumps(tree)
    transformer = tree["children"][0]
    drop = next(child for child in transformer["children"] if child["name"] == "transformer.drop")
    assert drop["hyperparameters"] == [{"name": "p", "value": 0.1}]
    assert drop["operators"] == []
    assert transformer["operators"] == ["requires_grad_", "reset_parameters"]


# The lifecycle of a command


def test_a_command_is_running_before_it_has_its_one_outcome(training: Training) -> None:
    run = training(max_steps=3)
    sent = run.send_at(2, "save_checkpoint")
    run.train()
    assert statuses(run, sent[0]) == [Status.RUNNING, Status.SUCCESS]


def test_an_unknown_command_gets_the_nearest_known_one(training: Training) -> None:
    run = training(max_steps=3)
    sent = run.send_at(2, "save_chekpoint")
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert "did you mean 'save_checkpoint'?" in run.report(sent).reason


def test_a_command_that_is_delivered_twice_acts_once(training: Training) -> None:
    run = training(lr_scheduler_type="constant")
    command = Command(command="update_optimizer", arguments={"lr": {"scale": 0.5}})
    run.at(3, lambda: run.link.deliver(command))
    run.at(5, lambda: run.link.deliver(command))
    run.train()
    assert run.link.outcomes(command) == [Outcome.SUCCESS]
    assert run.metric("learning_rate")[8] == 5e-4


def test_a_dry_run_changes_nothing_and_tells_what_would_be(training: Training) -> None:
    run = training(lr_scheduler_type="constant")
    command = Command(command="update_optimizer", arguments={"lr": {"scale": 0.5}}, dry_run=True)
    stop = Command(command="stop_training", dry_run=True)
    run.at(3, lambda: (run.link.deliver(command), run.link.deliver(stop)))
    run.train()
    report = run.link.outcome(command)
    assert (report.outcome, report.before["lr"], report.after["lr"]) == (Outcome.SUCCESS, 1e-3, 5e-4)
    assert "nothing was changed" in report.reason
    assert run.metric("learning_rate")[12] == 1e-3
    assert (run.step, run.link.outcome(stop).outcome) == (12, Outcome.SUCCESS)


class Words(Arguments):
    delta: float = Field(gt=0)


def test_a_command_of_a_package_is_taken_like_the_others(training: Training, registry: None) -> None:
    """The paper's A.3, with one that changes the loss while it runs."""
    applied: list[float] = []

    def soften(steering: Steering, arguments: Words) -> Plan:
        trainer = steering.trainer

        def softer(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
            applied.append(arguments.delta)
            words = functional.cross_entropy(outputs["logits"][:, :-1].flatten(0, 1), labels[:, 1:].flatten())
            return words * arguments.delta

        return Plan(lambda: setattr(trainer, "compute_loss_func", softer), None, arguments.delta, steering.step + 1)

    register_command("soften_loss", Words, soften, summary="Softer", kind=CommandKind.SETTING)
    with pytest.raises(ValueError, match="is taken by"):
        register_command("soften_loss", Words, lambda steering, arguments: Plan(lambda: None))

    whole = training()
    whole.train()
    run = training()
    sent = run.send_at(4, "soften_loss", delta=0.5)
    wrong = run.send_at(5, "soften_loss", delta=-1)
    run.train()
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert run.report(wrong).outcome is Outcome.REJECTED
    assert len(applied) == 8
    assert run.metric("loss")[4] == whole.metric("loss")[4]
    assert run.metric("loss")[5] < 0.7 * whole.metric("loss")[5]


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (CommandFailed("it broke"), Outcome.FAILED, "it broke"),
        (ZeroDivisionError("oh"), Outcome.FAILED, "ZeroDivisionError: oh"),
    ],
)
def test_what_a_handler_raises_is_the_outcome(
    training: Training, registry: None, error: Exception, outcome: Outcome, reason: str
) -> None:
    def fail() -> None:
        raise error

    register_command("break", Words, lambda steering, arguments: Plan(fail, before=1, after=2))
    run = training(max_steps=4)
    sent = run.send_at(2, "break", delta=1)
    run.train()
    report = run.report(sent)
    assert (report.outcome, report.reason, report.after) == (outcome, reason, 1)
    assert run.step == 4


def test_what_a_plan_raises_is_a_refusal(training: Training, registry: None) -> None:
    def plan(steering: Steering, arguments: Words) -> Plan:
        if arguments.delta > 1:
            raise CommandRejected("too much")
        raise KeyError("surprise")

    register_command("plan", Words, plan)
    run = training(max_steps=4)
    much, odd = run.send_at(2, "plan", delta=2), run.send_at(2, "plan", delta=1)
    run.train()
    assert (run.report(much).outcome, run.report(much).reason) == (Outcome.REJECTED, "too much")
    assert (run.report(odd).outcome, run.report(odd).reason) == (Outcome.REJECTED, "plan: KeyError: 'surprise'")


def test_a_command_whose_effect_shows_later_runs_until_then(training: Training, registry: None) -> None:
    def plan(steering: Steering, arguments: Words) -> Plan:
        wanted = steering.step + 3

        def shown(done: StepDone) -> bool:
            return done.step >= wanted

        return Plan(lambda: Later(shown))

    register_command("later", Words, plan)
    run = training(max_steps=6)
    sent, never = run.send_at(2, "later", delta=1), run.send_at(5, "later", delta=1)
    run.train()
    assert (run.report(sent).outcome, run.report(sent).step) == (Outcome.SUCCESS, 5)
    assert (run.report(never).outcome, run.report(never).reason) == (Outcome.FAILED, "step 6 was the last")


# Metrics, policies, health


def test_every_step_has_its_numbers_whatever_logging_steps_says(training: Training) -> None:
    run = training(gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=5, max_grad_norm=0.0)
    run.train()
    for name in ("loss", "grad_norm", "learning_rate", "step_seconds"):
        assert sorted(run.metric(name)) == list(range(1, 13)), name
    logged = {entry["step"]: entry["loss"] for entry in run.trainer.state.log_history if "loss" in entry}
    losses = run.metric("loss")
    assert logged[5] == pytest.approx(sum(losses[step] for step in range(1, 6)) / 5)


def test_a_loss_that_is_not_finite_is_a_warning_and_training_goes_on(training: Training) -> None:
    model = gpt2()
    run = training(model=model)

    def poison() -> None:
        with torch.no_grad():
            model.transformer.ln_f.weight.fill_(float("nan"))

    run.at(4, poison)
    run.train()
    assert run.step == 12
    assert run.metric("loss")[8] is None  # JSON has no NaN
    alarms = [body for body in run.bodies(EventType.HEALTH) if body["check"] == "not_finite"]
    assert len(alarms) == 1
    assert "since step 5" in alarms[0]["message"]


def test_checkpoints_by_policy(training: Training) -> None:
    run = training(settings={"checkpoint": Every(steps=5)})
    run.train()
    assert [c.card.step for c in run.trainer.steering.checkpoints.all()] == [5, 10]


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training(settings={"checkpoint": Every(steps=3)})
    write = torch.save

    def full(*given: Any, **named: Any) -> None:
        if run.step == 6:
            raise OSError(28, "No space left on device")
        write(*given, **named)

    monkeypatch.setattr(torch, "save", full)
    sent = run.send_at(6, "save_checkpoint")
    run.train()
    assert run.step == 12
    assert [c.card.step for c in run.trainer.steering.checkpoints.all()] == [3, 9, 12]
    assert run.report(sent).outcome is Outcome.FAILED
    assert "No space left" in run.report(sent).reason
    assert [body["check"] for body in run.bodies(EventType.HEALTH)] == ["checkpoint"]


def test_the_trainers_own_strategy_saves_whole_checkpoints_too(training: Training) -> None:
    run = training(save_strategy="steps", save_steps=4, save_total_limit=2)
    run.train()
    assert [(c.card.step, c.card.reason) for c in run.trainer.steering.checkpoints.all()] == [
        (8, "strategy"),
        (12, "strategy"),
    ]


def test_the_best_model_is_found_again_at_the_end(training: Training) -> None:
    run = training(
        eval_dataset=Sentences(8),
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=4,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # losses fall, so an early checkpoint is the one to find
    )
    run.train()
    best = run.trainer.state.best_model_checkpoint
    assert best is not None
    assert Path(best).name == f"checkpoint-{run.trainer.state.best_global_step}"
    assert (Path(best) / "checkpoint.json").exists()
