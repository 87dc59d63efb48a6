"""The contract of a source: configuration that opens readers, and a reader that is polled.

A `Source` holds configuration only, so it can be pickled and sent to workers; whatever has threads, sockets or files
lives in the `SourceReader` that it opens, inside the process that reads. A reader never blocks: a dry one says so, and
the mixture goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from dataset.positions import IntervalSet, Span
from ingest import Point

Key: TypeAlias = str | int
"""What a sample is called in its source: a text, or its number in a dataset, which becomes one where it is asked for."""


class Share(msgspec.Struct, frozen=True):
    """Which part of a source one reader takes: `index` of `count` readers over all ranks and workers, and the seed."""

    index: int = 0
    count: int = 1
    seed: int = 0


class Item(msgspec.Struct, frozen=True, gc=False):
    """One sample, decoded, with the stretch that it covers, its key, and when its step was received (Unix seconds).

    `jumped` is a stretch that the reader left out right before this item, to keep up: recorded with it, not consumed.
    `size` is that of the undecoded sample in bytes, 0 if unknown.
    """

    sample: Mapping[str, Any]
    key: str
    span: Span
    time: float | None = None
    size: int = 0
    jumped: Span | None = None


class Run(msgspec.Struct, frozen=True, gc=False):
    """Several items in columns: they cover `span` together, item i from the end of the one before to `ends[i]`.

    Nothing was left out between them, and no step was received for them. `sizes` are as those of items; there are none
    where they are unknown.
    """

    span: Span
    ends: Iterable[Point]
    samples: Sequence[Mapping[str, Any]]
    keys: Sequence[Key]
    sizes: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def items(self) -> list[Item]:
        """Each by itself."""
        starts, sizes = chain((self.span.start,), self.ends), self.sizes or repeat(0)
        rows = zip(self.samples, self.keys, starts, self.ends, sizes, strict=False)
        name = self.span.partition
        return [Item(sample, str(key), Span(name, start, end), size=size) for sample, key, start, end, size in rows]


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
        """What positions do not tell, of JSON types, small; handed back to `open`.

        It holds facts about positions (from which epoch on which shards are read, from which draw on what is
        eligible), so that a state taken later also serves an earlier position.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Source(Protocol):
    """Something that samples come from. Configuration only: it can be pickled."""

    @property
    def fingerprint(self) -> str:
        """Names what is read, so that a resume on something else is refused by name."""
        ...

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> SourceReader:
        """A reader that yields what is not in `consumed`, in the calling process.

        `consumed` includes what was jumped over. `state` is of the same share if the layout is the same, else of the
        first share of the layout before (always of the first, where the source has `one_state = True`: it then holds
        for all shares); it is None at the very start.
        """
        ...


@runtime_checkable
class BatchReader(SourceReader, Protocol):
    """A reader that gives several items at once, for sources whose items cost less than being asked for each."""

    def poll_many(self, count: int) -> Run | list[Item]:
        """The next items, in the order of `poll`: at most `count`, and none only where there is none now."""
        ...


@runtime_checkable
class FollowingReader(SourceReader, Protocol):
    """A reader that yields only what another source has passed."""

    def follow(self, passed: Mapping[str, IntervalSet]) -> bool | None:
        """Take note of what the followed source has passed by now, after each completed step; not kept, not changed.

        A reader that plans returns True where it will plan anew what was planned and is not finished.
        """
        ...


@runtime_checkable
class RecencyReader(SourceReader, Protocol):
    """A reader that draws, and can prefer what is recent."""

    def prefer_recent(self, half_life: float | None, half_life_seconds: float | None = None) -> bool:
        """From the next item on, draw half as often so many samples (or seconds) back as from the newest; None: all alike.

        True where what was planned and is not finished will be planned anew.
        """
        ...


@runtime_checkable
class FollowingSource(Source, Protocol):
    """A source whose readers follow another one of the mixture."""

    @property
    def follows(self) -> str | None:
        """The name of the source that is followed; None: none."""
        ...
