"""The true operating system: what the neural one imitates, and what the annotator replays steps in.

It is deterministic, and Markov in what can be seen: the next frame follows from the frame before and the inputs alone
(nothing is ever hidden in whole by the pointer or a menu), so a model that sees one frame can be perfect.

Two things take effort. The browser loads slowly: its bar grows over 40 frames, as many as in the paper (appendix C:
"often more than 40 frames after clicking"). Creating a folder takes a right click, then a click on an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from examples.desktop import screen
from examples.desktop.inputs import Inputs
from examples.desktop.screen import Frame, Rect

__all__ = ["LAUNCH_FRAMES", "MAX_FOLDERS", "START", "App", "Desktop", "Launch", "World", "advance", "paint"]

MAX_FOLDERS = len(screen.SLOTS)
MENU_GRID = 4  # pixels; menus open on its corners
START = (16, 12)  # where the pointer is after a reset


class App(StrEnum):
    """What can have a window."""

    NOTES = "notes"
    SHELL = "shell"
    BROWSER = "browser"


LAUNCH_FRAMES = {App.SHELL: 12, App.BROWSER: 40}
"""How many frames an app's bar takes, where it has to load; the others open at once."""


@dataclass(frozen=True, slots=True)
class Launch:
    """An app that loads, and how many frames its bar has come: 1 to its LAUNCH_FRAMES."""

    app: App
    shown: int = 1

    @property
    def next(self) -> Launch | None:
        """A frame later; None when the window opens."""
        return Launch(self.app, self.shown + 1) if self.shown < LAUNCH_FRAMES[self.app] else None


@dataclass(frozen=True, slots=True)
class Desktop:
    """The whole state of the system; `paint` shows all of it.

    While an app is `launching`, no window is open and clicks do nothing. `menu` is the corner of the open context menu.
    """

    x: int = START[0]
    y: int = START[1]
    window: App | None = None
    launching: Launch | None = None
    menu: tuple[int, int] | None = None
    folders: int = 0

    def entry(self, relative: Rect) -> Rect | None:
        """Where an entry of the context menu is on the screen; None while no menu is open."""
        return None if self.menu is None else relative.at(*self.menu)


ICONS = {App.BROWSER: screen.BROWSER_ICON, App.NOTES: screen.NOTES_ICON, App.SHELL: screen.SHELL_ICON}


def advance(state: Desktop, inputs: Inputs) -> Desktop:
    """The state after one step."""
    state = replace(state, x=inputs.x, y=inputs.y)
    if state.launching is not None:
        window = None if state.launching.next else state.launching.app
        return replace(state, launching=state.launching.next, window=window)
    if state.menu is not None:
        return _in_menu(state, state.menu, inputs)
    if inputs.escape:
        return replace(state, window=None)
    if inputs.left:
        return _click(state)
    if inputs.right and on_desk(state, state.x, state.y):
        return replace(state, menu=menu_corner(state.x, state.y))
    return state


def _in_menu(state: Desktop, menu: tuple[int, int], inputs: Inputs) -> Desktop:
    if not inputs.pressed:
        return state
    chosen = inputs.left and not inputs.escape and screen.MENU_NEW_FOLDER.at(*menu).holds(state.x, state.y)
    return replace(state, menu=None, folders=min(state.folders + chosen, MAX_FOLDERS))


def _click(state: Desktop) -> Desktop:
    if state.window is not None and screen.CLOSE_BUTTON.holds(state.x, state.y):
        return replace(state, window=None)
    for app, icon in ICONS.items():
        if icon.holds(state.x, state.y) and state.window is not app:
            if app in LAUNCH_FRAMES:
                return replace(state, window=None, launching=Launch(app))
            return replace(state, window=app)
    return state


def on_desk(state: Desktop, x: int, y: int) -> bool:
    """Whether (x, y) is bare desk, where a right click opens the menu; beside an open window nothing is."""
    return state.window is None and y < screen.DESK_HEIGHT and not any(icon.holds(x, y) for icon in ICONS.values())


def menu_corner(x: int, y: int) -> tuple[int, int]:
    """Where a menu asked for at (x, y) opens: on the grid's corner next to it, but off the edges and off the folders,
    which it must not hide.
    """
    width, height = screen.MENU_SIZE
    right, low = screen.SLOTS[0].x - width, screen.DESK_HEIGHT - height
    return min(x, right) // MENU_GRID * MENU_GRID, min(y, low) // MENU_GRID * MENU_GRID


def paint(state: Desktop) -> Frame:
    """The frame that shows a state: RGB, uint8, [24, 32, 3]."""
    frame = screen.blank()
    for slot in range(state.folders):
        screen.draw_folder(frame, slot)
    if state.window is not None:
        screen.draw_window(frame, state.window)
    if state.launching is not None:
        screen.draw_bar(frame, state.launching.app, state.launching.shown, LAUNCH_FRAMES[state.launching.app])
    if state.menu is not None:
        screen.draw_menu(frame, *state.menu)
    screen.draw_pointer(frame, state.x, state.y)
    return screen.to_rgb(frame)


class World:
    """One running desktop.

    Every world starts alike unless given another `start`, so that a recorded session can be replayed from its inputs.
    """

    def __init__(self, start: Desktop | None = None) -> None:
        self._start = start or Desktop()
        self._state = self._start

    @property
    def state(self) -> Desktop:
        return self._state

    @property
    def frame(self) -> Frame:
        """What the screen shows now."""
        return paint(self._state)

    def reset(self) -> Frame:
        """Go back to the start; returns its frame."""
        self._state = self._start
        return self.frame

    def step(self, inputs: Inputs | Mapping[str, object]) -> Frame:
        """Take one step and return the frame after it.

        `inputs` may be the wire's form; InvalidInputs (a ValueError) is raised on a bad one, and nothing changes.
        """
        self._state = advance(self._state, inputs if isinstance(inputs, Inputs) else Inputs.parse(inputs))
        return self.frame
