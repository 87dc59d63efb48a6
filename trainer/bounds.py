"""Bounds that an operator of the trainer puts on numbers of commands, by dotted path (`lr.value`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.errors import CommandRejected


def check_bounds(command: str, arguments: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raise `CommandRejected` for a number that lies outside; what was not given lies inside."""
    for path, (low, high) in bounds.items():
        value: Any = arguments
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and not low <= value <= high:
            raise CommandRejected(f"{command}: {path} is {value:g}, and this trainer takes {low:g} to {high:g}")


def narrow_schema(schema: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """The JSON Schema with the bounds as `minimum` and `maximum` of the numbers that they name."""
    narrowed = copy.deepcopy(dict(schema))
    definitions = narrowed.get("$defs", {})
    for path, (low, high) in bounds.items():
        for leaf in _leaves(narrowed, path.split("."), definitions):
            leaf.update(minimum=low, maximum=high)
    return narrowed


def _leaves(schema: dict[str, Any], path: list[str], definitions: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _leaves(definitions[schema["$ref"].rsplit("/", 1)[-1]], path, definitions)
        return
    for option in schema.get("anyOf", []):
        yield from _leaves(option, path, definitions)
    if path and path[0] in schema.get("properties", {}):
        yield from _leaves(schema["properties"][path[0]], path[1:], definitions)
    elif not path and schema.get("type") in ("number", "integer"):
        yield schema
