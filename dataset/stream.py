"""The shortest way to a source of one's own: partitions that are read in order, and may still grow."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from dataset.decoding import BAD_LIMIT, Decoder
from dataset.planning import Finisher, Loaded, Planned, next_item
from dataset.positions import IntervalSet, Span
from dataset.source import Item, Share, SourceStats

LOOK = 0.05
"""Seconds between two looks for more, in partitions that are read to their end."""


class StreamSource:
    """A source that is its two methods: what partitions there are, and how one is read from a position on.

    Each partition is read by one share, in order. Derive a dataclass of what it is configured by; and where an element
    is costly to make a sample of, let `read` give it raw and `decode` make the sample: that is done by workers, ahead.
    Class attributes say how long it is read: `grows` (looked at for more, for ever), and with `bad_limit` how many
    samples in a row may fail to decode.
    """

    grows: ClassVar[bool] = True
    bad_limit: ClassVar[int] = BAD_LIMIT

    def partitions(self) -> Iterable[str]:
        """The names of what can be read by itself, such as files. More may come, as long as it grows."""
        raise NotImplementedError(f"{type(self).__name__} has to say what `partitions` it has")

    def read(self, partition: str, position: int) -> Iterator[tuple[Any, int]]:
        """What is there from a position on, each with the position after it; 0 is the beginning, and positions grow.

        It ends where nothing more is there now, and is called again later, if the source grows.
        """
        raise NotImplementedError(f"{type(self).__name__} has to `read` a partition from a position on")

    def decode(self, raw: Any) -> Mapping[str, Any]:
        """The sample of what `read` gave, in any process."""
        return raw  # type: ignore[no-any-return]

    @property
    def fingerprint(self) -> str:
        """The class and its configuration; a resume on another one is refused."""
        names: list[str] = [field.name for field in fields(self)] if is_dataclass(self) else []
        told = [f"{name}={getattr(self, name)}" for name in names if name != "decode"]
        return f"{type(self).__name__}({', '.join(told)})"

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> StreamReader:
        """A reader of the share's partitions."""
        return StreamReader(self, share, consumed)

    def loader(self) -> StreamLoader:
        """Decodes, in the calling process."""
        return StreamLoader(self)


class StreamLoader:
    """Decodes what was read."""

    def __init__(self, source: StreamSource) -> None:
        self._source = source

    def __call__(self, read: tuple[Any, str]) -> Loaded:
        """The sample."""
        raw, key = read
        return Loaded.decoded(self._source.decode, raw, key, len(raw) if isinstance(raw, bytes) else 0)


@dataclass
class _Partition:
    """One partition that is being read."""

    name: str
    position: int
    elements: Iterator[tuple[Any, int]] | None = None
    ended: bool = False


class StreamReader:
    """Reads some partitions of a source, which ones depends on their names only; always on where the position is lowest.

    So what comes next is a function of positions, and the same after a resume.
    """

    def __init__(self, source: StreamSource, share: Share, consumed: Mapping[str, IntervalSet]) -> None:
        self._source, self._share, self._consumed = source, share, consumed
        self._load = source.loader()
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._finisher = Finisher(self._decoder)
        self._partitions: dict[str, _Partition] = {}
        self._next_look = 0.0

    def plan(self) -> Planned | None:
        """The next element of a partition that has one."""
        waiting = self._with_more()
        if not waiting:
            self._look()
            waiting = self._with_more()
        while waiting:
            partition = min(waiting, key=lambda each: (each.position, each.name))
            planned = self._next_of(partition)
            if planned is not None:
                return planned
            waiting.remove(partition)
        return None

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item."""
        return self._finisher(planned, loaded)

    def poll(self) -> Item | None:
        """The next item."""
        return next_item(self, self._load)

    def exhausted(self) -> bool:
        """Whether all was read, of a source that does not grow."""
        return not self._source.grows and self._next_look > 0 and not self._with_more()

    def stats(self) -> SourceStats:
        """Counters."""
        return SourceStats(polled=self._finisher.polled, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """Nothing: the positions tell all."""
        return {}

    def close(self) -> None:
        """Let go of what is open: generators end where they stand."""
        self._partitions.clear()

    def _with_more(self) -> list[_Partition]:
        return [partition for partition in self._partitions.values() if not partition.ended]

    def _look(self) -> None:
        """Look for more, but not all the time."""
        now = time.monotonic()
        if now < self._next_look or (self._next_look and not self._source.grows):
            return
        self._next_look = now + LOOK
        for name in self._source.partitions():
            if zlib.crc32(name.encode()) % self._share.count == self._share.index:
                if name not in self._partitions:
                    start = self._consumed.get(name, IntervalSet()).next_after()[0]
                    self._partitions[name] = _Partition(name, start)
                self._partitions[name].ended = False

    def _next_of(self, partition: _Partition) -> Planned | None:
        if partition.elements is None:
            partition.elements = iter(self._source.read(partition.name, partition.position))
        start = partition.position
        found = next(partition.elements, None)
        if found is None:
            partition.elements, partition.ended = None, True
            return None
        raw, partition.position = found
        if partition.position <= start:
            raise ValueError(
                f"{self._source.fingerprint}: {partition.name} gave position {partition.position} after {start}, but "
                "positions grow; give the position after each element"
            )
        span = Span(partition.name, (start, 0), (partition.position, 0))
        return Planned((raw, f"{partition.name}:{start}"), span)
