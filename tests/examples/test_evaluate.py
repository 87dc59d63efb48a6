from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from examples.desktop import codec, screen
from examples.desktop.evaluate import TOLERANCE, Trial, decisive, evaluate, filmstrip, free_run, trials, wilson
from examples.desktop.screen import Frame
from examples.desktop.scripted import BASE_GOALS, Goal, pursue
from examples.desktop.world import LAUNCH_FRAMES, MAX_FOLDERS, App, Desktop, Launch, World, paint

FEW = 8


def still(sample: torch.Tensor, timestep: Any) -> Any:
    """A model under which nothing ever happens."""
    return SimpleNamespace(sample=torch.zeros(len(sample), codec.SAMPLE_CHANNELS, *codec.GRID))


def brightens(sample: torch.Tensor, timestep: Any) -> Any:
    """A model whose screen turns white."""
    planes = torch.zeros(len(sample), codec.PIXELS, len(screen.PALETTE), *codec.GRID)
    planes[:, :, screen.PALETTE.min(axis=1) == 255] = 1.0
    return SimpleNamespace(sample=planes.flatten(1, 2))


class Perfect:
    """Answers with the true change of every step of one trial."""

    def __init__(self, changes: list[torch.Tensor]) -> None:
        self._changes = iter(changes)

    def __call__(self, sample: torch.Tensor, timestep: Any) -> Any:
        return SimpleNamespace(sample=next(self._changes)[None])


def tried(goal: Goal, seed: int) -> tuple[Trial, Perfect, list[Frame]]:
    """A trial, the model that is perfect on it, and its true frames."""
    world, rng = World(), random.Random(seed)
    states, frames, done, changes = [world.state], [world.frame], [], []
    for inputs in pursue(goal, world, rng):
        frames.append(world.step(inputs))
        states.append(world.state)
        done.append(inputs)
        changes.append(codec.tensors(frames[-2], inputs, frames[-1])["sample"])
    trial = Trial(goal, frames[0], tuple(done), frames[-1], decisive(goal, states))
    return trial, Perfect(changes), frames


@pytest.mark.parametrize("goal", list(Goal))
def test_trials_are_the_same_every_time_and_are_not_won_by_doing_nothing(goal: Goal) -> None:
    first, again, other = trials(goal, FEW), trials(goal, FEW), trials(goal, FEW, seed=1)
    assert [t.inputs for t in first] == [t.inputs for t in again]
    assert [t.inputs for t in first] != [t.inputs for t in other]
    assert not any(trial.succeeds(trial.start) for trial in first)
    assert all(trial.succeeds(trial.truth) for trial in first)


def test_a_model_under_which_nothing_happens_scores_nothing() -> None:
    scores = evaluate(still, count=FEW).scores
    assert [score.goal for score in scores] == list(Goal)
    assert [score.successes for score in scores] == [0] * len(Goal)


@pytest.mark.parametrize("goal", list(Goal))
def test_a_perfect_model_paints_the_true_frames_and_succeeds(goal: Goal) -> None:
    trial, model, frames = tried(goal, seed=3)
    strip = filmstrip(model, trial)
    assert strip.shape == (len(trial.inputs) + 1, screen.HEIGHT, screen.WIDTH, 3)
    assert all((painted == true).all() for painted, true in zip(strip, frames, strict=True))
    assert trial.succeeds(strip[-1])


def test_a_model_that_stands_still_in_the_middle_of_a_launch_never_opens_the_browser() -> None:
    trial, _, frames = tried(Goal.BROWSER, seed=4)
    clicked = next(i for i, inputs in enumerate(trial.inputs) if inputs.left)
    stuck = clicked + LAUNCH_FRAMES[App.BROWSER] // 2
    changes = [
        codec.tensors(before, inputs, after)["sample"]
        for before, inputs, after in zip(frames, trial.inputs, frames[1:], strict=False)
    ]
    changes[stuck:] = [torch.zeros_like(change) for change in changes[stuck:]]
    assert not trial.succeeds(filmstrip(Perfect(changes), trial)[-1])


def test_in_a_batch_of_unlike_lengths_each_trial_ends_at_its_own_end() -> None:
    todo = [*trials(Goal.POINTER, 4), *trials(Goal.BROWSER, 2), *trials(Goal.FOLDER, 3)]
    last = free_run(still, todo, torch.Generator())
    assert all((frame == trial.start).all() for frame, trial in zip(last, todo, strict=True))
    assert (free_run(brightens, todo, torch.Generator()) == 255).all()


def wrong_outcomes(trial: Trial) -> Iterator[Frame]:
    """Pictures that a person would not take for the one wanted."""
    x, y = trial.inputs[-1].x, trial.inputs[-1].y
    yield trial.start
    match trial.goal:
        case Goal.POINTER if x < screen.WIDTH - 4 and y < screen.HEIGHT - 5:
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                if x + dx >= 0 <= y + dy:
                    yield paint(Desktop(x=x + dx, y=y + dy))
        case Goal.BROWSER:
            for window in (None, App.NOTES, App.SHELL):
                yield paint(Desktop(x=x, y=y, window=window))
            yield paint(Desktop(x=x, y=y, launching=Launch(App.BROWSER, LAUNCH_FRAMES[App.BROWSER])))
        case Goal.FOLDER:
            missing = trial.truth.copy()
            for slot in range(MAX_FOLDERS):
                missing[screen.SLOTS[slot].area] = paint(Desktop())[screen.SLOTS[slot].area]
            yield missing


@pytest.mark.parametrize("goal", list(Goal))
def test_every_wrong_outcome_is_wrong_in_twice_as_many_pixels_as_are_tolerated(goal: Goal) -> None:
    for trial in trials(goal, 25):
        for wrong in wrong_outcomes(trial):
            wrong_pixels = (wrong != trial.truth).any(axis=-1)[trial.decisive].sum()
            assert wrong_pixels > 2 * int(TOLERANCE * trial.decisive.sum())


def test_wilsons_interval_is_that_of_the_books() -> None:
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(0, 100)[0] == 0.0
    assert wilson(100, 100)[1] == 1.0
    assert math.isclose(sum(wilson(50, 100)), 1.0)


def test_scores_can_be_asked_for_by_goal() -> None:
    evaluation = evaluate(still, BASE_GOALS, count=2)
    assert evaluation[Goal.OPEN_MENU].trials == 2
    assert evaluation[Goal.OPEN_MENU].rate == evaluation[Goal.OPEN_MENU].interval[0] == 0.0
