"""Judging the model by what people want to get done: it runs freely, its own frames fed back, on trials held out.

A trial is a start that the true system was brought to, a scripted person's inputs from there, and the frame that the
true system ends on. It succeeds if, at the places that decide (a mask of pixels), the model's last frame is right. A
browser that takes 40 frames to load is thus only opened by a model that paints them all in turn.

Tolerance: frames are snapped to the palette, so pixels are right or wrong. Up to TOLERANCE of the deciding ones may be
wrong, a blemish that a person looks past; every outcome that is not the one wanted is wrong in more than twice as many
(`tests/examples/test_evaluate.py` measures that), even a pointer that is off by one pixel.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from examples.desktop import screen
from examples.desktop.inputs import Inputs
from examples.desktop.model import Painter, paint_next
from examples.desktop.screen import Frame
from examples.desktop.scripted import Goal, base_session, pursue
from examples.desktop.world import Desktop, World

__all__ = [
    "TOLERANCE",
    "Evaluation",
    "Score",
    "Trial",
    "decisive",
    "evaluate",
    "filmstrip",
    "free_run",
    "trials",
    "wilson",
]

TOLERANCE = 0.09
HELD_OUT = 0x5EED  # seeds of trials; training streams use other ones


@dataclass(frozen=True, slots=True)
class Trial:
    """One try at a goal: `start` [24, 32, 3], inputs, the true last frame, and the pixels [12, 16] that decide."""

    goal: Goal
    start: Frame
    inputs: tuple[Inputs, ...]
    truth: Frame
    decisive: NDArray[np.bool_]

    def succeeds(self, last: Frame) -> bool:
        """Whether a run's last frame shows what was wanted."""
        wrong = (last != self.truth).any(axis=-1)[self.decisive]
        return float(wrong.mean()) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Score:
    """How often a goal was reached, with Wilson's 95 % interval."""

    goal: Goal
    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.successes, self.trials)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one model, one for each goal."""

    scores: tuple[Score, ...]

    def __getitem__(self, goal: Goal) -> Score:
        return next(score for score in self.scores if score.goal is goal)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), 95 % unless told otherwise."""
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def trials(goal: Goal, count: int, seed: int = 0) -> tuple[Trial, ...]:
    """Held-out trials, always the same for the same seed; each starts where some base session has left the desktop."""
    rng = random.Random(f"{HELD_OUT}/{goal}/{seed}")
    return tuple(_trial(goal, rng) for _ in range(count))


def evaluate(
    model: Painter, goals: Sequence[Goal] = tuple(Goal), *, count: int = 100, seed: int = 0, steps: int = 1
) -> Evaluation:
    """Let the model run freely on `count` held-out trials of each goal; `steps` denoising steps a frame."""
    todo = [trial for goal in goals for trial in trials(goal, count, seed)]
    generator = torch.Generator().manual_seed(seed)
    reached = {goal: 0 for goal in goals}
    for trial, last in zip(todo, free_run(model, todo, generator, steps=steps), strict=True):
        reached[trial.goal] += trial.succeeds(last)
    return Evaluation(tuple(Score(goal, reached[goal], count) for goal in goals))


def free_run(model: Painter, todo: Sequence[Trial], generator: torch.Generator, *, steps: int = 1) -> NDArray[np.uint8]:
    """The last frames [N, 24, 32, 3] of free runs, all in one batch that gets smaller as trials end."""
    order = sorted(range(len(todo)), key=lambda index: -len(todo[index].inputs))
    frames = np.stack([todo[index].start for index in order])
    for step in range(len(todo[order[0]].inputs)):
        live = sum(len(todo[index].inputs) > step for index in order)
        inputs = [todo[index].inputs[step] for index in order[:live]]
        frames[:live] = paint_next(model, frames[:live], inputs, generator, steps=steps)
    last = np.empty_like(frames)
    last[order] = frames
    return last


def filmstrip(model: Painter, trial: Trial, *, seed: int = 0, steps: int = 1) -> NDArray[np.uint8]:
    """All frames [T + 1, 24, 32, 3] of one free run, the start first."""
    generator = torch.Generator().manual_seed(seed)
    frames = [trial.start]
    for inputs in trial.inputs:
        frames.append(paint_next(model, frames[-1][None], [inputs], generator, steps=steps)[0])
    return np.stack(frames)


_BEFORE = {Goal.CLOSE_WINDOW: Goal.OPEN_WINDOW, Goal.CLOSE_MENU: Goal.OPEN_MENU}  # what is to be closed is open first


def _trial(goal: Goal, rng: random.Random) -> Trial:
    """A trial that the start itself would not pass."""
    while True:
        world = World()
        _run(world, base_session(world, rng))
        if goal in _BEFORE:
            _run(world, pursue(_BEFORE[goal], world, rng))
        start, states = world.frame, [world.state]
        inputs = _run(world, pursue(goal, world, rng), states)
        trial = Trial(goal, start, inputs, world.frame, decisive(goal, states))
        if not trial.succeeds(start):
            return trial


def _run(world: World, script: Iterator[Inputs], states: list[Desktop] | None = None) -> tuple[Inputs, ...]:
    """Take a script's steps in the true system; note the states on the way."""
    taken = []
    for inputs in script:
        world.step(inputs)
        taken.append(inputs)
        if states is not None:
            states.append(world.state)
    return tuple(taken)


def decisive(goal: Goal, states: Sequence[Desktop]) -> NDArray[np.bool_]:
    """The pixels that tell whether the goal was reached."""
    mask = np.zeros((screen.HEIGHT, screen.WIDTH), dtype=np.bool_)
    last = states[-1]
    if goal is Goal.POINTER:
        mask[screen.Rect(last.x, last.y, *screen.POINTER_SIZE).area] = True
    if goal in (Goal.OPEN_WINDOW, Goal.CLOSE_WINDOW, Goal.BROWSER):
        mask[screen.WINDOW.area] = True
    if goal in (Goal.OPEN_MENU, Goal.CLOSE_MENU, Goal.FOLDER):
        menu = next(state.menu for state in reversed(states) if state.menu is not None)
        mask[screen.Rect(*menu, *screen.MENU_SIZE).area] = True
    if goal is Goal.FOLDER:
        mask[screen.SLOTS[last.folders - 1].area] = True
    return mask
