"""What is kept of the keyboard: the keys themselves, their classes only, or nothing while a password is typed.

A model that learns how a program looks needs to know that a letter was typed, seldom which. With `classes`, every key
becomes one of `KeyClass` before anything is stored, and text is left out. A step whose inputs say `is_password` loses
its keys and text in any case. Names are those of browsers (`key` and `code` of a KeyboardEvent) and of pyautogui.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from ingest.types import Rejection, Step

KEY_FIELDS = ("keys_down", "keys_up", "keys", "key", "code")
"""Inputs that name keys: one, or a list of them."""
TEXT_FIELDS = ("text", "data", "value")
"""Inputs that hold what was typed."""
PASSWORD = "is_password"
"""An input that an app sets to true while the focus is in a field that must not be recorded."""


class Keep(StrEnum):
    """What of the keyboard is stored."""

    KEYS = "keys"
    CLASSES = "classes"


class KeyClass(StrEnum):
    """All that is told of a key."""

    LETTER = "letter"
    DIGIT = "digit"
    SYMBOL = "symbol"
    NAVIGATION = "navigation"
    MODIFIER = "modifier"
    EDITING = "editing"
    FUNCTION = "function"
    OTHER = "other"


class KeyRules(BaseModel):
    """What is kept of the keyboard, by the name of the app; `default` holds for all others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Keep = Keep.KEYS
    apps: Mapping[str, Keep] = {}

    def of(self, app: str) -> Keep:
        """What is kept of an app's keyboard."""
        return self.apps.get(app, self.default)


_CLASSES = {
    KeyClass.NAVIGATION: "arrow(left|right|up|down)|left|right|up|down|home|end|page_?(up|down)|pg(up|dn|down)|tab",
    KeyClass.MODIFIER: "(shift|control|ctrl|alt|meta|super|win|command|cmd|option|os|hyper)[_-]?(left|right|l|r)?"
    "|altgraph|altgr|fn|fnlock|capslock|numlock|scrolllock|option(left|right)",
    KeyClass.EDITING: "enter|return|numpadenter|backspace|delete|del|insert|escape|esc|space|spacebar|clear|undo|redo"
    "|cut|copy|paste",
    KeyClass.FUNCTION: "f[1-9]|f1[0-9]|f2[0-4]|print_?screen|prtsc|prtscr|prntscrn|pause|break|context_?menu|apps",
    KeyClass.LETTER: "key[a-z]",
    KeyClass.DIGIT: "(digit|numpad|num)[0-9]",
    KeyClass.SYMBOL: "minus|equal|bracket(left|right)|semicolon|quote|backquote|backslash|comma|period|slash"
    "|intl(backslash|ro|yen)|numpad(add|subtract|multiply|divide|decimal|comma|equal)"
    "|add|subtract|multiply|divide|decimal|separator",
}
_named = {kind: re.compile(pattern) for kind, pattern in _CLASSES.items()}


def class_of(key: str) -> KeyClass:
    """The class of a key, by its name or by the character that it types."""
    if len(key) == 1:
        if key.isalpha():
            return KeyClass.LETTER
        if key.isdigit():
            return KeyClass.DIGIT
        return KeyClass.EDITING if key.isspace() else KeyClass.SYMBOL
    name = key.lower()
    return next((kind for kind, pattern in _named.items() if pattern.fullmatch(name)), KeyClass.OTHER)


def reduced(step: Step, keep: Keep) -> Step:
    """The step as it may be stored; itself, where nothing of it has to go."""
    inputs, rejected = step.inputs, step.rejected
    kept = _kept(inputs, keep) if inputs else inputs
    found = None if rejected is None else _reduced_rejection(rejected, inputs, keep)
    if kept == inputs and found == rejected:
        return step
    return msgspec.structs.replace(step, inputs=kept, rejected=found)


def _kept(inputs: Mapping[str, Any], keep: Keep) -> Mapping[str, Any]:
    if inputs.get(PASSWORD) is True:
        return {name: _emptied(name, value) for name, value in inputs.items()}
    if keep is Keep.CLASSES:
        return {name: _classified(name, value) for name, value in inputs.items() if name not in TEXT_FIELDS}
    return inputs


def _reduced_rejection(rejected: Rejection, inputs: Mapping[str, Any] | None, keep: Keep) -> Rejection:
    """A rejection quotes its step: by its original text, and in its detail by the value that broke the rule."""
    said: dict[str, Any] = {} if rejected.original is None else msgspec.json.decode(rejected.original)
    meant = said.get("inputs") if inputs is None else inputs
    secret = isinstance(meant, dict) and meant.get(PASSWORD) is True
    if keep is not Keep.CLASSES and not secret:
        return rejected
    original = rejected.original
    if original is not None:
        original = msgspec.json.encode({**said, "inputs": _kept(meant, keep) if isinstance(meant, dict) else None})
    return msgspec.structs.replace(rejected, detail=f"it breaks the rule {rejected.reason}", original=original)


def _emptied(name: str, value: Any) -> Any:
    if name not in KEY_FIELDS and name not in TEXT_FIELDS:
        return value
    return [] if isinstance(value, list) else None


def _classified(name: str, value: Any) -> Any:
    if name not in KEY_FIELDS or value is None:
        return value
    if isinstance(value, str):
        return class_of(value).value
    if isinstance(value, list):
        return [class_of(key).value if isinstance(key, str) else KeyClass.OTHER.value for key in value]
    return KeyClass.OTHER.value
