"""What people have set outlives the death of the process that it was set in; through the real control server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control import ControlClient, EventType, NoOutcome, Outcome, RunStatus, Status
from ingest import LogWriter
from tests.trainer.livedata import open_log, post
from tests.trainer.lives import Life
from tests.waiting import until
from trainer import Checkpoints, RunFolder, wanted


@pytest.fixture
def live(tmp_path: Path, client: ControlClient) -> Iterator[Callable[..., Life]]:
    started: list[Life] = []

    def start(**given: Any) -> Life:
        settled = {"url": client.url, "token": client._token, "checkpoint": {"steps": 1_000_000}}
        folder = given.pop("folder", tmp_path / "run")
        started.append(Life(folder, tmp_path / "log", **(settled | given)))
        return started[-1]

    yield start
    for life in started:
        life.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogWriter]:
    writer = open_log(tmp_path / "log").writer("annotator")
    yield writer
    writer.close()


def metrics_after(client: ControlClient, branch_events: int) -> list[Any]:
    """The metrics since that many segments have begun."""
    begun, found = 0, []
    for event in client.history(0, run="crash", limit=5000).events:
        begun += event.type is EventType.BRANCH
        if begun >= branch_events and event.type is EventType.METRICS:
            found.append(event)
    return found


@pytest.mark.timeout(240)
def test_settings_newer_than_the_checkpoint_hold_again_after_a_kill(
    client: ControlClient, live: Callable[..., Life], writer: LogWriter
) -> None:
    post(writer, range(4000))
    life = live()
    life.steps(2)
    assert client.send("update_optimizer", {"lr": {"scale": 0.5}}, run="crash").outcome is Outcome.SUCCESS
    saved = client.send("save_checkpoint", run="crash")
    assert client.send("update_optimizer", {"lr": {"scale": 0.1}}, run="crash").outcome is Outcome.SUCCESS
    weights = {"weights": {"base": 1, "live": 0}}
    assert client.send("update_dataset_runtime_hyperparameters", weights, run="crash").outcome is Outcome.SUCCESS
    life.send(signal.SIGKILL)

    again = live()
    again.steps(3)
    until(lambda: len(metrics_after(client, 2)) >= 2)
    first = metrics_after(client, 2)[0]
    assert first.step == saved.after["step"] + 1
    assert first.body["learning_rate"] == pytest.approx(1e-3 * 0.5 * 0.1)
    detail = client.run("crash")
    assert detail.state["dataset"]["interactive_parameters"]["weights"] == {"base": 1, "live": 0}
    # the outcomes stand as they were: one each
    outcomes = [entry.outcome for entry in client.audit("crash").entries]
    assert outcomes == [Outcome.SUCCESS] * 4
    assert again.send(signal.SIGTERM) == 0


@pytest.mark.timeout(240)
def test_a_paused_run_stays_paused_over_a_kill_and_a_stopped_one_stopped(
    client: ControlClient, live: Callable[..., Life], writer: LogWriter, tmp_path: Path
) -> None:
    post(writer, range(4000))
    life = live()
    life.steps(2)
    assert client.send("pause_training", run="crash").outcome is Outcome.SUCCESS
    saved = client.send("save_checkpoint", run="crash")
    life.send(signal.SIGKILL)

    again = live()
    until(lambda: client.run("crash").status is RunStatus.PAUSED and len(client.run("crash").branches[0].segments) == 2)
    assert client.send("do_evaluate", run="crash").outcome is Outcome.REJECTED  # it answers, and has no data for that
    stopped = client.send("stop_training", {"save": True}, run="crash")
    assert stopped.outcome is Outcome.SUCCESS
    assert again.end() == 0
    newest = Checkpoints(RunFolder(tmp_path / "run")).latest()
    assert newest is not None
    assert newest.checkpoint is not None
    assert newest.checkpoint.card.step == saved.after["step"]  # not a step further
    assert not wanted(tmp_path / "run")
    assert live().end() == 0  # the supervisor's start: it stays stopped
    assert client.run("crash").status is RunStatus.STOPPED

    person = live(starts=True)
    person.steps(1)
    until(lambda: client.run("crash").status is RunStatus.RUNNING)
    assert person.send(signal.SIGTERM) == 0


@pytest.mark.timeout(240)
def test_a_setting_that_a_kill_cuts_off_is_done_by_the_next_process(
    client: ControlClient, live: Callable[..., Life], writer: LogWriter
) -> None:
    post(writer, range(4))
    life = live()
    life.steps(1)
    # only a source that is dry is left, so that no step can show the change
    weights = {"weights": {"base": 0, "live": 1}}
    sent = client.send("update_dataset_runtime_hyperparameters", weights, run="crash", wait=False)
    until(lambda: client.command(sent.uuid).command.status is Status.RUNNING)
    with pytest.raises(NoOutcome):
        client.outcome(sent.uuid, timeout=0.5)
    life.send(signal.SIGKILL)
    post(writer, range(4, 400))
    again = live()
    assert client.outcome(sent.uuid, timeout=60).outcome is Outcome.SUCCESS
    assert again.send(signal.SIGTERM) == 0


@pytest.mark.timeout(240)
def test_settings_of_a_life_before_do_not_come_back_to_a_run_that_was_begun_anew(
    client: ControlClient, live: Callable[..., Life], writer: LogWriter, tmp_path: Path
) -> None:
    post(writer, range(4000))
    first = live()
    first.steps(1)
    assert client.send("update_optimizer", {"lr": {"scale": 0.5}}, run="crash").outcome is Outcome.SUCCESS
    first.send(signal.SIGKILL)
    anew = live(folder=tmp_path / "anew", checkpoint={"steps": 2})
    anew.steps(4)
    anew.send(signal.SIGKILL)
    again = live(folder=tmp_path / "anew")
    again.steps(2)
    until(lambda: len(metrics_after(client, 3)) >= 2)
    assert metrics_after(client, 3)[-1].body["learning_rate"] == 1e-3
    assert again.send(signal.SIGTERM) == 0
