"""Sources of the app's own kinds, added by an operator while it trains, and there again after a restart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import Trainer

from control import Outcome
from dataset import InteractiveMixture, IterableSource, make_interactive_dataset, register_source
from tests.trainer.test_mixture import Training, booked
from tests.trainer.trainings import LENGTH, WORDS, Sentences, arguments, gpt2
from trainer import InteractiveSettings, make_interactive, train_run


class Counting(IterableDataset[dict[str, torch.Tensor]]):
    """Rows that count up from a word."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Any:
        for number in range(100):
            row = (torch.arange(LENGTH) + self.first + number) % WORDS
            yield {"input_ids": row, "labels": row}


def counting(first: int) -> IterableSource:
    return IterableSource(Counting(first))


register_source("counting", counting)


def lists() -> InteractiveMixture:
    return make_interactive_dataset({"a": Sentences(64)})


def test_a_source_of_a_registered_kind_is_added_and_is_there_after_a_restart(
    training: Training, tmp_path: Path
) -> None:
    run = training(tmp_path / "life", train_dataset=lists(), settings={"checkpoint": {"steps": 1}})
    added = {"kind": "counting", "arguments": {"first": 3}, "weight": 4}
    wrong = run.send_at(2, "update_dataset", sources={"more": {**added, "arguments": {"first": "three"}}})
    sent = run.send_at(4, "update_dataset", sources={"more": added})
    run.train()
    assert run.report(wrong).outcome is Outcome.REJECTED
    assert "\"first\" is 'three' (Expected `int`, got `str`)" in run.report(wrong).reason
    assert run.report(sent).outcome is Outcome.SUCCESS
    steps = booked(run)
    assert {name for step in range(1, 5) for name in steps[step]} == {"a"}
    assert sum((steps[step] for step in range(5, 13)), Counter[str]())["more"] > 16

    again = training(tmp_path / "life", train_dataset=lists(), max_steps=14)  # the script knows nothing of it
    again.train(resume=True)
    assert set(again.trainer.train_dataset.sources) == {"a", "more"}


def test_a_kind_that_is_not_registered_any_more_is_a_configuration_error(
    training: Training, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    run = training(tmp_path / "life", train_dataset=lists(), settings={"checkpoint": {"steps": 1}}, max_steps=3)
    run.send_at(1, "update_dataset", sources={"more": {"kind": "counting", "arguments": {"first": 3}}})
    run.train()

    def recipe(control: InteractiveSettings) -> Any:
        given = arguments(tmp_path, max_steps=5)
        return make_interactive(Trainer)(model=gpt2(), args=given, train_dataset=lists(), control=control)

    settings = InteractiveSettings(folder=run.trainer.steering.folder.path, run="life", serve=False, starts=True)
    with monkeypatch.context() as forgotten:
        forgotten.delitem(register_source.__globals__["_factories"], "counting")
        assert train_run(recipe, settings) == 78
    assert "source \"more\": the kind 'counting' is not registered" in caplog.text
