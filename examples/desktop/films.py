"""What a version of the model paints, as film strips: for each task the same trial, run freely."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from examples.desktop.evaluate import Trial, decisive, filmstrip
from examples.desktop.findings import TASKS
from examples.desktop.model import load_base
from examples.desktop.report import NAMES, film
from examples.desktop.screen import Frame
from examples.desktop.scripted import Goal, pursue
from examples.desktop.world import World

__all__ = ["films", "moments_of", "shown_trial"]

FRAMES_SHOWN = 9
SCALE = 2


def films(folder: Path) -> Mapping[str, bytes]:
    """The app's plug-in `samples`: a PNG file for each task, of the weights in `folder`."""
    model = load_base(folder)
    found = {}
    for goal in TASKS:
        trial, truth = shown_trial(goal)
        frames = filmstrip(model, trial)
        found[NAMES[goal]] = film([frames[moment] for moment in moments_of(len(truth))], SCALE, gap=2)
    return found


def shown_trial(goal: Goal) -> tuple[Trial, list[Frame]]:
    """One trial from the start of a session, of a seed that nothing else uses, and its true frames."""
    world, rng = World(), random.Random(f"strip/{goal}")
    frames, states, done = [world.frame], [world.state], []
    for inputs in pursue(goal, world, rng):
        frames.append(world.step(inputs))
        states.append(world.state)
        done.append(inputs)
    return Trial(goal, frames[0], tuple(done), frames[-1], decisive(goal, states)), frames


def moments_of(frames: int) -> list[int]:
    """Which frames are shown, the first and the last among them."""
    shown = min(FRAMES_SHOWN, frames)
    return [round(index * (frames - 1) / (shown - 1)) for index in range(shown)]
