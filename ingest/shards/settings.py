"""Where shards are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ingest.shards.directory import DirectoryStore
from ingest.shards.store import ShardStore


class ArchiveSettings(BaseModel):
    """Where shards are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["directory"] = "directory"
    folder: Path

    def open(self) -> ShardStore:
        """The store itself: only configuration, nothing is made yet."""
        return DirectoryStore(self.folder)
