"""A version's manifest: what it holds, what it was trained on, and the signature over all of it.

The signature is Ed25519 over the canonical JSON of the manifest without its `signature`. A reader verifies it with a
key of its own configuration before it opens any file that the manifest names, and every file against its digest before
any tensor is parsed. There is no unsigned path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

FORMAT = 1
MANIFEST = "manifest.json"


class FileDigest(msgspec.Struct, frozen=True):
    """SHA-256 (hexadecimal) and size in bytes of one file."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, omit_defaults=False):
    """One immutable version. `files` are paths relative to the version's folder; `watermark` is per source and
    partition the point (offset, index) below which everything was trained on; times are Unix seconds."""

    format: int
    version: int
    created_at: float
    run: str
    branch: str
    segment: str
    step: int
    ema: bool
    parent: int | None
    files: Mapping[str, FileDigest]
    watermark: Mapping[str, Mapping[str, tuple[int, int]]] = {}
    consumed: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}
    newest_sample_time: float | None = None
    evaluation: Mapping[str, Any] = {}
    key_id: str = ""
    signature: str = ""

    @property
    def label(self) -> str:
        """The version's number as six digits or more, which orders like the number."""
        return f"{self.version:06d}"

    def canonical(self) -> bytes:
        """The bytes that are signed: sorted JSON without the signature."""
        stored = msgspec.to_builtins(self)
        del stored["signature"]
        return msgspec.json.encode(stored, order="sorted")
