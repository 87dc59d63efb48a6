"""What a person does in one step, as a frozen type, read from and written to the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.desktop.errors import InvalidInputs
from examples.desktop.screen import HEIGHT, WIDTH

__all__ = ["MAX_KEYS", "MAX_KEY_LENGTH", "Inputs"]

MAX_KEYS = 16
MAX_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Inputs:
    """One step's inputs: where the pointer is, and what was pressed since the step before.

    A click is an event, not a held button. Of two clicks in one step the left one counts.
    """

    x: int
    y: int
    left: bool = False
    right: bool = False
    keys_down: tuple[str, ...] = ()
    keys_up: tuple[str, ...] = ()

    @property
    def escape(self) -> bool:
        """Whether the Escape key went down."""
        return "Escape" in self.keys_down

    @property
    def pressed(self) -> bool:
        """Whether anything was pressed that the desktop listens to."""
        return self.left or self.right or self.escape

    @classmethod
    def parse(cls, wire: object) -> Inputs:
        """Read the wire's form; unknown fields are passed over, since apps may add some.

        Raises InvalidInputs (a ValueError) naming the value and the rule.
        """
        if not isinstance(wire, Mapping):
            raise InvalidInputs(f"inputs: {wire!r}, but inputs are an object with at least x and y")
        return cls(
            x=_coordinate(wire, "x", WIDTH),
            y=_coordinate(wire, "y", HEIGHT),
            left=_flag(wire, "is_left_click"),
            right=_flag(wire, "is_right_click"),
            keys_down=_keys(wire, "keys_down"),
            keys_up=_keys(wire, "keys_up"),
        )

    def wire(self) -> dict[str, Any]:
        """The form that travels in a step's `inputs`."""
        return {
            "x": self.x,
            "y": self.y,
            "is_left_click": self.left,
            "is_right_click": self.right,
            "keys_down": list(self.keys_down),
            "keys_up": list(self.keys_up),
        }


def _coordinate(wire: Mapping[str, object], name: str, size: int) -> int:
    value = wire.get(name)
    if type(value) is not int or not 0 <= value < size:
        raise InvalidInputs(f"inputs.{name}: {value!r}, but it is a whole number from 0 to {size - 1}")
    return value


def _flag(wire: Mapping[str, object], name: str) -> bool:
    value = wire.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInputs(f"inputs.{name}: {value!r}, but it is true or false")
    return value


def _keys(wire: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = wire.get(name, [])
    if not isinstance(value, list | tuple) or len(value) > MAX_KEYS:
        raise InvalidInputs(f"inputs.{name}: {value!r}, but it is a list of at most {MAX_KEYS} names of keys")
    for key in value:
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH:
            raise InvalidInputs(
                f"inputs.{name}: holds {key!r}, but a key's name is text of 1 to {MAX_KEY_LENGTH} characters"
            )
    return tuple(value)
