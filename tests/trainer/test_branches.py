"""Loading goes back to a checkpoint as a new branch, and goes on from it to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import TrainerCallback

from control import Command, EventType, Outcome, RunStatus
from tests.trainer.trainings import Run
from trainer import Checkpoints, InteractiveSettings, RunFolder, StartReason, train_run

Training = Callable[..., Run]


def saved_uuid(run: Run, sent: list[Command]) -> str:
    uuid: str = run.report(sent).after["uuid"]
    return uuid


def send_load(run: Run, step: int, save: list[Command], **given: Any) -> list[Command]:
    """At the end of a step, go back to a checkpoint that was saved before."""
    sent: list[Command] = []
    run.at(step, lambda: sent.append(run.link.send("load_checkpoint", uuid=saved_uuid(run, save), **given)))
    return sent


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_branch_equals_the_uninterrupted_run_exactly(training: Training, accumulation: int) -> None:
    whole = training(gradient_accumulation_steps=accumulation)
    whole.train()

    branched = training(gradient_accumulation_steps=accumulation)
    save = branched.send_at(4, "save_checkpoint")
    load = send_load(branched, 8, save, branch_name="again")
    branched.train()

    assert branched.report(load).outcome is Outcome.SUCCESS
    again = branched.metric("loss", "again")
    assert sorted(again) == list(range(5, 13))
    assert again == {step: whole.metric("loss")[step] for step in again}
    assert branched.metric("grad_norm", "again") == {step: whole.metric("grad_norm")[step] for step in again}
    for name, parameter in whole.trainer.model.named_parameters():
        assert parameter.equal(branched.trainer.model.get_parameter(name)), name


def test_a_load_opens_a_segment_that_knows_where_it_forked(training: Training) -> None:
    run = training()
    save = run.send_at(3, "save_checkpoint")
    load = send_load(run, 5, save)
    run.train()

    first, second = run.trainer.steering.folder.segments()
    assert (first.branch, first.reason, first.parent) == ("main", StartReason.FRESH, None)
    assert (second.branch, second.reason) == ("branch-2", StartReason.LOAD)
    assert second.parent is not None
    assert (second.parent.segment, second.parent.step) == (first.id, 3)
    report = run.report(load)
    assert report.before == {"branch": "main", "step": 5}
    assert report.after["branch"] == "branch-2"
    told = run.bodies(EventType.BRANCH)[1]
    assert (told["parent"], told["forked_at"], told["reason"]) == (first.id, 3, "load")


def test_a_load_keeps_where_training_was_as_a_checkpoint(training: Training) -> None:
    run = training()
    save = run.send_at(3, "save_checkpoint")
    send_load(run, 5, save)
    run.train()
    kept = [(c.card.step, c.card.reason) for c in Checkpoints(run.trainer.steering.folder).all()]
    assert kept == [(3, "command"), (5, "before_load")]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"uuid": "nobody"}, "no whole checkpoint is called 'nobody'"),
        ({}, "uuid: field required"),
        ({"uuid": "REAL", "branch_name": "../escaped"}, "cannot be a branch"),
        ({"uuid": "REAL", "branch_name": "main"}, "'main' exists"),
        ({"uuid": "REAL", "branch_name": "MAIN"}, "'MAIN' exists"),
    ],
)
def test_a_wrong_load_is_rejected_and_training_goes_on(training: Training, given: dict[str, str], reason: str) -> None:
    run = training()
    save = run.send_at(2, "save_checkpoint")

    def send() -> None:
        filled = {key: saved_uuid(run, save) if value == "REAL" else value for key, value in given.items()}
        sent.append(run.link.deliver(Command(command="load_checkpoint", arguments=filled)))

    sent: list[Command] = []
    run.at(4, send)
    run.train()
    report = run.report(sent)
    assert report.outcome is Outcome.REJECTED
    assert reason in report.reason
    assert run.step == 12
    assert len(run.trainer.steering.folder.segments()) == 1


def test_damaged_weights_are_refused_before_training_is_left(training: Training) -> None:
    run = training()
    save = run.send_at(2, "save_checkpoint")
    sent: list[Command] = []

    def damage_and_load() -> None:
        path = Path(run.report(save).after["path"]) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        sent.append(run.link.send("load_checkpoint", uuid=saved_uuid(run, save)))

    run.at(4, damage_and_load)
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert "was saved with" in run.report(sent).reason
    assert run.step == 12


def test_a_load_that_fails_while_loading_goes_on_from_where_it_was(training: Training) -> None:
    whole = training()
    whole.train()

    run = training()
    save = run.send_at(2, "save_checkpoint")
    sent: list[Command] = []

    def damage_and_load() -> None:
        path = Path(run.report(save).after["path"]) / "optimizer.pt"
        path.write_bytes(b"x" * path.stat().st_size)  # the size is right, what is inside is not
        sent.append(run.link.send("load_checkpoint", uuid=saved_uuid(run, save)))

    run.at(5, damage_and_load)
    run.train()
    report = run.report(sent)
    assert report.outcome is Outcome.FAILED
    assert "training goes on from where it was" in report.reason
    assert run.metric("loss") == whole.metric("loss")
    assert [segment.branch for segment in run.trainer.steering.folder.segments()] == ["main", "main"]


def test_the_learning_rate_factor_is_the_checkpoints(training: Training) -> None:
    run = training(lr_scheduler_type="constant")
    save = run.send_at(2, "save_checkpoint")
    run.send_at(3, "update_optimizer", lr={"scale": 0.5})
    run.send_at(3, "update_optimizer", max_grad_norm=0.25)
    send_load(run, 6, save, branch_name="b")
    run.train()
    assert run.metric("learning_rate", "main")[5] == 5e-4
    assert run.metric("learning_rate", "b")[5] == 1e-3
    assert run.trainer.args.max_grad_norm == 1.0
    assert run.link.state["optimizer"]["lr_scale"] == 1.0


def test_callbacks_of_others_see_one_end_of_training(training: Training) -> None:
    class Counts(TrainerCallback):
        ends = 0

        def on_train_end(self, *_: object, **__: object) -> None:
            self.ends += 1

    counts = Counts()
    run = training(trainer={"callbacks": [counts]})
    save = run.send_at(3, "save_checkpoint")
    sent = send_load(run, 5, save)
    run.train()
    assert run.report(sent).outcome is Outcome.SUCCESS
    assert counts.ends == 1
    assert counts in run.handler.callbacks


def test_a_load_while_paused_stays_paused(training: Training) -> None:
    run = training()
    thread = run.paused_after(3)
    link = run.link
    saved = link.outcome(link.send("save_checkpoint")).after
    loaded = link.outcome(link.send("load_checkpoint", uuid=saved["uuid"], branch_name="b", save_first=False))
    assert loaded.outcome is Outcome.SUCCESS
    record = RunFolder(run.trainer.steering.folder.path).record()
    assert record is not None
    assert record.status is RunStatus.PAUSED
    assert run.step == 3
    assert link.outcome(link.send("resume_training")).outcome is Outcome.SUCCESS
    thread.join(30)
    assert not thread.is_alive()
    assert sorted(run.metric("loss", "b")) == list(range(4, 13))


def test_retention_never_deletes_where_a_branch_begins(training: Training) -> None:
    run = training(settings={"checkpoint": {"steps": 1}, "keep_checkpoints": 2}, max_steps=14)
    sent: list[Command] = []

    def go_back() -> None:
        third = next(c for c in run.trainer.steering.checkpoints.all() if c.card.step == 5)
        sent.append(run.link.send("load_checkpoint", uuid=third.card.uuid, branch_name="b", save_first=False))

    run.at(6, go_back)
    run.train()
    kept = [(c.card.branch, c.card.step) for c in run.trainer.steering.checkpoints.all()]
    assert kept == [("main", 5), ("main", 6), ("b", 13), ("b", 14)]
    deleted = [body for body in run.bodies(EventType.CHECKPOINT) if body["action"] == "deleted"]
    assert len(deleted) == 4 + 7
    assert not list(run.trainer.steering.folder.path.rglob("deleted-*"))


def test_two_checkpoints_of_one_step_both_stay(training: Training) -> None:
    run = training()
    first, second = run.send_at(4, "save_checkpoint"), run.send_at(4, "save_checkpoint")
    run.train()
    paths = {run.report(first).after["path"], run.report(second).after["path"]}
    assert {Path(path).name for path in paths} == {"checkpoint-4", "checkpoint-4-2"}


def test_files_of_a_checkpoint_are_all_named_on_its_card(training: Training) -> None:
    run = training()
    sent = run.send_at(4, "save_checkpoint")
    run.train()
    path = Path(run.report(sent).after["path"])
    card = msgspec.json.decode((path / "checkpoint.json").read_bytes())
    assert set(card["files"]) | {"checkpoint.json"} == {file.name for file in path.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(card["files"])


def test_a_branch_that_nobody_needs_is_deleted_and_its_name_stays_taken(training: Training) -> None:
    run = training()
    save = run.send_at(3, "save_checkpoint")
    send_load(run, 5, save, branch_name="b", save_first=False)
    kept = run.send_at(6, "save_checkpoint")
    send_load(run, 7, save, branch_name="c", save_first=False)
    odd = [run.send_at(8, "delete_branch", branch=name) for name in ("main", "c", "nobody")]
    gone = run.send_at(8, "delete_branch", branch="b")
    again = run.send_at(9, "delete_branch", branch="b")
    taken = send_load(run, 10, save, branch_name="b", save_first=False)
    run.train()

    reasons = [run.report(each).reason for each in odd]
    assert "'b' begins on 'main'" in reasons[0] or "'c' begins on 'main'" in reasons[0]
    assert "the run goes on from 'c'" in reasons[1]
    assert "there is no 'nobody'; the branches are main, b, c" in reasons[2]
    report = run.report(gone)
    assert (report.outcome, report.after["checkpoints"]) == (Outcome.SUCCESS, 1)
    assert report.after["bytes"] > 0
    assert run.report(again).outcome is Outcome.REJECTED
    assert "'b' exists" in run.report(taken).reason
    assert not Path(run.report(kept).after["path"]).exists()
    assert run.bodies(EventType.BRANCH)[-1] == {"action": "deleted"}
    assert [c.card.branch for c in run.trainer.steering.checkpoints.all()] == ["main"]


def test_two_runs_train_from_one_checkpoint_and_its_retention_knows(training: Training, tmp_path: Path) -> None:
    whole = training(lr_scheduler_type="constant")
    whole.train()
    first = training(tmp_path / "a", lr_scheduler_type="constant", settings={"run": "a"})
    save = first.send_at(4, "save_checkpoint")
    thread = first.paused_after(6)
    path = first.report(save).after["path"]
    second = training(tmp_path / "b", lr_scheduler_type="constant", settings={"run": "b"})
    second.train(path)  # while the first one is there, and paused
    assert first.link.outcome(first.link.send("resume_training")).outcome is Outcome.SUCCESS
    thread.join(30)
    assert second.metric("loss") == {step: loss for step, loss in whole.metric("loss").items() if step > 4}
    assert first.step == 12  # its dropout went on from where the other one left the process's generator

    (segment,) = second.trainer.steering.folder.segments()
    assert segment.parent is not None
    assert (segment.parent.segment, segment.parent.run, segment.parent.origin) == (None, "a", "s000001")
    assert [stretch.segment.id for stretch in second.trainer.steering.folder.chain(segment.id)] == [segment.id]
    told = second.bodies(EventType.BRANCH)[0]
    assert (told["parent_run"], told["parent"], told["forked_at"]) == ("a", "s000001", 4)
    checkpoints = Checkpoints(RunFolder(tmp_path / "a"))
    assert checkpoints.prune(1) == []
    uuid = saved_uuid(first, save)
    assert RunFolder(tmp_path / "a").pinned() == {uuid: ["b"]}
    again = Checkpoints(RunFolder(tmp_path / "b")).latest()
    assert again is not None
    assert again.path == Path(path)


def test_a_run_begins_at_the_checkpoint_that_its_settings_name(training: Training, tmp_path: Path) -> None:
    first = training(tmp_path / "a", settings={"run": "a"})
    save = first.send_at(4, "save_checkpoint")
    first.train()
    settings = {"run": "b", "folder": tmp_path / "b", "begin_at": first.report(save).after["path"], "serve": False}

    def recipe(control: InteractiveSettings) -> Any:
        made = training(tmp_path / "b", settings=control.model_dump())
        losses.append(made)
        return made.trainer

    losses: list[Run] = []
    assert train_run(recipe, InteractiveSettings.model_validate(settings)) == 0
    assert losses[0].metric("loss") == {step: loss for step, loss in first.metric("loss").items() if step > 4}
