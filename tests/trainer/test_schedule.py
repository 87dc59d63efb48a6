"""A factor over every learning-rate schedule, from the very next step, kept in the scheduler's own state."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler
from transformers.optimization import get_scheduler

from control import CommandName, Outcome
from tests.trainer.trainings import Run
from trainer import CommandRejected
from trainer.schedule import LearningRate, make_scalable

OF_TRANSFORMERS = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {},
    "polynomial": {},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {},
    "reduce_lr_on_plateau": {},
    "cosine_with_min_lr": {"min_lr": 1e-5},
    "warmup_stable_decay": {"num_decay_steps": 5},
    "greedy": {"min_lr": 1e-6, "patience": 2, "eps": 1e-12},
}
OF_TORCH: dict[str, Callable[[Any], Any]] = {
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 20),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=40),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(optimizer, 20)],
        milestones=[5],
    ),
}


def made(name: str) -> tuple[torch.optim.Optimizer, Any]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 1e-3 * times} for times in (1, 2)]
    optimizer = torch.optim.AdamW(groups)
    if name in OF_TORCH:
        return optimizer, OF_TORCH[name](optimizer)
    return optimizer, get_scheduler(name, optimizer, 5, 40, OF_TRANSFORMERS[name])


def stepped(name: str, optimizer: torch.optim.Optimizer, scheduler: Any, metric: float) -> list[float]:
    optimizer.step()
    scheduler.step(*((metric,) if name in ("reduce_lr_on_plateau", "greedy") else ()))
    return [float(group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("name", [*OF_TRANSFORMERS, *OF_TORCH])
def test_the_factor_holds_from_the_next_step_and_over_saving(name: str) -> None:
    plain_optimizer, plain = made(name)
    optimizer, scheduler = made(name)
    make_scalable(scheduler)
    for step in range(30):
        factor = 0.5 if step > 7 else 1.0
        expected = [factor * rate for rate in stepped(name, plain_optimizer, plain, 1.0 / (step // 3 + 1))]
        assert stepped(name, optimizer, scheduler, 1.0 / (step // 3 + 1)) == expected
        assert [float(rate) for rate in scheduler.get_last_lr()] == expected
        if step == 7:
            LearningRate(scheduler).set_scale(0.5)
            assert [group["lr"] for group in optimizer.param_groups] == [0.5 * rate for rate in expected]

    stored = io.BytesIO()
    torch.save(scheduler.state_dict(), stored)
    stored.seek(0)
    other_optimizer, other = made(name)
    make_scalable(other)
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(torch.load(stored, weights_only=True))
    assert LearningRate(other).scale == 0.5
    assert stepped(name, other_optimizer, other, 0.1) == stepped(name, optimizer, scheduler, 0.1)


def test_a_state_without_a_factor_has_the_factor_one() -> None:
    optimizer, plain = made("linear")
    stepped("linear", optimizer, plain, 0.0)
    other_optimizer, other = made("linear")
    make_scalable(other)
    LearningRate(other).set_scale(0.1)
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(plain.state_dict())
    assert LearningRate(other).scale == 1.0
    assert stepped("linear", other_optimizer, other, 0.0) == stepped("linear", optimizer, plain, 0.0)


def test_a_plain_scheduler_goes_on_from_a_state_with_a_factor() -> None:
    optimizer, scheduler = made("cosine")
    make_scalable(scheduler)
    stepped("cosine", optimizer, scheduler, 0.0)
    other_optimizer, plain = made("cosine")
    plain.load_state_dict(scheduler.state_dict())
    assert stepped("cosine", other_optimizer, plain, 0.0) == stepped("cosine", optimizer, scheduler, 0.0)


def test_a_rate_held_in_a_tensor_is_changed_in_place() -> None:
    rate = torch.tensor(1e-3)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=rate, capturable=False, foreach=False)
    scheduler = make_scalable(lr_scheduler.ExponentialLR(optimizer, 0.5))
    held = optimizer.param_groups[0]["lr"]
    LearningRate(scheduler).set_scale(0.5)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(5e-4)


def test_what_is_no_schedule_is_refused_by_name() -> None:
    with pytest.raises(CommandRejected, match="object keeps the rates to itself"):
        LearningRate(object())


@pytest.mark.parametrize(
    "kind",
    [
        *("linear", "cosine", "cosine_with_restarts", "polynomial"),
        *("constant", "constant_with_warmup", "inverse_sqrt", "warmup_stable_decay"),
    ],
)
def test_a_command_scales_the_rate_of_the_very_next_step(training: Callable[..., Run], kind: str) -> None:
    options = {"num_decay_steps": 4} if kind == "warmup_stable_decay" else {}
    given: dict[str, Any] = {"lr_scheduler_type": kind, "warmup_steps": 2, "lr_scheduler_kwargs": options}
    whole = training(**given)
    whole.train()
    run = training(**given)
    sent = run.send_at(5, "update_optimizer", lr={"scale": 0.5})
    run.train()
    plain, scaled = whole.metric("learning_rate"), run.metric("learning_rate")
    assert scaled == {step: rate * (0.5 if step > 5 else 1.0) for step, rate in plain.items()}
    report = run.report(sent)
    assert (report.outcome, report.step, report.takes_effect_at) == (Outcome.SUCCESS, 5, 6)
    assert report.after["lr"] == scaled[6]


def test_an_absolute_rate_is_the_next_steps_and_the_schedule_goes_on_from_it(training: Callable[..., Run]) -> None:
    run = training()
    sent = run.send_at(5, CommandName.UPDATE_OPTIMIZER, lr={"value": 1e-5})
    run.train()
    rates = run.metric("learning_rate")
    assert rates[6] == pytest.approx(1e-5, rel=1e-12)
    assert rates[7] == pytest.approx(1e-5 * 6 / 7, rel=1e-9)
    assert run.report(sent).before["lr"] == pytest.approx(1e-3 * 7 / 12)


def test_the_top_of_the_schedule_can_be_set_while_it_warms_up(training: Callable[..., Run]) -> None:
    run = training(warmup_steps=6, lr_scheduler_type="constant_with_warmup")
    sent = run.send_at(2, "update_optimizer", lr={"peak": 5e-4})
    run.train()
    rates = run.metric("learning_rate")
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert rates[3] == pytest.approx(5e-4 * 2 / 6)
    assert rates[12] == pytest.approx(5e-4)
