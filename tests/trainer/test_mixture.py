"""The data while it trains: the next batch obeys, what a step trained is booked with it, and waiting serves commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import Trainer

from control import Command, EventType, Outcome
from dataset import InteractiveMixture, make_interactive_dataset
from ingest import LogWriter
from ingest.sqlite import SqliteLog
from tests.dataset.streams import write_tar
from tests.trainer.livedata import either, key, mixture, open_log, post
from tests.trainer.trainings import Run, Sentences, arguments, gpt2
from tests.waiting import until
from trainer import Checkpoints, Every, InteractiveSettings, make_interactive, train_run, trained_along

Training = Callable[..., Run]


@pytest.fixture
def log(tmp_path: Path) -> SqliteLog:
    return open_log(tmp_path / "log")


@pytest.fixture
def writer(log: SqliteLog) -> Iterator[LogWriter]:
    writer = log.writer("annotator")
    yield writer
    writer.close()


def two_sources(**weights: float) -> InteractiveMixture:
    return make_interactive_dataset({"a": Sentences(64), "b": Sentences(64, first=100)}, weights)


def booked(run: Run) -> dict[int, Counter[str]]:
    """How many samples each source gave to each step, from the run's own record."""
    folder = run.trainer.steering.folder
    return {
        entry.step: Counter({source: len(keys) for source, keys in entry.keys.items()})
        for _, entry in trained_along(folder)
    }


# The next batch obeys


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_next_step_is_wholly_on_the_new_weights(training: Training, accumulation: int) -> None:
    run = training(train_dataset=two_sources(a=1, b=0), gradient_accumulation_steps=accumulation)
    sent = run.send_at(5, "update_dataset_runtime_hyperparameters", weights={"a": 0, "b": 1})
    run.train()
    steps = booked(run)
    size = 4 * accumulation
    assert steps == {step: Counter({"a" if step <= 5 else "b": size}) for step in range(1, 13)}
    report = run.report(sent)
    assert (report.outcome, report.step, report.takes_effect_at) == (Outcome.SUCCESS, 6, 6)
    assert (report.before, report.after) == ({"weights": {"a": 1, "b": 0}}, {"weights": {"a": 0, "b": 1}})


def test_a_mixture_change_runs_until_a_step_has_shown_it(training: Training) -> None:
    run = training(train_dataset=two_sources(a=1, b=1))
    sent = run.send_at(5, "update_dataset_runtime_hyperparameters", weights={"a": 0})
    seen: list[list[Outcome]] = []
    run.on("on_step_begin", lambda step: seen.append(run.link.outcomes(sent[0])) if step == 5 else None)
    run.train()
    assert seen == [[]]
    assert run.report(sent).step == 6


def test_weights_set_while_paused_succeed_at_once(training: Training) -> None:
    run = training(train_dataset=two_sources(a=1, b=0))
    thread = run.paused_after(4)
    report = run.link.outcome(run.link.send("update_dataset_runtime_hyperparameters", weights={"a": 0, "b": 2}))
    assert (report.outcome, report.step, report.takes_effect_at) == (Outcome.SUCCESS, 4, 5)
    assert run.step == 4
    run.link.send("resume_training")
    thread.join(30)
    assert booked(run)[5] == Counter({"b": 4})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"weights": {"c": 1}}, 'there is no source "c"; the sources are a, b'),
        ({"weights": {"a": -1}}, "to pause a source, set it to 0"),
        ({"weights": {"a": 0, "b": 0}}, "leave nothing to draw from"),
        ({"weights": {"a": "much"}}, "a weight is a number"),
        ({"weights": [1, 2]}, "weights"),
        ({"temperature": -2}, "temperature: it is -2, but it is a number above 0"),
        ({"warmth": 2}, '"warmth" is no parameter of the mixture; these are: weights, temperature'),
        ({"epochs": {"c": 2}}, 'epochs: there is no source "c"'),
        ({"half_life": {"a": 2}}, 'half_life: "a" has none, it is map:Sentences'),
        ({}, "nothing is given"),
    ],
)
def test_wrong_weights_are_rejected_and_the_old_ones_stay(
    training: Training, arguments: dict[str, Any], reason: str
) -> None:
    run = training(train_dataset=two_sources(a=1, b=0), max_steps=4)
    sent = run.send_at(2, "update_dataset_runtime_hyperparameters", **arguments)
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert reason in run.report(sent).reason
    assert booked(run)[4] == Counter({"a": 4})


def test_a_change_that_a_load_overtakes_is_superseded(training: Training) -> None:
    run = training(train_dataset=two_sources(a=1, b=0))
    save = run.send_at(2, "save_checkpoint")
    changed = run.send_at(5, "update_dataset_runtime_hyperparameters", weights={"a": 0, "b": 1})
    load: list[Command] = []
    run.at(5, lambda: load.append(run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"])))
    run.train()
    assert run.report(changed).outcome is Outcome.SUPERSEDED
    assert run.report(load).outcome is Outcome.SUCCESS
    assert run.trainer.train_dataset.weights.by_source == {"a": 1, "b": 0}
    assert booked(run)[12] == Counter({"a": 4})


# What a step trained


def test_only_completed_steps_are_booked(training: Training, log: SqliteLog, writer: LogWriter) -> None:
    post(writer, range(200))
    data = mixture(log, {"live": 1, "base": 0})
    run = training(train_dataset=data, gradient_accumulation_steps=3, max_steps=5)
    counts: dict[str, list[int]] = {"substep": [], "step": []}

    def live() -> int:
        return sum(end[0] - start[0] for part in data.consumed.sources.get("live", {}).values() for start, end in part)

    run.on("on_substep_end", lambda step: counts["substep"].append(live()))
    run.on("on_step_end", lambda step: counts["step"].append(live()))
    run.train()
    assert counts["step"] == [12, 24, 36, 48, 60]
    assert counts["substep"] == [0, 0, 12, 12, 24, 24, 36, 36, 48, 48]


def test_the_record_of_what_was_trained_names_every_key_once(
    training: Training, log: SqliteLog, writer: LogWriter
) -> None:
    post(writer, range(100))
    run = training(train_dataset=mixture(log, {"live": 1, "base": 0}), max_steps=10)
    run.train()
    keys = [each for _, entry in trained_along(run.trainer.steering.folder) for each in entry.keys["live"]]
    assert len(keys) == len(set(keys)) == 40
    assert run.trainer.steering.newest_sample_time is not None


def test_a_branch_of_a_mixture_equals_the_uninterrupted_run(
    training: Training, log: SqliteLog, writer: LogWriter
) -> None:
    post(writer, range(200))
    change = {"weights": {"base": 1, "live": 3}}
    whole = training(train_dataset=mixture(log))
    whole.send_at(3, "update_dataset_runtime_hyperparameters", **change)
    whole.train()

    run = training(train_dataset=mixture(log))
    run.send_at(3, "update_dataset_runtime_hyperparameters", **change)
    save = run.send_at(6, "save_checkpoint")
    run.at(9, lambda: run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"], branch_name="b"))
    run.train()
    assert run.metric("loss", "b") == {step: loss for step, loss in whole.metric("loss").items() if step > 6}
    mine = [(entry.step, entry.keys) for _, entry in trained_along(run.trainer.steering.folder)]
    assert mine == [(entry.step, entry.keys) for _, entry in trained_along(whole.trainer.steering.folder)]


def test_a_resume_in_another_process_life_goes_on_with_the_next_unseen_sample(
    training: Training, tmp_path: Path, log: SqliteLog, writer: LogWriter
) -> None:
    post(writer, range(200))
    whole = training(train_dataset=mixture(log))
    whole.train()

    folder = tmp_path / "life"
    first = training(folder, train_dataset=mixture(log), max_steps=12, settings={"checkpoint": {"steps": 4}})
    first.at(6, raise_end)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = training(folder, train_dataset=mixture(log))
    second.train(resume=True)
    assert second.metric("loss") == {step: loss for step, loss in whole.metric("loss").items() if step > 4}
    segments = second.trainer.steering.folder.segments()
    assert [(s.branch, s.reason.value, s.first_step) for s in segments] == [("main", "fresh", 0), ("main", "resume", 4)]
    keys = [k for _, entry in trained_along(second.trainer.steering.folder) for k in entry.keys.get("live", [])]
    assert len(keys) == len(set(keys))


def test_a_crash_before_the_first_checkpoint_begins_anew_on_the_same_branch(training: Training, tmp_path: Path) -> None:
    folder = tmp_path / "life"
    first = training(folder, train_dataset=two_sources(a=1, b=1))
    first.at(3, raise_end)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = training(folder, train_dataset=two_sources(a=1, b=1))
    second.train(resume=True)
    steps = [entry.step for _, entry in trained_along(second.trainer.steering.folder)]
    assert steps == list(range(1, 13))
    assert second.trainer.steering.folder.branches() == ["main"]


def test_a_run_over_other_data_than_it_was_saved_with_is_a_configuration_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = InteractiveSettings(folder=tmp_path / "run", run="other", serve=False, checkpoint=Every(steps=1))

    def recipe(data: InteractiveMixture, max_steps: int) -> Callable[[InteractiveSettings], Any]:
        return lambda control: make_interactive(Trainer)(
            model=gpt2(), args=arguments(tmp_path, max_steps=max_steps), train_dataset=data, control=control
        )

    assert train_run(recipe(two_sources(a=1, b=1), 2), settings) == 0
    three = make_interactive_dataset({"a": Sentences(64), "c": Sentences(64)})
    assert train_run(recipe(three, 4), settings) == 78
    assert 'the state has a source "b"' in caplog.text
    assert train_run(recipe(two_sources(a=1, b=1), 4), settings) == 0


# Waiting for data


def test_commands_act_while_the_loader_waits(training: Training, log: SqliteLog, writer: LogWriter) -> None:
    post(writer, range(9))
    run = training(train_dataset=mixture(log, {"live": 1, "base": 0}), max_steps=6, eval_dataset=Sentences(8))
    thread = run.in_background()
    until(lambda: run.step == 2)
    link = run.link
    saved = link.outcome(link.send("save_checkpoint"))
    assert (saved.outcome, saved.after["step"]) == (Outcome.SUCCESS, 2)
    assert link.outcome(link.send("do_evaluate")).outcome is Outcome.SUCCESS
    assert link.outcome(link.send("update_optimizer", lr={"scale": 0.5})).outcome is Outcome.SUCCESS
    assert run.step == 2
    changed = link.outcome(link.send("update_dataset_runtime_hyperparameters", weights={"live": 0, "base": 1}))
    assert (changed.outcome, changed.step) == (Outcome.SUCCESS, 3)
    thread.join(30)
    assert not thread.is_alive()
    assert booked(run)[3] == Counter({"base": 4})
    state = msgspec.json.decode((Path(saved.after["path"]) / "mixture-0.json").read_bytes())
    assert state["kind"] == "stovetop mixture"


@pytest.mark.parametrize("accumulation", [1, 2])
def test_stop_while_waiting_takes_no_step(
    training: Training, log: SqliteLog, writer: LogWriter, accumulation: int
) -> None:
    post(writer, range(4 * accumulation * 2 + 4 * (accumulation - 1) + 1))
    run = training(
        train_dataset=mixture(log, {"live": 1, "base": 0}), max_steps=6, gradient_accumulation_steps=accumulation
    )
    thread = run.in_background()
    until(lambda: run.step == 2)
    sent = run.link.send("stop_training", save=True)
    thread.join(30)
    assert not thread.is_alive()
    assert run.step == 2
    assert run.link.outcome(sent).outcome is Outcome.SUCCESS
    assert sorted(booked(run)) == [1, 2]


def test_pause_and_load_while_waiting(training: Training, log: SqliteLog, writer: LogWriter) -> None:
    post(writer, range(9))
    run = training(train_dataset=mixture(log, {"live": 1, "base": 0}), max_steps=4)
    saved = run.send_at(1, "save_checkpoint")
    thread = run.in_background()
    until(lambda: run.step == 2)
    link = run.link
    assert link.outcome(link.send("pause_training")).outcome is Outcome.SUCCESS
    loaded = link.outcome(link.send("load_checkpoint", uuid=run.report(saved).after["uuid"], branch_name="b"))
    assert loaded.outcome is Outcome.SUCCESS
    assert run.step == 1
    post(writer, range(9, 20))
    link.send("resume_training")
    thread.join(30)
    assert not thread.is_alive()
    keys = [each for _, entry in trained_along(run.trainer.steering.folder) for each in entry.keys["live"]]
    # the second step's samples were undone by the load, and come again
    assert sorted(keys) == [key(number) for number in range(16)]


def test_a_live_sample_is_trained_soon_after_it_is_there(training: Training, log: SqliteLog, writer: LogWriter) -> None:
    run = training(train_dataset=mixture(log, {"live": 1, "base": 0}), max_steps=2)
    thread = run.in_background()
    until(lambda: bool(run.bodies(EventType.BRANCH)))
    post(writer, range(8))
    thread.join(30)
    assert run.step == 2


# What is told


def test_the_mixture_is_told_with_what_was_asked_and_what_was_drawn(training: Training) -> None:
    run = training(train_dataset=two_sources(a=3, b=1), settings={"statistics": {"steps": 4}})
    run.train()
    first, *told = run.bodies(EventType.MIXTURE)
    assert {name: (of["share"], of["seen"]) for name, of in first["sources"].items()} == {
        "a": (0.75, None),
        "b": (0.25, None),
    }
    assert len(told) == 3
    source = told[-1]["sources"]["a"]
    assert (source["weight"], source["share"]) == (3, 0.75)
    assert 0.4 < source["seen"] < 1
    assert told[-1]["total"] == 48
    assert run.link.state["mixture"]["version"] == 0
    assert run.link.state["dataset"]["interactive_parameters"]["weights"] == {"a": 3, "b": 1}


def test_the_mixture_is_told_of_a_run_that_is_paused_before_its_clock_strikes(training: Training) -> None:
    def told() -> dict[str, Any]:
        return {name: source["weight"] for name, source in run.link.state["mixture"]["sources"].items()}

    run = training(train_dataset=two_sources(a=1, b=0), settings={"statistics": {"seconds": 100_000}})
    thread = run.paused_after(1)
    assert told() == {"a": 1, "b": 0}
    saved = run.link.outcome(run.link.send("save_checkpoint"))
    run.link.outcome(run.link.send("update_dataset_runtime_hyperparameters", weights={"b": 3}))
    assert told() == {"a": 1, "b": 3}
    run.link.outcome(run.link.send("load_checkpoint", uuid=saved.after["uuid"]))
    assert told() == {"a": 1, "b": 0}
    assert run.step == 1
    run.link.send("stop_training")
    thread.join(30)


def test_the_mixture_is_told_while_data_is_waited_for(training: Training, log: SqliteLog, writer: LogWriter) -> None:
    post(writer, range(4))
    run = training(train_dataset=mixture(log, {"live": 1, "base": 0}), settings={"statistics": {"seconds": 0.05}})
    thread = run.in_background()
    until(lambda: run.step == 1)
    before = len(run.bodies(EventType.MIXTURE))
    until(lambda: len(run.bodies(EventType.MIXTURE)) > before + 2)
    assert run.bodies(EventType.MIXTURE)[-1]["sources"]["live"]["samples"] == 4
    run.link.send("stop_training")
    thread.join(30)
    assert not thread.is_alive()


def test_a_stream_without_an_end_needs_no_max_steps(training: Training) -> None:
    run = training(train_dataset=two_sources(a=1, b=1), max_steps=-1)
    run.send_at(5, "stop_training")
    run.train()
    assert run.step == 5


def test_a_plain_dataset_keeps_the_loader_of_transformers(training: Training) -> None:
    run = training(max_steps=2)
    sent = run.send_at(1, "update_dataset_runtime_hyperparameters", weights={"a": 1})
    run.train()
    assert "no interactive parameters" in run.report(sent).reason
    assert not list(trained_along(run.trainer.steering.folder))


class Shifted(Sentences):
    """A dataset with a parameter that can be changed; remembers with which value each sample was read."""

    def __init__(self, count: int = 400) -> None:
        super().__init__(count)
        self.shift = 0
        self.read: list[int] = []

    def __getitem__(self, index: int) -> Any:
        self.read.append(self.shift)
        return super().__getitem__(index)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_parameter_of_the_papers_form_is_believed_when_a_step_is_wholly_on_it(
    training: Training, accumulation: int
) -> None:
    interactive: Any = make_interactive_dataset(Shifted)
    data = interactive(interactive_parameter_names=["shift"])
    run = training(train_dataset=data, gradient_accumulation_steps=accumulation)
    sent = run.send_at(5, "update_dataset_runtime_hyperparameters", shift=3)
    wrong = run.send_at(6, "update_dataset_runtime_hyperparameters", shift="far")
    save = run.send_at(8, "save_checkpoint")
    later = run.send_at(9, "update_dataset_runtime_hyperparameters", shift=9)
    run.at(11, lambda: run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"], branch_name="b"))
    run.train()
    report = run.report(sent)
    assert (report.outcome, report.step, report.takes_effect_at) == (Outcome.SUCCESS, 7, 7)
    size = 4 * accumulation
    assert set(data.read[6 * size : 7 * size]) == {3}
    assert 0 in data.read[5 * size : 6 * size]  # the batch that was fetched ahead
    assert run.report(wrong).outcome is Outcome.REJECTED
    assert run.report(later).outcome is Outcome.SUCCESS
    assert data.shift == 3  # the checkpoint's own


class Numbers(Sentences):
    """A dataset that says how it was made."""

    @property
    def construction(self) -> dict[str, Any]:
        return {"count": self.count, "first": self.first}

    def reconstructed(self, **changes: Any) -> Numbers:
        return Numbers(**{**self.construction, **changes})

    def __getitem__(self, index: int) -> Any:
        used.add(self.first)
        if self.first == 13:
            raise RuntimeError("no luck")
        return super().__getitem__(index)


used: set[int] = set()


def test_new_data_from_the_next_step_with_loader_and_steps_that_fit(training: Training) -> None:
    run = training(train_dataset=Numbers(16), max_steps=-1, num_train_epochs=2)
    sent = run.send_at(3, "update_dataset", count=32, first=500)
    seen: list[set[int]] = []
    run.at(3, used.clear)
    run.at(4, lambda: seen.append(set(used)))
    run.train()
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert seen == [{500}]
    assert run.step == 2 * 32 // 4
    assert run.metric("learning_rate")[16] > 0
    kept = Checkpoints(run.trainer.steering.folder).all()[-1]
    assert kept.card.reason == "new data"
    assert [s.note for s in run.trainer.steering.folder.segments()] == ["", "new data"]


def test_shards_are_added_to_a_mixture_and_a_source_is_taken_out_while_it_trains(
    training: Training, tmp_path: Path
) -> None:
    write_tar(tmp_path / "more.tar", [key(number) for number in range(40)], lambda name: {"json": b'{"number": 5}'})

    def data() -> InteractiveMixture:
        lists = {"a": Sentences(64), "b": Sentences(64, first=100)}
        return make_interactive_dataset(lists, {"a": 1, "b": 1}, decode=either)

    run = training(tmp_path / "life", train_dataset=data(), settings={"checkpoint": {"steps": 1}})
    wrong = run.send_at(2, "update_dataset", sources={"more": "/nowhere"})
    sent = run.send_at(
        4, "update_dataset", sources={"more": {"path": str(tmp_path / "more.tar"), "weight": 5}, "b": None}
    )
    run.train()
    assert "there is nothing at /nowhere" in run.report(wrong).reason
    assert run.report(sent).outcome is Outcome.SUCCESS
    steps = booked(run)
    assert {name for step in range(1, 5) for name in steps[step]} == {"a", "b"}
    assert {name for step in range(5, 13) for name in steps[step]} == {"a", "more"}
    keys = [each for _, entry in trained_along(run.trainer.steering.folder) for each in entry.keys.get("a", [])]
    assert len(keys) == len(set(keys))

    again = training(tmp_path / "life", train_dataset=data(), max_steps=14)  # the script knows nothing of it
    again.train(resume=True)
    assert set(again.trainer.train_dataset.sources) == {"a", "more"}
    assert {name for step in (13, 14) for name in booked(again)[step]} <= {"a", "more"}


def test_new_data_that_cannot_be_made_leaves_the_old(training: Training) -> None:
    run = training(train_dataset=Numbers(64))
    wrong = run.send_at(3, "update_dataset", size=3)
    broken = run.send_at(3, "update_dataset", count="many")
    run.train()
    assert run.report(wrong).outcome is Outcome.REJECTED
    assert "the arguments are count, first" in run.report(wrong).reason
    assert run.report(broken).outcome is Outcome.FAILED
    assert run.step == 12
    assert run.trainer.train_dataset.count == 64


def raise_end() -> None:
    raise KeyboardInterrupt
