"""Which samples entered a backward pass, step by step, so that a click can be followed into the weights.

One line of JSON a completed step, appended to `trained/r0-000000.jsonl` in the segment's folder (a file set a rank):
`[step, unix seconds, {"live": ["key", …], …}]`. It is flushed with each step, so it survives the death of the process,
and synced with each checkpoint, so what a machine's death takes from it is undone anyway. Old files go when there are many.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from dataset import Receipt
from trainer.segments import RunFolder

FILE_BYTES = 16 << 20
KEPT_FILES = 8

logger = logging.getLogger(__name__)


class Trained(msgspec.Struct, frozen=True, array_like=True):
    """One completed step: when it was, and the keys of its samples by source."""

    step: int
    time: float
    keys: dict[str, list[str]]


_decode_trained = msgspec.json.Decoder(Trained).decode


class TrainedJournal:
    """Written by one rank of one segment. A file that cannot be written costs lines, not the training."""

    def __init__(self, segment: Path, rank: int, file_bytes: int = FILE_BYTES, kept_files: int = KEPT_FILES) -> None:
        self._folder, self._rank = segment / "trained", rank
        self._file_bytes, self._kept_files = file_bytes, kept_files
        self._file: IO[bytes] | None = None
        self._number = 0
        self._failing = False

    def write(self, step: int, receipts: Sequence[Receipt]) -> None:
        """Append the samples of a completed step."""
        keys: dict[str, list[str]] = {}
        for receipt in receipts:
            for source in receipt.own_keys:
                keys.setdefault(source, []).extend(receipt.keys_of(source))
        if not keys:
            return
        line = msgspec.json.encode(Trained(step, time.time(), keys)) + b"\n"
        try:
            self._append(line)
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.error("%s: cannot be written (%s); training goes on without it", self._folder, error)
            self._failing = True

    def sync(self) -> None:
        """Make everything so far durable."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None or self._file.tell() >= self._file_bytes:
            self._next_file()
        assert self._file is not None
        self._file.write(line)
        self._file.flush()

    def _next_file(self) -> None:
        self.close()
        self._folder.mkdir(exist_ok=True)
        self._file = (self._folder / f"r{self._rank}-{self._number:06d}.jsonl").open("ab")
        self._number += 1
        for number in range(self._number - self._kept_files):
            (self._folder / f"r{self._rank}-{number:06d}.jsonl").unlink(missing_ok=True)


def trained_in(segment: Path, until: int | None = None) -> Iterator[Trained]:
    """What one segment trained, up to and including step `until`, file by file; a torn last line is left out."""
    for path in sorted((segment / "trained").glob("r*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the process died while it wrote
                entry = _decode_trained(line)
                if until is None or entry.step <= until:
                    yield entry


def trained_along(folder: RunFolder, segment: str | None = None) -> Iterator[tuple[str, Trained]]:
    """What the chain of a segment (the newest one by default) trained: (segment, step and keys), the root first.

    Each segment counts up to where the next one forks: what lay beyond is undone.
    """
    if segment is None:
        segments = folder.segments()
        if not segments:
            return
        segment = segments[-1].id
    for stretch in folder.chain(segment):
        for entry in trained_in(folder.folder_of(stretch.segment.id), stretch.until):
            yield stretch.segment.id, entry
