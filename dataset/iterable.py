"""A source over anything that can be iterated again: torch and Hugging Face iterable datasets, webdataset pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dataset.decoding import BAD_LIMIT, Decoder
from dataset.mapped import as_sample
from dataset.order import Taken
from dataset.positions import IntervalSet, Span
from dataset.source import Item, Share, SourceStats
from ingest import Point


@dataclass(frozen=True)
class IterableSource:
    """Reads an iterable from its beginning, again and again, or `epochs` times; each share takes every n-th element.

    It must give the same elements in the same order at every pass (or at every pass of the same number, if it has a
    `set_epoch`): a resume goes through it and skips what was consumed, which takes time. A `next` that blocks
    blocks the mixture.
    """

    dataset: Iterable[Any]
    decode: Callable[[Any], Mapping[str, Any]] = as_sample
    epochs: int | None = None
    bad_limit: int = BAD_LIMIT

    has_epochs: ClassVar[bool] = True

    @property
    def fingerprint(self) -> str:
        """The iterable's type."""
        return f"iterable:{type(self.dataset).__qualname__}"

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> IterableReader:
        """A reader of one share."""
        return IterableReader(self, share, consumed)


class IterableReader:
    """Reads one share of an iterable; positions are (pass, place in the pass)."""

    def __init__(self, source: IterableSource, share: Share, consumed: Mapping[str, IntervalSet]) -> None:
        self._source = source
        self._share = share
        self._taken = Taken(share, consumed)
        self._at: Point = self._taken.start
        self._pass, self._place = self._at[0], 0
        self._elements: Iterator[Any] | None = None
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._polled = self._repeats = 0
        self._empty = False  # a pass gave nothing, so none will

    def poll(self) -> Item | None:
        """The next element of the share, decoded; goes through what was consumed before."""
        while not self.exhausted():
            if self._elements is None:
                self._elements = self._begin()
            for element in self._elements:
                place = self._place
                self._place += 1
                if self._wanted(place) and (item := self._item(element, place)) is not None:
                    return item
            self._end_pass()
        return None

    def exhausted(self) -> bool:
        """Whether the last pass was made."""
        return self._empty or (self._source.epochs is not None and self._pass >= self._source.epochs)

    def stats(self) -> SourceStats:
        """Counters; every element of a later pass is a repeat."""
        return SourceStats(polled=self._polled, repeats=self._repeats, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """Nothing: the positions tell all."""
        return {}

    def close(self) -> None:
        """Let go of the iterator."""
        self._elements = None

    def _begin(self) -> Iterator[Any]:
        set_epoch = getattr(self._source.dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self._pass)
        return iter(self._source.dataset)

    def _end_pass(self) -> None:
        self._empty = self._place <= self._share.index
        self._elements = None
        self._pass, self._place = self._pass + 1, 0

    def _wanted(self, place: int) -> bool:
        own = place % self._share.count == self._share.index and (self._pass, place) >= self._at
        return own and not self._taken.holds(self._pass, place)

    def _item(self, element: Any, place: int) -> Item | None:
        key = f"{self._pass}/{place}"
        if isinstance(element, Mapping):
            key = str(element.get("__key__", key))
        sample = self._decoder(element, key)
        if sample is None:
            return None
        span = Span(self._taken.name, self._at, (self._pass, place + 1))
        self._at = span.end
        self._polled += 1
        self._repeats += self._pass > 0
        return Item(sample, key, span)
