"""The order of a finite set of samples over epochs and shares, as a pure function of the seed.

In epoch e the samples stand in one permutation; a share `i/n` reads the places j with j % n == i, in order, and books
them in a partition of that name. An interval [(e, a), (e, b)) in the partition `i/n` therefore says that those places
of its own were read. On another number of shares each place is read unless any partition says that it was: nothing has
to be handed over, the union of what was consumed is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataset.errors import StateError
from dataset.positions import ORIGIN, IntervalSet, Span
from dataset.source import Share
from dataset.uniforms import permutation
from ingest import Point

_CHUNK = 4096


class Place(NamedTuple):
    """A sample to be read: its number in the set, and the stretch from the place read before to behind this one."""

    number: int
    epoch: int
    span: Span


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Points of one epoch, each made when it is asked for: of most only the last is."""

    epoch: int
    places: list[int]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Point]:
        return zip(repeat(self.epoch), self.places, strict=False)


class Places(msgspec.Struct, frozen=True, gc=False):
    """Several to be read one after the other, all in one epoch: together they cover `span`, each up to its end."""

    numbers: list[int]
    epoch: int
    span: Span
    ends: Ends


def share_name(share: Share) -> str:
    """The name of a share's own partition."""
    return f"{share.index}/{share.count}"


class Taken:
    """What shares of any layout have read of numbered places."""

    def __init__(self, share: Share, consumed: Mapping[str, IntervalSet]) -> None:
        self.name = share_name(share)
        self.start: Point = consumed.get(self.name, IntervalSet()).next_after(ORIGIN)
        self._others: list[tuple[int, int, IntervalSet]] = []
        for name, intervals in consumed.items():
            index, count = _parsed(name)
            if count != share.count:  # the other shares of this layout read other places
                self._others.append((index, count, intervals))
        self.cycle = math.lcm(*(count for _, count, _ in self._others))  # places after which the other shares recur
        ends = [end for _, _, intervals in self._others for _, end in intervals]
        self.newest_epoch = max((epoch for epoch, _ in ends), default=-1)  # that another layout has begun

    def holds(self, epoch: int, place: int) -> bool:
        """Whether a share of another layout has read a place."""
        return self._covers(epoch, place, (epoch, place + 1))

    def holds_rest(self, epoch: int, place: int) -> bool:
        """The same of the place and of all that follow it in the epoch, a number of cycles apart."""
        return self._covers(epoch, place, (epoch + 1, 0))

    def _covers(self, epoch: int, place: int, end: Point) -> bool:
        start = (epoch, place)
        return any(place % count == index and intervals.covers(start, end) for index, count, intervals in self._others)

    def left(self, places: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Those of `places` that no share of another layout has read."""
        for index, count, intervals in self._others:
            for (first_epoch, first), (last_epoch, last) in intervals:
                if first_epoch <= epoch <= last_epoch:
                    read = places % count == index
                    if first_epoch == epoch:
                        read &= places >= first
                    if last_epoch == epoch:
                        read &= places < last
                    places = places[~read]
        return places


def _parsed(name: str) -> tuple[int, int]:
    index, slash, count = name.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise StateError(
            f"{name!r} is no share (expected 0/1, 1/4, …), so these positions belong to another kind of source"
        )
    return int(index), int(count)


class EpochOrder:
    """The places of one share, epoch after epoch.

    `size_of(epoch, fresh)` tells how many samples an epoch has, where `fresh` says that no share has read any of it;
    0 means that there is nothing yet, and it is asked again. With `epochs` None there is no end.
    """

    def __init__(
        self,
        share: Share,
        consumed: Mapping[str, IntervalSet],
        size_of: Callable[[int, bool], int],
        shuffle: bool = True,
        epochs: int | None = None,
    ) -> None:
        self._share = share
        self._taken = Taken(share, consumed)
        self._size_of = size_of
        self._shuffle = shuffle
        self._epochs = epochs
        self._at: Point = self._taken.start
        self._epoch: int = self._at[0]
        self._chunks: Iterator[tuple[list[int], list[int]]] | None = None  # of an epoch that was begun
        self._ends: list[int] = []  # of places, in this epoch
        self._numbers: list[int] = []
        self._cursor = 0  # in these two

    def next(self) -> Place | None:
        """The next place; None where there is none now (nothing there yet), or none any more (see `ended`)."""
        if self._cursor == len(self._ends) and not self._go_on():
            return None
        at, self._cursor = self._cursor, self._cursor + 1
        start, self._at = self._at, (self._epoch, self._ends[at])
        return Place(self._numbers[at], self._epoch, Span(self._taken.name, start, self._at))

    def next_many(self, count: int) -> Places | None:
        """The next places, at least one and at most `count`; None where `next` gives none."""
        first = self._cursor
        ends = self._ends[first : first + count]
        if not ends:
            return self.next_many(count) if self._go_on() else None
        self._cursor = cursor = first + len(ends)
        start, epoch = self._at, self._epoch
        self._at = end = epoch, ends[-1]
        return Places(self._numbers[first:cursor], epoch, Span(self._taken.name, start, end), Ends(epoch, ends))

    def ended(self) -> bool:
        """Whether all epochs were read."""
        return self._epochs is not None and self._epoch >= self._epochs

    def _go_on(self) -> bool:
        """Have a place at the cursor; False where there is none."""
        while not self.ended():
            if self._chunks is None:
                fresh = self._at <= (self._epoch, 0) and self._taken.newest_epoch < self._epoch
                size = self._size_of(self._epoch, fresh)
                if size <= self._share.index:
                    return False
                self._chunks = self._begin(size)
            chunk = next(self._chunks, None)
            if chunk is not None:
                (self._ends, self._numbers), self._cursor = chunk, 0
                return True
            self._chunks = None
            self._epoch += 1
        return False

    def _begin(self, size: int) -> Iterator[tuple[list[int], list[int]]]:
        share, epoch = self._share, self._epoch
        first = self._at[1] if self._at[0] == epoch else 0
        first += (share.index - first) % share.count
        places = self._taken.left(np.arange(first, size, share.count), epoch)
        numbers = permutation(size, "epoch", share.seed, epoch)[places] if self._shuffle else places
        for start in range(0, len(places), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            yield (places[chunk] + 1).tolist(), numbers[chunk].tolist()
