from __future__ import annotations

import random
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.desktop import screen
from examples.desktop.errors import InvalidInputs
from examples.desktop.inputs import Inputs
from examples.desktop.scripted import base_stream, visitor_stream
from examples.desktop.world import LAUNCH_FRAMES, MAX_FOLDERS, App, Desktop, Launch, World, advance, menu_corner, paint


def click(rect: screen.Rect, *, right: bool = False) -> dict[str, Any]:
    return {"x": rect.x + rect.w // 2, "y": rect.y + rect.h // 2, "is_left_click": not right, "is_right_click": right}


def still(x: int = 30, y: int = 20) -> dict[str, Any]:
    return {"x": x, "y": y, "is_left_click": False, "is_right_click": False, "keys_down": [], "keys_up": []}


def test_a_frame_is_rgb_in_the_palettes_colours() -> None:
    frame = World().reset()
    assert frame.shape == (24, 32, 3)
    assert frame.dtype == np.uint8
    assert {tuple(pixel) for pixel in frame.reshape(-1, 3)} <= {tuple(colour) for colour in screen.PALETTE}


@pytest.mark.parametrize(("app", "icon"), [(App.BROWSER, screen.BROWSER_ICON), (App.SHELL, screen.SHELL_ICON)])
def test_an_app_opens_after_exactly_its_launch_frames_and_every_one_of_them_shows_progress(
    app: App, icon: screen.Rect
) -> None:
    world = World()
    frames = [world.step(click(icon))]
    while world.state.launching:
        frames.append(world.step(still()))
    assert len(frames) == LAUNCH_FRAMES[app] + 1
    assert world.state.window is app
    assert all((before != after).any() for before, after in pairwise(frames))


def test_nothing_that_is_clicked_disturbs_a_launch() -> None:
    world = World()
    world.step(click(screen.BROWSER_ICON))
    for rect in (screen.NOTES_ICON, screen.CLOSE_BUTTON, screen.BROWSER_ICON):
        world.step(click(rect))
        world.step(click(rect, right=True))
    assert world.state.launching == Launch(App.BROWSER, 7)


def test_a_folder_takes_a_right_click_and_a_click_on_the_entry_and_there_is_room_for_some() -> None:
    world = World()
    for count in range(1, MAX_FOLDERS + 2):
        world.step({**still(15, 10), "is_right_click": True})
        entry = world.state.entry(screen.MENU_NEW_FOLDER)
        assert entry is not None
        world.step(click(entry))
        assert world.state.menu is None
        assert world.state.folders == min(count, MAX_FOLDERS)


@pytest.mark.parametrize("way", ["close", "outside", "escape", "right"])
def test_a_menu_is_left_in_every_usual_way_without_a_folder(way: str) -> None:
    world = World()
    world.step({**still(15, 10), "is_right_click": True})
    chosen = world.state.entry(screen.MENU_CLOSE)
    assert chosen is not None
    world.step(
        {
            "close": click(chosen),
            "outside": {**still(2, 20), "is_left_click": True},
            "escape": {**still(), "keys_down": ["Escape"]},
            "right": {**still(2, 20), "is_right_click": True},
        }[way]
    )
    assert world.state == Desktop(x=world.state.x, y=world.state.y)


def test_windows_replace_each_other_and_close_by_button_or_escape() -> None:
    world = World()
    seen = []
    for inputs in (
        click(screen.NOTES_ICON),
        click(screen.SHELL_ICON),
        *[still()] * LAUNCH_FRAMES[App.SHELL],
        click(screen.NOTES_ICON),
        click(screen.CLOSE_BUTTON),
        click(screen.NOTES_ICON),
        {**still(), "keys_down": ["Escape"]},
    ):
        world.step(inputs)
        if world.state.launching is None:
            seen.append(world.state.window)
    assert seen == [App.NOTES, App.SHELL, App.NOTES, None, App.NOTES, None]


def test_a_reset_goes_back_to_the_start_so_that_inputs_alone_replay_a_session() -> None:
    world, again = World(), World()
    first = world.reset()
    frames = [world.step(inputs) for inputs in inputs_of(7, 200)]
    world.reset()
    assert (world.frame == first).all()
    assert all((again.step(i) == f).all() for i, f in zip(inputs_of(7, 200), frames, strict=True))


def inputs_of(seed: int, count: int) -> list[Inputs]:
    rng = random.Random(seed)
    return [Inputs(rng.randrange(32), rng.randrange(24), rng.random() < 0.3, rng.random() < 0.3) for _ in range(count)]


@pytest.mark.parametrize("stream", [base_stream, visitor_stream])
def test_the_next_frame_follows_from_what_is_seen_and_the_inputs(stream: Any) -> None:
    seen: dict[object, bytes] = {}
    for step in islice(stream(5), 6000):
        key = (step.prev.tobytes(), step.inputs)
        assert seen.setdefault(key, step.next.tobytes()) == step.next.tobytes()


POINTERS = st.tuples(st.integers(0, 31), st.integers(0, 23))
LAUNCHES = [Launch(app, shown) for app, frames in LAUNCH_FRAMES.items() for shown in range(1, frames + 1)]
STATES = st.one_of(
    st.builds(Desktop, window=st.sampled_from([None, *App]), folders=st.integers(0, MAX_FOLDERS)),
    st.builds(Desktop, launching=st.sampled_from(LAUNCHES), folders=st.integers(0, MAX_FOLDERS)),
    st.builds(
        Desktop,
        folders=st.integers(0, MAX_FOLDERS),
        menu=POINTERS.map(lambda at: menu_corner(*at)),
    ),
)


@settings(max_examples=300, deadline=None)
@given(STATES, STATES, POINTERS)
def test_no_two_states_look_alike_wherever_the_pointer_hides_something(
    one: Desktop, other: Desktop, pointer: tuple[int, int]
) -> None:
    one, other = advance(one, Inputs(*pointer)), advance(other, Inputs(*pointer))
    assert (one == other) == bool((paint(one) == paint(other)).all())


def test_all_moments_of_all_launches_differ_wherever_the_pointer_is() -> None:
    for x in range(screen.WIDTH):
        for y in range(screen.BAR.y - 4, screen.BAR.y + screen.BAR.h):
            seen = {paint(Desktop(x=x, y=y, launching=launch)).tobytes() for launch in LAUNCHES}
            assert len(seen) == len(LAUNCHES)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"y": 1}, "inputs.x: None, but it is a whole number from 0 to 31"),
        ({"x": 32, "y": 1}, "inputs.x: 32, but"),
        ({"x": 1, "y": -1}, "inputs.y: -1, but it is a whole number from 0 to 23"),
        ({"x": True, "y": 1}, "inputs.x: True"),
        ({"x": 1.5, "y": 1}, "inputs.x: 1.5"),
        ({"x": 1, "y": 1, "is_left_click": 1}, "inputs.is_left_click: 1, but it is true or false"),
        ({"x": 1, "y": 1, "keys_down": "Escape"}, "inputs.keys_down: 'Escape', but it is a list"),
        ({"x": 1, "y": 1, "keys_up": [3]}, "inputs.keys_up: holds 3, but"),
        ({"x": 1, "y": 1, "keys_down": ["a"] * 17}, "at most 16"),
        (["x", "y"], "an object with at least x and y"),
    ],
)
def test_bad_inputs_are_refused_by_value_and_rule_and_change_nothing(inputs: Any, told: str) -> None:
    world = World()
    with pytest.raises(InvalidInputs) as refused:
        world.step(inputs)
    assert isinstance(refused.value, ValueError)
    assert told in str(refused.value)
    assert world.state == Desktop()


def test_fields_that_an_app_adds_are_passed_over_and_inputs_survive_the_wire() -> None:
    inputs = Inputs(3, 4, left=True, keys_down=("a",), keys_up=("Shift",))
    assert Inputs.parse({**inputs.wire(), "pressure": 0.5}) == inputs
