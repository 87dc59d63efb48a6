"""Sources of the app's own kinds, added by an operator while it trains, and there again after a restart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer

from control import Command, Outcome
from dataset import InteractiveMixture, IterableSource, make_interactive_dataset, register_source
from tests.dataset.streams import write_tar
from tests.trainer.livedata import either, key
from tests.trainer.test_mixture import Training, booked
from tests.trainer.trainings import LENGTH, WORDS, Run, Sentences, arguments, gpt2
from trainer import InteractiveSettings, make_interactive, train_run, trained_along


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


def two_lists() -> InteractiveMixture:
    return make_interactive_dataset({"a": Sentences(64), "b": Sentences(64, first=100)}, decode=either)


def trained(run: Run) -> list[tuple[int, dict[str, list[str]]]]:
    return [(entry.step, entry.keys) for _, entry in trained_along(run.trainer.steering.folder)]


def shards(path: Path) -> dict[str, Any]:
    """A source of 40 samples, as an operator adds it."""
    write_tar(path, [key(number) for number in range(40)], lambda name: {"json": b'{"number": 5}'})
    return {"path": str(path), "weight": 1}


def test_a_checkpoint_from_before_a_source_was_added_and_one_removed_is_gone_back_to(
    training: Training, tmp_path: Path
) -> None:
    """The branch has the checkpoint's sources, where they stood, and is the run that was never changed, row by row."""
    whole = training(train_dataset=two_lists())
    whole.train()
    run = training(train_dataset=two_lists())
    save = run.send_at(3, "save_checkpoint")
    changed = run.send_at(5, "update_dataset", sources={"more": shards(tmp_path / "more.tar"), "b": None})
    load: list[Command] = []
    run.at(8, lambda: load.append(run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"])))
    names: dict[int, set[str]] = {}
    run.on("on_step_end", lambda step: names.setdefault(step, set(run.trainer.train_dataset.sources)))
    run.train()
    assert run.report(changed).outcome is Outcome.SUCCESS
    assert run.report(load).outcome is Outcome.SUCCESS
    assert (names[5], names[7]) == ({"a", "b"}, {"a", "more"})
    assert set(run.trainer.train_dataset.sources) == {"a", "b"}
    assert trained(run) == trained(whole)


@pytest.mark.parametrize("gone", [False, True])
def test_a_checkpoint_with_a_source_that_was_taken_out_since_brings_it_back_or_is_refused_by_name(
    training: Training, tmp_path: Path, gone: bool
) -> None:
    added = shards(tmp_path / "more.tar")
    run = training(train_dataset=two_lists())
    run.send_at(2, "update_dataset", sources={"more": added, "b": None})
    save = run.send_at(5, "save_checkpoint")
    run.send_at(7, "update_dataset", sources={"more": None, "late": shards(tmp_path / "late.tar")})
    if gone:
        run.at(9, (tmp_path / "more.tar").unlink)
    load: list[Command] = []
    run.at(9, lambda: load.append(run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"])))
    run.train()
    assert run.step == 12
    steps = trained(run)
    assert [step for step, _ in steps] == list(range(1, 13))
    if gone:
        assert run.report(load).outcome is Outcome.FAILED
        assert "more.tar" in run.report(load).reason
        assert set(run.trainer.train_dataset.sources) == {"a", "late"}
        assert {name for step, keys in steps if step > 9 for name in keys} == {"a", "late"}
    else:
        assert run.report(load).outcome is Outcome.SUCCESS
        assert set(run.trainer.train_dataset.sources) == {"a", "more"}
        assert {name for step, keys in steps if step > 5 for name in keys} == {"a", "more"}
    for name in ("a", "more"):
        keys = [each for _, step in steps for each in step.get(name, [])]
        assert len(keys) == len(set(keys))
