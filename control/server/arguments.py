"""Looks at a command's name and arguments before it travels; the actor has the last word on both."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from control.protocol import CommandSpec

NOTHING_REMOTE: Registry[Any] = Registry()
"""Resolves references within a schema only: with its own default the library would fetch URLs that a schema names."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, if any does."""
    found = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)
    return found[0] if found else None


def fault(spec: CommandSpec, arguments: dict[str, Any]) -> str | None:
    """What is wrong with the arguments under the actor's schema, in words; None where they fit."""
    try:
        Draft202012Validator.check_schema(spec.arguments)
        validator = Draft202012Validator(spec.arguments, registry=NOTHING_REMOTE)
        error = best_match(validator.iter_errors(arguments))
    except (SchemaError, Unresolvable):
        return None  # a schema that cannot be read binds nobody: the actor judges
    if error is None:
        return None
    where = ".".join(str(part) for part in error.absolute_path)
    return f"{spec.name}: {where + ': ' if where else ''}{error.message}"
