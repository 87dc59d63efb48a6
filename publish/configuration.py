"""What of a folder's JSON decides which model it is, apart from what libraries write about themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

# Written by the libraries about themselves; two folders that differ only in these hold the same model.
_STAMPS = frozenset({"_diffusers_version", "_name_or_path", "transformers_version", "torch_dtype", "dtype"})


def settings(files: Mapping[str, Path]) -> Mapping[str, object]:
    """The JSON configurations among a folder's files, by name. Raises ValueError where one is no JSON."""
    found: dict[str, object] = {}
    for name, path in sorted(files.items()):
        if not name.endswith(".json") or name == "manifest.json" or name.endswith(".index.json"):
            continue
        stored = json.loads(path.read_bytes())
        if isinstance(stored, dict):
            stored = {key: value for key, value in stored.items() if key not in _STAMPS}
        found[name] = stored
    return found


def configuration_hash(files: Mapping[str, Path]) -> str:
    """SHA-256 of those, so that two versions of one architecture have one hash. Raises ValueError as `settings` does."""
    return hashlib.sha256(msgspec.json.encode(settings(files), order="sorted")).hexdigest()
