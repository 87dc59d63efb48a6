"""The contract of a source: configuration that opens readers, and a reader that is polled.

A `Source` holds configuration only, so it can be pickled and sent to workers; whatever has threads, sockets or files
lives in the `SourceReader` that it opens, inside the process that reads. A reader never blocks: a dry one says so, and
the mixture goes on without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from dataset.positions import IntervalSet, Span


class Share(msgspec.Struct, frozen=True):
    """Which part of a source one reader takes: `index` of `count` readers over all ranks and workers, and the seed."""

    index: int = 0
    count: int = 1
    seed: int = 0


class Item(msgspec.Struct, frozen=True):
    """One sample, decoded, with the stretch that it covers, its key, and when its step was received (Unix seconds)."""

    sample: Mapping[str, Any]
    key: str
    span: Span
    time: float | None = None


class SourceStats(msgspec.Struct, frozen=True):
    """Counters since the reader was opened; `lag` is the number of samples (or offsets) that wait, -1 if unknown."""

    polled: int = 0
    repeats: int = 0
    skipped: int = 0
    jumped: int = 0
    lag: int = -1
    oldest_waiting: float | None = None


class SourceReader(Protocol):
    """Reads one share of a source. Used from one thread."""

    def poll(self) -> Item | None:
        """The next item, or None when there is none now. Never blocks on the network or on a writer."""
        ...

    def exhausted(self) -> bool:
        """True when no item will ever come again."""
        ...

    def stats(self) -> SourceStats: ...

    def state(self) -> Mapping[str, Any]:
        """What positions do not tell (repeats, jumps, growth events), of JSON types, small; handed back to `open`."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """Something that samples come from. Configuration only: it can be pickled."""

    @property
    def fingerprint(self) -> str:
        """Names what is read, so that a resume on something else is refused by name."""
        ...

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> SourceReader:
        """A reader that yields what is not in `consumed`, in the calling process."""
        ...
