"""Which knobs a setting turns, and when a newer one makes an older one pointless.

Arguments are read as a tree: `{"lr": {"value": 1e-5}}` turns the knob `lr`, `{"weights": {"live": 0.5}}` the knob
`weights.live`. A value under `scale` is relative: it builds on what was there, so it supersedes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from control.protocol import Command, CommandKind

ABSOLUTE = "value"
RELATIVE = "scale"


def turned(arguments: Mapping[str, Any]) -> frozenset[str]:
    """Every knob that the arguments turn."""
    return frozenset(knob for knob, _ in _knobs(arguments, ()))


def set_outright(arguments: Mapping[str, Any]) -> frozenset[str]:
    """The knobs whose new value does not depend on the old one."""
    found = list(_knobs(arguments, ()))
    return frozenset(knob for knob, _ in found) - {knob for knob, relative in found if relative}


def supersedes(newer: Command, older: Command, kind: CommandKind) -> bool:
    """Whether the newer of two waiting commands of one kind leaves nothing of the older one to be seen.

    True only for settings of one name where the newer sets outright each knob that the older turns.
    """
    if kind is not CommandKind.SETTING or newer.command != older.command or newer.dry_run or older.dry_run:
        return False
    knobs = turned(older.arguments)
    return bool(knobs) and knobs <= set_outright(newer.arguments)


def lasting(settings: Sequence[Command]) -> list[Command]:
    """Those of successive settings whose effect can still be seen at the end, in their order."""
    kept: list[Command] = []
    set_later: dict[str, set[str]] = {}
    for setting in reversed(settings):
        later = set_later.setdefault(setting.command, set())
        knobs = turned(setting.arguments)
        if knobs and knobs <= later:
            continue
        kept.append(setting)
        later |= set_outright(setting.arguments)
    kept.reverse()
    return kept


def _knobs(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    for key, value in tree.items():
        if key in (ABSOLUTE, RELATIVE) and path:
            yield ".".join(path), key == RELATIVE
        elif isinstance(value, Mapping) and value:
            yield from _knobs(value, (*path, key))
        else:
            yield ".".join((*path, key)), False
