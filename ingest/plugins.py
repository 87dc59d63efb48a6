"""Loads what an app brings: its annotator and the like, named `module:name` in the settings."""

from __future__ import annotations

import importlib
from typing import Any

from ingest.errors import PluginError


def load_plugin(reference: str) -> Any:
    """The object called `name` in `module`, both given as `module:name`; dots in `name` go through attributes.

    Raises `PluginError` when there is no such thing, or when the module fails to import (with its own error as cause).
    """
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise PluginError(f"plug-in {reference!r}: expected module:name, for instance ingest.annotator:PassThrough")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f"plug-in {reference!r}: importing {module_name} failed ({type(error).__name__}: {error}); "
            "is its folder on the Python path?"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise PluginError(f"plug-in {reference!r}: {module_name} has no {name}; correct the name in the settings")
        found = getattr(found, part)
    return found
