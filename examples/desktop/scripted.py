"""Scripted people: what they want, and the inputs by which they go about it.

A script drives the true system: it looks at `world.state`, yields one step's inputs, and expects that the caller has
taken that step with the same world before it asks for the next one. Paths, speeds, pauses and places of clicks are
random, all from the generator handed in.

`base_session` is what the base model learns from: everything but the two tasks that take effort, neither of which it
ever starts (no left click on the browser's icon, none on "new folder"). `visitor_session` is what people really do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from examples.desktop import screen
from examples.desktop.inputs import Inputs
from examples.desktop.screen import Frame, Rect
from examples.desktop.world import MAX_FOLDERS, App, World, on_desk

__all__ = [
    "BASE_GOALS",
    "VISITOR_GOALS",
    "Goal",
    "Transition",
    "base_session",
    "base_stream",
    "pursue",
    "transitions",
    "visitor_session",
    "visitor_stream",
]


class Goal(StrEnum):
    """Something a person wants to get done."""

    POINTER = "pointer"
    OPEN_WINDOW = "open_window"
    CLOSE_WINDOW = "close_window"
    OPEN_MENU = "open_menu"
    CLOSE_MENU = "close_menu"
    BROWSER = "browser"
    FOLDER = "folder"


BASE_GOALS = (Goal.POINTER, Goal.OPEN_WINDOW, Goal.CLOSE_WINDOW, Goal.OPEN_MENU, Goal.CLOSE_MENU)
VISITOR_GOALS = {
    Goal.BROWSER: 0.30,
    Goal.FOLDER: 0.50,
    Goal.OPEN_WINDOW: 0.07,
    Goal.CLOSE_WINDOW: 0.08,
    Goal.POINTER: 0.05,
}

Script = Iterator[Inputs]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the true system: the frame before, the inputs, the frame after."""

    prev: Frame
    inputs: Inputs
    next: Frame


def pursue(goal: Goal, world: World, rng: random.Random) -> Script:
    """The inputs of a person who wants `goal`, from whatever state the world is in, up to when it is done.

    The last step shows the outcome; a folder cannot be had when there is room for none, and then nothing is clicked.
    """
    yield from _idle(world, rng, rng.randint(0, 3))
    yield from _await_launch(world, rng)
    yield from _SCRIPTS[goal](world, rng)


def base_session(world: World, rng: random.Random) -> Script:
    """Two to six things that do not take effort, some of them aimless."""
    for _ in range(rng.randint(2, 6)):
        if rng.random() < 0.35:
            yield from _stray(world, rng)
        else:
            yield from pursue(rng.choice(BASE_GOALS), world, rng)
        yield from _idle(world, rng, rng.randint(0, 2))


def visitor_session(world: World, rng: random.Random) -> Script:
    """One to four things a visitor likes to do, most of them the browser or a new folder."""
    goals, shares = zip(*VISITOR_GOALS.items(), strict=True)
    for _ in range(rng.randint(1, 4)):
        yield from pursue(rng.choices(goals, shares)[0], world, rng)
        yield from _idle(world, rng, rng.randint(0, 4))


def transitions(script: Callable[[World, random.Random], Script], rng: random.Random) -> Iterator[Transition]:
    """One session from a fresh world, step by step in the true system."""
    world = World()
    prev = world.frame
    for inputs in script(world, rng):
        after = world.step(inputs)
        yield Transition(prev, inputs, after)
        prev = after


def base_stream(seed: int) -> Iterator[Transition]:
    """Transitions of base sessions, without end."""
    rng = random.Random(seed)
    while True:
        yield from transitions(base_session, rng)


def visitor_stream(seed: int) -> Iterator[Transition]:
    """Transitions of visitors' sessions, without end."""
    rng = random.Random(seed)
    while True:
        yield from transitions(visitor_session, rng)


# --- hands -----------------------------------------------------------------------------------------------------------


def _idle(world: World, rng: random.Random, frames: int) -> Script:
    """Stay, with a hand that is not always still."""
    for _ in range(frames):
        x, y = world.state.x, world.state.y
        if rng.random() < 0.3:
            x, y = _on_screen(x + rng.randint(-1, 1), y + rng.randint(-1, 1))
        yield Inputs(x, y)


def _move(world: World, rng: random.Random, x: int, y: int) -> Script:
    """Go to (x, y) on a bent path, fast in its middle, and arrive exactly."""
    x0, y0 = world.state.x, world.state.y
    distance = math.hypot(x - x0, y - y0)
    frames = math.ceil(distance / rng.uniform(2.0, 5.0))
    bend = rng.uniform(-0.2, 0.2)
    for frame in range(1, frames + 1):
        share = frame / frames
        eased = share * share * (3 - 2 * share)
        aside = bend * math.sin(math.pi * share)
        yield Inputs(
            *_on_screen(
                round(x0 + (x - x0) * eased - (y - y0) * aside), round(y0 + (y - y0) * eased + (x - x0) * aside)
            )
        )


def _click(world: World, rng: random.Random, target: Rect, *, right: bool = False) -> Script:
    """Go somewhere into the target, hesitate, click, and look at what comes of it."""
    x, y = rng.randrange(target.x, target.x + target.w), rng.randrange(target.y, target.y + target.h)
    yield from _move(world, rng, x, y)
    for _ in range(rng.choice((0, 0, 1, 2))):
        yield Inputs(x, y)
    yield Inputs(x, y, left=not right, right=right)


def _on_screen(x: int, y: int) -> tuple[int, int]:
    return min(max(x, 0), screen.WIDTH - 1), min(max(y, 0), screen.HEIGHT - 1)


def _somewhere(rng: random.Random, allowed: Callable[[int, int], bool]) -> Rect:
    """A random pixel for which `allowed` holds."""
    while True:
        x, y = rng.randrange(screen.WIDTH), rng.randrange(screen.HEIGHT)
        if allowed(x, y):
            return Rect(x, y, 1, 1)


# --- goals -----------------------------------------------------------------------------------------------------------


def _point(world: World, rng: random.Random) -> Script:
    for _ in range(rng.randint(1, 2)):
        yield from _move(world, rng, rng.randrange(screen.WIDTH), rng.randrange(screen.HEIGHT))
        yield from _idle(world, rng, rng.randint(0, 2))


def _open_window(world: World, rng: random.Random) -> Script:
    yield from _leave_menu(world, rng)
    icons = {App.NOTES: screen.NOTES_ICON, App.SHELL: screen.SHELL_ICON}
    app = rng.choice([app for app in icons if app is not world.state.window])
    yield from _click(world, rng, icons[app])
    yield from _await_launch(world, rng)
    yield from _idle(world, rng, rng.randint(1, 3))


def _close_window(world: World, rng: random.Random) -> Script:
    if world.state.window is None:
        yield from _open_window(world, rng)
    yield from _leave_menu(world, rng)
    if rng.random() < 0.15:
        yield Inputs(world.state.x, world.state.y, keys_down=("Escape",))
    else:
        yield from _click(world, rng, screen.CLOSE_BUTTON)
    yield from _idle(world, rng, rng.randint(1, 3))


def _open_menu(world: World, rng: random.Random) -> Script:
    yield from _leave_menu(world, rng)
    yield from _call_menu(world, rng)
    yield from _idle(world, rng, rng.randint(1, 3))


def _close_menu(world: World, rng: random.Random) -> Script:
    if world.state.menu is None:
        yield from _open_menu(world, rng)
    yield from _leave_menu(world, rng)
    yield from _idle(world, rng, rng.randint(1, 3))


def _browser(world: World, rng: random.Random) -> Script:
    yield from _leave_menu(world, rng)
    if world.state.window is App.BROWSER:
        yield from _close_window(world, rng)
    yield from _click(world, rng, screen.BROWSER_ICON)
    yield from _await_launch(world, rng)
    yield from _idle(world, rng, rng.randint(2, 5))


def _folder(world: World, rng: random.Random) -> Script:
    if world.state.folders == MAX_FOLDERS:
        yield from _idle(world, rng, 1)
        return
    if world.state.menu is None:
        yield from _call_menu(world, rng)
        yield from _idle(world, rng, rng.randint(1, 3))
    entry = world.state.entry(screen.MENU_NEW_FOLDER)
    assert entry is not None
    yield from _click(world, rng, entry)
    yield from _idle(world, rng, rng.randint(2, 5))


def _stray(world: World, rng: random.Random) -> Script:
    """Point at something, perhaps click it, without a purpose; what takes effort is only ever pointed at."""
    entry = world.state.entry(screen.MENU_NEW_FOLDER)
    hot = [screen.BROWSER_ICON if entry is None else entry]
    target = rng.choice([*hot, screen.WINDOW, Rect(0, 0, screen.WIDTH, screen.HEIGHT)])
    x, y = rng.randrange(target.x, target.x + target.w), rng.randrange(target.y, target.y + target.h)
    yield from _move(world, rng, x, y)
    forbidden = any(rect.holds(x, y) for rect in hot)
    yield Inputs(x, y, left=not forbidden and rng.random() < 0.6, right=rng.random() < 0.3)
    if rng.random() < 0.1:
        yield Inputs(x, y, keys_down=(rng.choice(("a", "Enter", "Shift", "Escape")),))
    yield from _idle(world, rng, rng.randint(0, 3))


def _await_launch(world: World, rng: random.Random) -> Script:
    """Wait for a launch to end: mostly still, now and then wandering."""
    while world.state.launching:
        if rng.random() < 0.05:
            x, y = rng.randrange(screen.WIDTH), rng.randrange(screen.HEIGHT)
            for inputs in _move(world, rng, x, y):
                if not world.state.launching:
                    return
                yield inputs
        else:
            yield from _idle(world, rng, 1)


def _call_menu(world: World, rng: random.Random) -> Script:
    """Right click on bare desk, a window that stands there closed first."""
    if world.state.window is not None:
        yield from _click(world, rng, screen.CLOSE_BUTTON)
        yield from _idle(world, rng, rng.randint(0, 2))
    state = world.state

    def bare(x: int, y: int) -> bool:
        return on_desk(state, x, y)

    yield from _click(world, rng, _somewhere(rng, bare), right=True)


def _leave_menu(world: World, rng: random.Random) -> Script:
    """Close the menu, if one is open, in one of the ways there are."""
    entry = world.state.entry(screen.MENU_NEW_FOLDER)
    if entry is None:
        return
    way = rng.random()
    if way < 0.15:
        yield Inputs(world.state.x, world.state.y, keys_down=("Escape",))
    elif way < 0.5:
        chosen = world.state.entry(screen.MENU_CLOSE)
        assert chosen is not None
        yield from _click(world, rng, chosen)
    else:
        outside = _somewhere(rng, lambda x, y: not entry.holds(x, y))
        yield from _click(world, rng, outside, right=rng.random() < 0.2)
    yield from _idle(world, rng, rng.randint(0, 2))


_SCRIPTS: dict[Goal, Callable[[World, random.Random], Script]] = {
    Goal.POINTER: _point,
    Goal.OPEN_WINDOW: _open_window,
    Goal.CLOSE_WINDOW: _close_window,
    Goal.OPEN_MENU: _open_menu,
    Goal.CLOSE_MENU: _close_menu,
    Goal.BROWSER: _browser,
    Goal.FOLDER: _folder,
}
