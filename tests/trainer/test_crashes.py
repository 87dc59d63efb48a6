"""Processes that die: what a run goes on with, and what it never does twice."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file

from control import RunStatus
from dataset import Consumed
from ingest import LogWriter
from tests.trainer.livedata import key, open_log, post
from tests.trainer.lives import Life
from trainer import Checkpoints, RunFolder, start_again, trained_along, trained_in, wanted


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Life]]:
    """Starts processes that train one run, unless another folder is named."""
    started: list[Life] = []

    def start(folder: Path | None = None, **given: Any) -> Life:
        started.append(Life(folder or tmp_path / "run", tmp_path / "log", **given))
        return started[-1]

    yield start
    for life in started:
        life.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogWriter]:
    writer = open_log(tmp_path / "log").writer("annotator")
    yield writer
    writer.close()


def test_killed_again_and_again_no_live_sample_is_trained_twice_or_left_out(
    tmp_path: Path, writer: LogWriter, live: Callable[..., Life]
) -> None:
    post(writer, range(2000))
    folder = tmp_path / "run"
    chance = random.Random(5)
    for _ in range(3):
        process = live()
        process.steps(chance.randint(1, 9))
        assert process.send(signal.SIGKILL) == -signal.SIGKILL
    last = live()
    last.steps(4)
    assert last.send(signal.SIGTERM) == 0

    run = RunFolder(folder)
    newest = Checkpoints(run).latest()
    assert newest is not None
    assert newest.checkpoint is not None
    assert newest.checkpoint.card.reason == "termination"
    # the chain's steps are whole, and each live sample stands in one of them
    along = [entry for _, entry in trained_along(run)]
    assert [entry.step for entry in along] == list(range(1, newest.checkpoint.card.step + 1))
    keys = [each for entry in along for each in entry.keys.get("live", [])]
    assert len(keys) == len(set(keys)) > 0
    # what the checkpoint says was consumed is what was trained, no more and no less
    stored = msgspec.json.decode((newest.checkpoint.path / "mixture-0.json").read_bytes())
    consumed = Consumed.load(stored["consumed"]).sources["live"]
    numbers = {
        number
        for number in range(2000)
        if consumed[_partition(consumed, number)].touches((number // 2, 0), (number // 2, 1))
    }
    assert {key(number) for number in numbers} == set(keys)
    # some steps were undone by a kill, or this test has not tested anything
    undone = [entry for segment in run.segments() for entry in trained_in(run.folder_of(segment.id))]
    assert len(undone) > len(along)


def _partition(consumed: object, number: int) -> str:
    names = sorted(consumed)  # type: ignore[call-overload]
    return str(names[number % 2])


def test_a_terminated_run_saves_and_goes_on_to_the_bit(
    tmp_path: Path, writer: LogWriter, live: Callable[..., Life]
) -> None:
    post(writer, range(400))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert live(whole, max_steps=60, checkpoint={"steps": 1}).end() == 0
    first = live(parts, max_steps=60, checkpoint={"steps": 1})
    first.steps(4)
    assert first.send(signal.SIGTERM) == 0
    assert wanted(parts)
    assert live(parts, max_steps=60, checkpoint={"steps": 1}).end() == 0

    ends = []
    for folder in (whole, parts):
        checkpoint = Checkpoints(RunFolder(folder)).latest()
        assert checkpoint is not None
        assert checkpoint.checkpoint is not None
        assert checkpoint.checkpoint.card.step == 60
        ends.append(checkpoint.checkpoint.path)
    for name in ("model.safetensors", "ema.safetensors"):
        one, other = load_file(ends[0] / name), load_file(ends[1] / name)
        assert one.keys() == other.keys()
        assert all(one[tensor].equal(other[tensor]) for tensor in one), name
    steps = [[(e.step, e.keys) for _, e in trained_along(RunFolder(folder))] for folder in (whole, parts)]
    assert steps[0] == steps[1]
    assert len(RunFolder(parts).segments()) == 2


def test_a_finished_run_stays_so_until_it_is_started_again(
    tmp_path: Path, writer: LogWriter, live: Callable[..., Life]
) -> None:
    post(writer, range(100))
    folder = tmp_path / "run"
    assert live(max_steps=3).end() == 0
    assert not wanted(folder)
    assert live(max_steps=6).end() == 0
    record = RunFolder(folder).record()
    assert record is not None
    assert record.status is RunStatus.FINISHED
    assert len(RunFolder(folder).segments()) == 1
    start_again(folder)
    assert wanted(folder)
    again = live(max_steps=6)
    again.steps(1)
    assert again.end() == 0
    assert [s.reason.value for s in RunFolder(folder).segments()] == ["fresh", "resume"]


def test_a_second_trainer_of_one_run_is_refused(tmp_path: Path, writer: LogWriter, live: Callable[..., Life]) -> None:
    post(writer, range(2000))
    first = live()
    first.steps(2)
    second = live()
    assert second.end() == 1
    assert "trains this run; stop it" in second.said
    first.steps(4)
    assert first.send(signal.SIGTERM) == 0


def test_a_wrong_setting_is_a_configuration_error(live: Callable[..., Life]) -> None:
    life = live(max_steps=3, url="http://127.0.0.1:1")
    assert life.end() == 78
    assert "no token is given" in life.said


def test_a_server_that_is_away_holds_nothing_up(tmp_path: Path, writer: LogWriter, live: Callable[..., Life]) -> None:
    post(writer, range(100))
    assert live(max_steps=4, url="http://127.0.0.1:1", token="stv_none").end() == 0
    assert not wanted(tmp_path / "run")
