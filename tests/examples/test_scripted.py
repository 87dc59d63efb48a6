from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from examples.desktop import screen
from examples.desktop.scripted import (
    BASE_GOALS,
    Goal,
    base_session,
    pursue,
    visitor_session,
    visitor_stream,
)
from examples.desktop.world import App, Desktop, Launch, World


def run(goal: Goal, world: World, rng: random.Random) -> list[Desktop]:
    states = [world.state]
    for inputs in pursue(goal, world, rng):
        world.step(inputs)
        states.append(world.state)
    return states


def anywhere(rng: random.Random) -> World:
    """A world that visitors have used for a while."""
    world = World()
    for inputs in islice(visitor_session(world, rng), rng.randrange(120)):
        world.step(inputs)
    return world


@pytest.mark.parametrize("goal", list(Goal))
def test_every_goal_is_reached_from_any_state(goal: Goal) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        world = anywhere(rng)
        before = world.state
        states = run(goal, world, rng)
        last = states[-1]
        match goal:
            case Goal.BROWSER:
                assert last.window is App.BROWSER
            case Goal.FOLDER:
                assert last.folders == min(before.folders + 1, len(screen.SLOTS))
            case Goal.OPEN_WINDOW:
                assert last.window in (App.NOTES, App.SHELL)
            case Goal.CLOSE_WINDOW:
                assert last.window is None
                assert any(state.window for state in states)
            case Goal.OPEN_MENU:
                assert last.menu is not None
            case Goal.CLOSE_MENU:
                assert last.menu is None
                assert any(state.menu for state in states)
            case Goal.POINTER:
                assert len(states) > 1


def test_base_sessions_never_begin_what_takes_effort() -> None:
    for seed in range(150):
        world, rng = World(), random.Random(seed)
        for inputs in base_session(world, rng):
            before = world.state
            world.step(inputs)
            assert world.state.launching is None or world.state.launching.app is App.SHELL
            assert world.state.folders == 0
            if inputs.left and before.menu is None:
                assert not screen.BROWSER_ICON.holds(inputs.x, inputs.y)


def test_base_sessions_show_everything_else() -> None:
    seen: Counter[str] = Counter()
    for seed in range(80):
        world, rng = World(), random.Random(seed)
        for inputs in base_session(world, rng):
            before = world.state
            world.step(inputs)
            after = world.state
            seen[f"window {after.window}"] += before.window != after.window
            seen["menu opened"] += before.menu is None and after.menu is not None
            seen["menu closed"] += before.menu is not None and after.menu is None
            seen["on the browser's icon"] += screen.BROWSER_ICON.holds(inputs.x, inputs.y)
            entry = before.entry(screen.MENU_NEW_FOLDER)
            seen["on the entry"] += entry is not None and entry.holds(inputs.x, inputs.y)
    assert set(seen) >= {"window None", "window notes", "window shell"}
    assert min(seen.values()) > 10


def test_visitors_mostly_open_the_browser_and_make_folders() -> None:
    launches = folders = sessions = 0
    for seed in range(120):
        world, rng = World(), random.Random(seed)
        for inputs in visitor_session(world, rng):
            before = world.state
            world.step(inputs)
            launches += world.state.launching == Launch(App.BROWSER)
            folders += world.state.folders > before.folders
        sessions += 1
    assert launches / sessions > 0.5
    assert folders / sessions > 0.5


def test_the_same_seed_gives_the_same_people_and_another_one_others() -> None:
    def taken(seed: int) -> list[object]:
        return [step.inputs for step in islice(visitor_stream(seed), 200)]

    assert taken(1) == taken(1)
    assert taken(1) != taken(2)


def test_every_goal_of_the_base_is_one_that_takes_no_effort() -> None:
    assert set(BASE_GOALS) == set(Goal) - {Goal.BROWSER, Goal.FOLDER}
