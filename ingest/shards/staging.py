"""Files that shards are written into before anybody sees them, and what is done with those of dead writers."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

from ingest.shards.store import StagedShard

logger = logging.getLogger(__name__)

_STRAY_AGE = 60.0
"""Seconds that an unlocked temporary file is left alone: its writer may be about to lock it."""


def stage_in(folder: Path, *, durable: bool) -> StagedShard:
    """A new file in a folder that is there."""
    path = folder / f".{os.getpid()}-{os.urandom(6).hex()}.tmp"
    file = open(path, "x+b", buffering=1 << 20)  # noqa: SIM115  # lives as long as the shard is built
    fcntl.flock(file, fcntl.LOCK_EX)  # held until the end of its process, however it ends: see `clean_in`
    return StagedShard(file, path, durable=durable)


def clean_in(folder: Path) -> int:
    """Remove the files of writers that are dead; return how many."""
    removed = 0
    for path in folder.glob(".*.tmp"):
        try:
            with open(path, "rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime < _STRAY_AGE:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # its writer lives, or has just finished
        removed += 1
        logger.info("removed %s, which a writer that died had left", path)
    return removed
