"""The screen: its size, its sixteen-odd colours, the places of things on it, and how they are drawn.

A frame is an RGB array, uint8, [48, 64, 3]. Every pixel has one of `PALETTE`'s colours, which lie far apart, so that a
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

WIDTH, HEIGHT = 64, 48

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


DESK_HEIGHT = 44  # below it lies the task bar
BROWSER_ICON, NOTES_ICON, SHELL_ICON = Rect(2, 3, 8, 8), Rect(2, 16, 8, 8), Rect(2, 29, 8, 8)
SLOTS = (Rect(54, 3, 8, 8), Rect(54, 16, 8, 8), Rect(54, 29, 8, 8))  # where new folders go, in order
WINDOW = Rect(12, 4, 40, 36)
CLOSE_BUTTON = Rect(46, 5, 5, 5)
SPLASH = Rect(11, 11, 42, 24)
BAR = Rect(12, 24, 40, 10)  # taller than the pointer, which so never hides how far it has come
MENU_SIZE = (28, 16)
MENU_NEW_FOLDER, MENU_CLOSE = Rect(1, 1, 26, 7), Rect(1, 8, 26, 7)  # relative to the menu's corner


def _bitmap(*rows: str) -> Frame:
    """Letters of the palette to indices; a dot is 255: not drawn."""
    return np.array([[_INDEX.get(letter, 255) for letter in row] for row in rows], dtype=np.uint8)


_POINTER = _bitmap("k....", "kk...", "kwk..", "kwwk.", "kwwwk", "kwkk.", "kk...")
_POINTER_PLANES = np.stack([np.equal(_POINTER, _INDEX[colour]) for colour in "kw"]).astype(np.float32)
POINTER_SIZE = (5, 7)
_GLOBE = _bitmap(
    "..bbbb..", ".bssnnb.", "bsnnnnsb", "bsnnnssb", "bssnsssb", "bsssnnsb", ".bssnsb.", "..bbbb..",
)  # fmt: skip
_PAGE = _bitmap(
    ".wwwww..", ".wddwwk.", ".wwwwwk.", ".wdddwk.", ".wwwwwk.", ".wddwwk.", ".wwwwwk.", "..kkkkk.",
)  # fmt: skip
_PROMPT = _bitmap(
    "gggggggg", "gkkkkkkg", "gknkkkkg", "gkknkkkg", "gknkkkkg", "gkkknnkg", "gkkkkkkg", "gggggggg",
)  # fmt: skip
_FOLDER = _bitmap(
    ".yyy....", "yyyyy...", "yyyyyyyy", "yoooooyy", "yyyyyyyy", "yyyyyyyy", "yyyyyyyy", "oooooooo",
)  # fmt: skip
_CROSS = _bitmap("rrrrr", "rwrwr", "rrwrr", "rwrwr", "rrrrr")
_LETTERS = {
    "A": ".#.#.####.##.##", "B": "##.#.###.#.###.", "C": ".###..#..#...##", "D": "##.#.##.##.###.",
    "E": "####..##.#..###", "F": "####..##.#..#..", "G": ".###..#.##.#.##", "H": "#.##.#####.##.#",
    "I": "###.#..#..#.###", "L": "#..#..#..#..###", "N": "##.#.##.##.##.#", "O": ".#.#.##.##.#.#.",
    "R": "##.#.###.#.##.#", "S": ".###...#...###.", "T": "###.#..#..#..#.", "W": "#.##.##.#####.#",
}  # fmt: skip


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
    _fill(frame, Rect(1, DESK_HEIGHT + 1, 6, 2), "n")
    for icon, bitmap in ((BROWSER_ICON, _GLOBE), (NOTES_ICON, _PAGE), (SHELL_ICON, _PROMPT)):
        _stamp(frame, bitmap, icon.x, icon.y)
    return frame


def _window(title: str, bar: str, body: str) -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _fill(frame, WINDOW, body)
    _fill(frame, Rect(WINDOW.x, WINDOW.y, WINDOW.w, 7), bar)
    _text(frame, WINDOW.x + 2, WINDOW.y + 1, title, "w")
    _stamp(frame, _CROSS, CLOSE_BUTTON.x, CLOSE_BUTTON.y)
    return frame


def _lines(frame: Frame, x: int, y: int, widths: tuple[int, ...], colour: str, gap: int = 3) -> None:
    for row, width in enumerate(widths):
        _fill(frame, Rect(x, y + gap * row, width, 1), colour)


def _notes() -> Frame:
    frame = _window("NOTES", "b", "w")
    _lines(frame, 15, 14, (30, 26, 32, 18, 28, 30, 12), "d")
    return frame[WINDOW.area].copy()


def _shell() -> Frame:
    frame = _window("SHELL", "d", "k")
    _lines(frame, 14, 13, (3, 20, 14, 3, 26, 8, 3), "n")
    _fill(frame, Rect(19, 31, 2, 3), "w")
    return frame[WINDOW.area].copy()


def _browser() -> Frame:
    frame = _window("WEB", "o", "w")
    _fill(frame, Rect(12, 11, 40, 5), "g")
    _fill(frame, Rect(14, 12, 30, 3), "w")
    _fill(frame, Rect(15, 13, 14, 1), "b")
    _fill(frame, Rect(14, 18, 15, 11), "s")
    _fill(frame, Rect(14, 25, 15, 4), "n")
    _fill(frame, Rect(23, 20, 3, 3), "y")
    _lines(frame, 32, 19, (17, 15, 18, 12), "d")
    _lines(frame, 14, 32, (34, 30, 22), "d")
    return frame[WINDOW.area].copy()


def _splash() -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _fill(frame, SPLASH, "d")
    _fill(frame, Rect(12, 12, 40, 12), "g")
    _text(frame, 18, 15, "LOADING", "k")
    _fill(frame, BAR, "w")
    return frame[SPLASH.area].copy()


def _menu() -> Frame:
    frame = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    width, height = MENU_SIZE
    _fill(frame, Rect(0, 0, width, height), "k")
    _fill(frame, Rect(1, 1, width - 2, height - 2), "w")
    _text(frame, 4, 2, "NEW", "k")
    _stamp(frame, _bitmap(".yy...", "yyyyyy", "yyyyyy", "yyyyyy", "oooooo"), 18, 2)
    _text(frame, 4, 9, "CLOSE", "d")
    return frame[:height, :width].copy()


_DESK, _SPLASH, _MENU = _desk(), _splash(), _menu()
_WINDOWS = {"notes": _notes(), "shell": _shell(), "browser": _browser()}


def blank() -> Frame:
    """The desk with nothing open, in palette indices, [48, 64]."""
    return _DESK.copy()


def draw_window(frame: Frame, app: str) -> None:
    """Draw an app's window, in place."""
    frame[WINDOW.area] = _WINDOWS[app]


def draw_folder(frame: Frame, slot: int) -> None:
    """Draw a folder's icon, in place."""
    _stamp(frame, _FOLDER, SLOTS[slot].x, SLOTS[slot].y)


def draw_bar(frame: Frame, columns: int) -> None:
    """Draw the splash of a launch that has come so many columns far, in place."""
    frame[SPLASH.area] = _SPLASH
    _fill(frame, Rect(BAR.x, BAR.y, columns, BAR.h), "b")


def draw_menu(frame: Frame, x: int, y: int) -> None:
    """Draw the context menu with its upper left corner at (x, y), in place."""
    _stamp(frame, _MENU, x, y)


def draw_pointer(frame: Frame, x: int, y: int) -> None:
    """Draw the pointer with its tip at (x, y), in place."""
    _stamp(frame, _POINTER, x, y)


def pointer_shape(x: int, y: int) -> NDArray[np.float32]:
    """Outline and fill of a pointer at (x, y), as planes [2, 48, 64] of zeros and ones."""
    planes = np.zeros((2, HEIGHT, WIDTH), dtype=np.float32)
    part = _POINTER_PLANES[:, : HEIGHT - y, : WIDTH - x]
    planes[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return planes


def to_rgb(indices: NDArray[Any]) -> Frame:
    """Palette indices [..., H, W] to RGB [..., H, W, 3]."""
    frame: Frame = PALETTE.take(indices, axis=0)
    return frame
