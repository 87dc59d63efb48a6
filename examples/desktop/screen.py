"""The screen: its size, its few colours, the places of things on it, and how they are drawn.

A frame is an RGB array, uint8, [24, 32, 3]. Every pixel has one of `PALETTE`'s colours, which lie far apart, so that a
painted frame can be snapped to the nearest ones. Drawing is done in indices of that palette.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAR",
    "BROWSER_ICON",
    "CLOSE_BUTTON",
    "COLUMN_FRAMES",
    "DESK_HEIGHT",
    "HEIGHT",
    "MENU_CLOSE",
    "MENU_NEW_FOLDER",
    "MENU_SIZE",
    "NOTES_ICON",
    "PALETTE",
    "POINTER_SIZE",
    "SHELL_ICON",
    "SLOTS",
    "SPLASH",
    "WIDTH",
    "WINDOW",
    "Frame",
    "Rect",
    "blank",
    "draw_bar",
    "draw_folder",
    "draw_menu",
    "draw_pointer",
    "draw_window",
    "pointer_shape",
    "to_rgb",
]

Frame = NDArray[np.uint8]

WIDTH, HEIGHT = 32, 24

_COLOURS = {
    "t": (0, 128, 128),  # desk
    "k": (0, 0, 0),
    "w": (255, 255, 255),
    "g": (192, 192, 192),
    "d": (64, 64, 64),
    "b": (0, 0, 192),
    "y": (255, 208, 0),
    "o": (255, 112, 0),
    "s": (112, 192, 255),
    "n": (0, 208, 64),
    "r": (208, 0, 48),
}
_INDEX = {letter: index for index, letter in enumerate(_COLOURS)}
PALETTE: NDArray[np.uint8] = np.array(list(_COLOURS.values()), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    def holds(self, x: int, y: int) -> bool:
        """Whether the pixel lies inside."""
        return self.x <= x < self.x + self.w and self.y <= y < self.y + self.h

    def at(self, x: int, y: int) -> Rect:
        """The same rectangle, moved by (x, y)."""
        return Rect(self.x + x, self.y + y, self.w, self.h)

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing a frame."""
        return slice(self.y, self.y + self.h), slice(self.x, self.x + self.w)


DESK_HEIGHT = 22  # below it lies the task bar
BROWSER_ICON, NOTES_ICON, SHELL_ICON = Rect(0, 1, 5, 5), Rect(0, 8, 5, 5), Rect(0, 15, 5, 5)
SLOTS = (Rect(27, 1, 5, 5), Rect(27, 8, 5, 5), Rect(27, 15, 5, 5))  # where new folders go, in order
WINDOW = Rect(6, 2, 20, 18)
CLOSE_BUTTON = Rect(22, 3, 3, 3)
SPLASH = WINDOW
BAR = Rect(6, 8, 20, 12)
"""Where an app's bar grows; as wide as it takes long, and so tall that the pointer never hides how far it has come."""
COLUMN_FRAMES = 4  # that a column of the bar, two pixels wide, takes from white through ever hotter colours
MENU_SIZE = (12, 9)
MENU_NEW_FOLDER, MENU_CLOSE = Rect(1, 1, 10, 4), Rect(1, 5, 10, 3)  # relative to the menu's corner


def _bitmap(*rows: str) -> Frame:
    """Letters of the palette to indices; a dot is 255: not drawn."""
    return np.array([[_INDEX.get(letter, 255) for letter in row] for row in rows], dtype=np.uint8)


_POINTER = _bitmap("k..", "kk.", "kwk", "kk.")
_POINTER_PLANES = np.stack([np.equal(_POINTER, _INDEX[colour]) for colour in "kw"]).astype(np.float32)
POINTER_SIZE = (3, 4)
_GLOBE = _bitmap("bbbbb", "bsssb", "bsssb", "bsssb", "bbbbb")
_PAGE = _bitmap("wwwww", "wwwww", "ddddd", "wwwww", "wwwww")
_PROMPT = _bitmap("kkkkk", "kkkkk", "knnnk", "kkkkk", "kkkkk")
_FOLDER = _bitmap("yyyyy", "yyyyy", "ooooo", "yyyyy", "yyyyy")
_CROSS = _bitmap("rwr", "wrw", "rwr")
_ENTRY = _bitmap("yy.....", "yyyy.kk", "oooo.kk")
_LETTERS = {"A": ".#.#.####.##.##", "D": "##.#.##.##.###.", "L": "#..#..#..#..###", "O": ".#.#.##.##.#.#."}


def _text(frame: Frame, x: int, y: int, words: str, colour: str) -> None:
    for place, letter in enumerate(words):
        dots = np.array([dot == "#" for dot in _LETTERS[letter]]).reshape(5, 3)
        frame[y : y + 5, x + 4 * place : x + 4 * place + 3][dots] = _INDEX[colour]


def _fill(frame: Frame, rect: Rect, colour: str) -> None:
    frame[rect.area] = _INDEX[colour]


def _stamp(frame: Frame, bitmap: Frame, x: int, y: int) -> None:
    """Draw a bitmap, cut off at the screen's right and lower edges."""
    part = bitmap[: max(HEIGHT - y, 0), : max(WIDTH - x, 0)]
    under = frame[y : y + part.shape[0], x : x + part.shape[1]]
    np.copyto(under, part, where=part != 255)


def _desk() -> Frame:
    frame = np.full((HEIGHT, WIDTH), _INDEX["t"], dtype=np.uint8)
    _fill(frame, Rect(0, DESK_HEIGHT, WIDTH, HEIGHT - DESK_HEIGHT), "d")
    _fill(frame, Rect(0, DESK_HEIGHT, 4, 2), "n")
    for icon, bitmap in ((BROWSER_ICON, _GLOBE), (NOTES_ICON, _PAGE), (SHELL_ICON, _PROMPT)):
        _stamp(frame, bitmap, icon.x, icon.y)
    return frame


def _window(bar: str, body: str) -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _fill(frame, WINDOW, body)
    _fill(frame, Rect(WINDOW.x, WINDOW.y, WINDOW.w, 5), bar)
    _stamp(frame, _CROSS, CLOSE_BUTTON.x, CLOSE_BUTTON.y)
    return frame


def _lines(frame: Frame, x: int, y: int, widths: tuple[int, ...], colour: str, gap: int = 2) -> None:
    for row, width in enumerate(widths):
        _fill(frame, Rect(x, y + gap * row, width, 1), colour)


def _notes() -> Frame:
    frame = _window("b", "w")
    _lines(frame, 8, 10, (16, 16, 16), "d", gap=3)
    return frame[WINDOW.area].copy()


def _shell() -> Frame:
    frame = _window("d", "k")
    _lines(frame, 7, 9, (10, 10, 10), "n", gap=4)
    return frame[WINDOW.area].copy()


def _browser() -> Frame:
    frame = _window("o", "w")
    _fill(frame, Rect(WINDOW.x, WINDOW.y + 5, WINDOW.w, 2), "g")
    _fill(frame, Rect(8, 11, 7, 7), "s")
    _fill(frame, Rect(17, 11, 7, 7), "n")
    return frame[WINDOW.area].copy()


def _splash() -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _fill(frame, SPLASH, "g")
    _text(frame, SPLASH.x + 2, SPLASH.y + 1, "LOAD", "k")
    return frame[SPLASH.area].copy()


def _menu() -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    width, height = MENU_SIZE
    _fill(frame, Rect(0, 0, width, height), "k")
    _fill(frame, Rect(1, 1, width - 2, height - 2), "w")
    _stamp(frame, _ENTRY, 2, 1)
    _fill(frame, Rect(2, 6, 8, 1), "d")
    return frame[:height, :width].copy()


_DESK, _SPLASH, _MENU = _desk(), _splash(), _menu()
_HEATS = "yor"
_BAR_COLOURS = {"shell": "n", "browser": "b"}
_WINDOWS = {"notes": _notes(), "shell": _shell(), "browser": _browser()}


def blank() -> Frame:
    """The desk with nothing open, in palette indices, [24, 32]."""
    return _DESK.copy()


def draw_window(frame: Frame, app: str) -> None:
    """Draw an app's window, in place."""
    frame[WINDOW.area] = _WINDOWS[app]


def draw_folder(frame: Frame, slot: int) -> None:
    """Draw a folder's icon, in place."""
    _stamp(frame, _FOLDER, SLOTS[slot].x, SLOTS[slot].y)


def draw_bar(frame: Frame, app: str, shown: int, whole: int) -> None:
    """Draw the splash of an app that has come `shown` of `whole` frames far, in place."""
    frame[SPLASH.area] = _SPLASH
    columns, heat = divmod(shown, COLUMN_FRAMES)
    _fill(frame, Rect(BAR.x, BAR.y, 2 * (whole // COLUMN_FRAMES), BAR.h), "w")
    _fill(frame, Rect(BAR.x, BAR.y, 2 * columns, BAR.h), _BAR_COLOURS[app])
    if heat:
        _fill(frame, Rect(BAR.x + 2 * columns, BAR.y, 2, BAR.h), _HEATS[heat - 1])


def draw_menu(frame: Frame, x: int, y: int) -> None:
    """Draw the context menu with its upper left corner at (x, y), in place."""
    _stamp(frame, _MENU, x, y)


def draw_pointer(frame: Frame, x: int, y: int) -> None:
    """Draw the pointer with its tip at (x, y), in place."""
    _stamp(frame, _POINTER, x, y)


def pointer_shape(x: int, y: int) -> NDArray[np.float32]:
    """Outline and fill of a pointer at (x, y), as planes [2, 24, 32] of zeros and ones."""
    planes = np.zeros((2, HEIGHT, WIDTH), dtype=np.float32)
    part = _POINTER_PLANES[:, : HEIGHT - y, : WIDTH - x]
    planes[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return planes


def to_rgb(indices: NDArray[Any]) -> Frame:
    """Palette indices [..., H, W] to RGB [..., H, W, 3]."""
    frame: Frame = PALETTE.take(indices, axis=0)
    return frame
