"""A run is repeated from its folder, with what was done to it at the same steps, and comes to the same losses."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control import Command, Outcome
from dataset import make_interactive_dataset
from tests.trainer.trainings import Run, Sentences
from trainer import CheckpointMissing, RunFolder, trained_along
from trainer.replay import read_score

Training = Callable[..., Run]


def saved(run: Run, sent: list[Command]) -> str:
    return str(run.report(sent).after["uuid"])


def disturbed(training: Training, **given: Any) -> Run:
    """A run with everything in it that people do."""
    run = training(eval_dataset=Sentences(8), max_steps=14, **given)
    run.send_at(2, "update_optimizer", lr={"scale": 0.5})
    early = run.send_at(3, "save_checkpoint")
    run.send_at(3, "update_optimizer", weight_decay=0.1)
    run.send_at(4, "model_layer_operation", layer_name="transformer.h.0.mlp", operation_name="reset_parameters")
    run.send_at(5, "do_evaluate")
    run.send_at(5, "update_optimizer", lr={"value": -1})  # refused, then as now
    run.at(6, lambda: run.link.send("load_checkpoint", uuid=saved(run, early), branch_name="b"))
    run.send_at(7, "model_layer_parameter_update", layer_name="transformer.drop", param_name="p", value=0.3)
    run.send_at(8, "update_training", max_steps=15)
    run.send_at(8, "pause_training")
    run.at(8, lambda: run.link.send("resume_training"))
    run.send_at(9, "update_training", max_steps=18)  # beyond what an epoch has: a segment of its own
    run.at(11, lambda: run.link.send("load_checkpoint", uuid=saved(run, early), branch_name="c", save_first=False))
    run.send_at(12, "update_optimizer", max_grad_norm=0.1)
    return run


def losses(run: Run) -> dict[tuple[str, int], float]:
    """By branch and step, each as it was trained last."""
    return {(branch, step): loss for branch in ("main", "b", "c") for step, loss in run.metric("loss", branch).items()}


def test_a_run_with_branches_and_interventions_is_repeated_to_the_bit(training: Training) -> None:
    original = disturbed(training)
    original.train()
    folder = original.trainer.steering.folder
    assert len(folder.segments()) == 4

    again = training(eval_dataset=Sentences(8), max_steps=14)
    replayed = again.trainer.replay(folder.path)
    assert replayed.failed == []
    assert losses(again) == losses(original)
    assert again.step == original.step
    for name, parameter in original.trainer.model.named_parameters():
        assert parameter.equal(again.trainer.model.get_parameter(name)), name
    kinds = [(segment.branch, segment.reason, segment.first_step) for segment in folder.segments()]
    assert [(s.branch, s.reason, s.first_step) for s in again.trainer.steering.folder.segments()] == kinds


def test_a_run_that_was_resumed_is_repeated_as_if_it_had_not_died(training: Training, tmp_path: Path) -> None:
    first = training(tmp_path / "run", max_steps=20, settings={"checkpoint": {"steps": 4}})
    first.send_at(3, "update_optimizer", lr={"scale": 0.5})
    first.at(6, lambda: first.trainer.steering.settings and _die())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = training(tmp_path / "run", max_steps=20, settings={"checkpoint": {"steps": 4}})
    stop = second.send_at(10, "stop_training", save=False)
    second.train(True)
    assert second.report(stop).outcome is Outcome.SUCCESS

    again = training(max_steps=20)
    assert again.trainer.replay(tmp_path / "run", until=10).failed == []
    assert again.step == 10
    told = again.metric("loss")
    assert {step: told[step] for step in range(5, 11)} == second.metric("loss")
    assert {step: told[step] for step in range(1, 5)} == {s: v for s, v in first.metric("loss").items() if s < 5}


def _die() -> None:
    raise KeyboardInterrupt(signal.SIGINT)


def test_what_cannot_be_repeated_says_why(training: Training, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no run lies here"):
        read_score(RunFolder(tmp_path / "nowhere"))
    run = training(tmp_path / "twice", max_steps=2)
    run.train()
    training(tmp_path / "twice", max_steps=2).train()
    with pytest.raises(CheckpointMissing, match="was begun from nothing, after others"):
        read_score(RunFolder(tmp_path / "twice"))


def test_a_mixture_is_repeated_with_its_changes_of_weights(training: Training, tmp_path: Path) -> None:
    def mixture() -> Any:
        return make_interactive_dataset({"a": Sentences(40), "b": Sentences(24, first=7)}, {"a": 0.9, "b": 0.1}, seed=5)

    def made(folder: Path) -> Run:
        return training(folder, train_dataset=mixture(), max_steps=16)

    original = made(tmp_path / "original")
    original.send_at(3, "update_dataset_runtime_hyperparameters", weights={"a": 0.1, "b": 0.9})
    save = original.send_at(6, "save_checkpoint")
    original.send_at(7, "update_dataset_runtime_hyperparameters", weights={"a": 1})
    original.at(9, lambda: original.link.send("load_checkpoint", uuid=saved(original, save), branch_name="b"))
    original.train()
    again = made(tmp_path / "again")
    assert again.trainer.replay(tmp_path / "original").failed == []
    assert losses(again) == losses(original)
    keys = [
        [(segment, entry.step, entry.keys) for segment, entry in trained_along(RunFolder(tmp_path / name))]
        for name in ("original", "again")
    ]
    assert keys[0] == keys[1]
