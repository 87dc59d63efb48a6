"""What is seen of a training beside its loss, what is said of it, and that looking changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer

from control import Command, EventType, Outcome
from tests.trainer.trainings import Run, Sentences, gpt2
from trainer.health import Alarm, LossWatch, Probe, poisoned_layers
from trainer.health.probe import row_losses

Training = Callable[..., Run]
ALWAYS = {"every": 1, "share": 1e9}


def findings(run: Run, check: str) -> list[dict[str, Any]]:
    return [body for body in run.bodies(EventType.HEALTH) if body["check"] == check]


def poison(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[0] = math.nan


def test_looking_changes_no_bit_of_the_training(training: Training) -> None:
    looked = training(settings={"health": ALWAYS}, gradient_accumulation_steps=2)
    looked.train()
    blind = training(settings={"health": {"enabled": False}}, gradient_accumulation_steps=2)
    blind.train()
    assert looked.metric("loss") == blind.metric("loss")
    assert looked.metric("grad_norm") == blind.metric("grad_norm")
    for name, parameter in blind.trainer.model.named_parameters():
        assert parameter.equal(looked.trainer.model.get_parameter(name)), name
    assert not any(module._forward_hooks for module in looked.trainer.model.modules())


def test_each_layer_is_told_by_its_numbers(training: Training) -> None:
    run = training(settings={"health": ALWAYS}, lr_scheduler_type="constant", max_steps=5)
    run.train()
    std = run.metric("health/std/transformer.h.0")
    assert sorted(std) == [2, 3, 4, 5]  # the first step shows how weights were made, not how they are trained
    assert all(value > 0 for value in std.values())
    assert 0 <= run.metric("health/dead/transformer.h.0.mlp.act")[3] < 0.5
    assert 1e-5 < run.metric("health/update/transformer.h.0")[3] < 1e-1
    assert run.metric("health/gradient/transformer.h.0")[3] > 0
    assert not run.bodies(EventType.HEALTH)


def test_the_share_of_the_time_bounds_how_often_it_looks(training: Training) -> None:
    run = training(settings={"health": {"every": 1, "share": 1e-6}}, max_steps=12)
    run.train()
    assert len(run.metric("health/std/transformer.h.0")) == 1


def test_numbers_of_a_probe_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias[:3] = -1e9  # three units that never fire
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(model)
    probe.attach()
    output = model(torch.randn(16, 4))
    output.square().mean().backward()
    before = torch.cat([model[2].weight.detach().flatten(), model[2].bias.detach()])
    probe.before_update()
    optimizer.step()
    probe.after_update()
    seen = {each.layer: each for each in probe.read()}
    probe.detach()
    assert seen["1"].dead == pytest.approx(3 / 8)
    assert seen["2"].std == pytest.approx(float(output.detach().std()))
    after = torch.cat([model[2].weight.detach().flatten(), model[2].bias.detach()])
    ratio = torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before)
    assert seen["2"].update == pytest.approx(float(ratio), rel=1e-4)
    assert probe.read() == []


def test_dead_units_are_found_and_the_layer_around_them_is_suggested(training: Training) -> None:
    model = gpt2()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.bias.fill_(-1e4)
    run = training(model=model, settings={"health": ALWAYS}, max_steps=4)
    run.train()
    (found,) = findings(run, "dead_units")
    assert (found["layer"], found["value"]) == ("transformer.h.0.mlp.act", 1.0)
    (suggested,) = found["suggest"]
    assert suggested["arguments"]["layer_name"] == "transformer.h.0.mlp"


def test_a_rate_that_moves_weights_too_far_is_said_once(training: Training) -> None:
    run = training(settings={"health": ALWAYS}, learning_rate=10.0, lr_scheduler_type="constant", max_steps=6)
    run.train()
    found = [each for each in findings(run, "update_too_large") if each["layer"] == "transformer.h.0"]
    assert len(found) == 1
    assert found[0]["value"] > 0.1


class Spikes(Trainer):  # type: ignore[misc]
    """The loss of one step is thirty times what it is."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss * 30 if self.state.global_step in (24, 25) else loss


def test_a_spike_of_the_loss_is_an_event(training: Training) -> None:
    run = training(trainer_class=Spikes, max_steps=32, max_grad_norm=1e-3)
    run.train()
    (found,) = findings(run, "loss_spike")
    assert "the loss of step 25 is" in found["message"]
    assert found["value"] == run.metric("loss")[25]


def test_a_spike_is_said_when_it_begins_and_a_new_level_becomes_the_usual_one() -> None:
    watch = LossWatch()
    found = [watch.see(step, 1.0 + 0.01 * (step % 7)) for step in range(40)]
    assert not any(found)
    assert watch.see(40, 5.0) is not None
    assert watch.see(41, 6.0) is None  # the same spike
    assert [watch.see(step, 1.0) for step in range(42, 60)] == [None] * 18
    assert watch.see(60, 5.0) is not None
    levels = [watch.see(step, 5.0 + 0.01 * (step % 5)) for step in range(61, 200)]
    assert not any(levels)
    assert watch.see(200, 9.0) is not None
    assert watch.see(201, math.nan) is None


def test_an_alarm_is_silent_while_it_stands() -> None:
    alarm = Alarm()
    assert [alarm.new("dead", "a", wrong) for wrong in (False, True, True, False, True)] == [
        False, True, False, False, True,
    ]  # fmt: skip
    assert alarm.new("dead", "b", True)


def test_a_step_that_overflowed_is_an_event_and_its_numbers_are_not_hidden(training: Training) -> None:
    run = training(max_steps=4)

    class Skips:
        """What accelerate says after a step that its scaler left out."""

        def __get__(self, accelerator: Any, _: Any = None) -> bool:
            return bool(run.step == 2)

    accelerator = run.trainer.accelerator
    kind = type(accelerator)
    accelerator.__class__ = type("Skipping", (kind,), {"optimizer_step_was_skipped": Skips()})
    run.train()
    (found,) = findings(run, "overflow")
    assert "left the step out" in found["message"]
    (event,) = [e for e in run.link.events if e.type is EventType.HEALTH]
    assert event.step == 2
    assert sorted(run.metric("loss")) == [1, 2, 3, 4]


class Slow(Sentences):
    """Every row takes its time."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        import time

        time.sleep(0.02)
        return super().__getitem__(index)


def test_steps_that_wait_for_data_are_an_event(training: Training) -> None:
    run = training(train_dataset=Slow(256), max_steps=36)
    run.train()
    (found,) = findings(run, "data_starvation")
    assert found["value"] > 0.5
    assert run.metric("data_seconds")[20] > 0.05


def test_the_loss_of_each_row_is_the_models_own() -> None:
    model = gpt2(dropout=0.0)
    rows = torch.stack([Sentences()[index]["input_ids"] for index in (1, 5, 9)])
    output = model(input_ids=rows, labels=rows)
    losses = row_losses(output, rows)
    assert losses is not None
    assert float(losses.mean()) == pytest.approx(float(output.loss.detach()), rel=1e-5)
    assert row_losses({"logits": output.logits}, None) is None


def test_a_run_poisoned_in_one_layer_recovers_through_commands_alone(training: Training) -> None:
    run = training(
        settings={"health": {"every": 1000}, "ema": {"decay": 0.9}}, max_steps=40, lr_scheduler_type="constant"
    )
    layer = "transformer.h.0.mlp.c_fc"
    spoilt = run.trainer.model.get_submodule(layer)

    def spoil() -> None:
        poison(spoilt)
        run.trainer.optimizer.optimizer.state[spoilt.weight]["exp_avg"].fill_(math.nan)

    run.at(10, spoil)
    sent: list[Command] = []

    def obey() -> None:
        """An operator does what the finding suggests, for as long as there is one."""
        for command in [c for found in findings(run, "poisoned_layers")[-1:] for c in found["suggest"]]:
            sent.append(run.link.send(command["command"], **command["arguments"]))

    run.at(13, obey)
    run.train()
    (found,) = findings(run, "poisoned_layers")
    assert found["layers"] == [layer]
    assert "change no weight" in findings(run, "not_finite")[0]["message"]
    assert [run.link.outcome(each).outcome for each in sent] == [Outcome.SUCCESS]
    losses = run.metric("loss")
    assert [losses[step] for step in (11, 12, 13)] == [None] * 3
    assert all(math.isfinite(losses[step]) for step in range(14, 41))
    assert losses[40] < losses[14]
    assert poisoned_layers(run.trainer.model) == []
    ema = run.trainer.steering.ema
    assert ema is not None
    assert poisoned_layers(run.trainer.model, ema.tensors()) == []
    for state in run.trainer.optimizer.optimizer.state.values():
        assert all(bool(torch.isfinite(value).all()) for value in state.values() if isinstance(value, torch.Tensor))
