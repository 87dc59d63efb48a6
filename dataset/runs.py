"""Many samples at once, of sources that are read in an order known beforehand: whole runs, as long as all is well.

Most samples decode, and were not deleted; then a run of them costs little more than its samples. Where one cannot be
used, those of its run are judged one by one, and come to the same items as if each had been asked for by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Protocol

import msgspec

from dataset.order import EpochOrder, Places
from dataset.planning import PASSED_OVER, Finisher, Loaded
from dataset.positions import Span
from dataset.source import Item, Key, Run


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """Samples in columns; `sizes` is empty where they are unknown."""

    samples: Sequence[Mapping[str, Any]] = ()
    keys: Sequence[Key] = ()
    sizes: Sequence[int] = ()

    def loaded(self) -> Iterator[Loaded]:
        """Each by itself."""
        for sample, key, size in zip(self.samples, self.keys, self.sizes or repeat(0), strict=False):
            yield Loaded(str(key), sample, size)


class ManyLoader(Protocol):
    """A loader that also loads several at once."""

    def __call__(self, what: Any, /) -> Loaded: ...

    def many(self, whats: Sequence[Any], /) -> Decoded:
        """What was planned, up to one that cannot be used: that is met again by itself, and judged there."""
        ...


def next_run(
    order: EpochOrder,
    whats: Callable[[list[int]], Sequence[Any]] | None,
    load: ManyLoader,
    finisher: Finisher,
    count: int,
) -> Run | list[Item]:
    """The next items of an order, of one epoch, at most `count`.

    `whats` tells the loader which numbers are meant; None where it takes the numbers themselves. No item only
    where there is none now, or so many in a row cannot be used that the source counts as dry.
    """
    passed_over = 0
    while passed_over < PASSED_OVER and (places := order.next_many(count)) is not None:
        planned = places.numbers if whats is None else whats(places.numbers)
        decoded = Decoded() if finisher.uncovered else load.many(planned)
        if len(decoded.samples) == len(planned) and finisher.gave_all(decoded.keys, places.epoch > 0):
            return Run(places.span, places.ends, decoded.samples, decoded.keys, decoded.sizes)
        items = _judged(places, planned, decoded, load, finisher)
        if items:
            return items
        passed_over += len(planned)
    return []


def _judged(
    places: Places, planned: Sequence[Any], decoded: Decoded, load: ManyLoader, finisher: Finisher
) -> list[Item]:
    """The items of these places, of which the first are decoded already: one by one, without those to be skipped."""
    items: list[Item] = []
    start = places.span.start
    for loaded, end in zip(
        chain(decoded.loaded(), map(load, planned[len(decoded.samples) :])), places.ends, strict=True
    ):
        item = finisher.item(loaded, Span(places.span.partition, start, end), repeat=places.epoch > 0)
        if item is not None:
            items.append(item)
        start = end
    return items
