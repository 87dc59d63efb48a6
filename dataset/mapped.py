"""A source over anything with a length and an index: torch map-style datasets, Hugging Face datasets, lists."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, Protocol

from dataset.decoding import BAD_LIMIT, Decoder
from dataset.order import EpochOrder
from dataset.planning import Finisher, Loaded, Planned
from dataset.positions import IntervalSet
from dataset.runs import Decoded, next_run
from dataset.source import Item, Run, Share, SourceStats

logger = logging.getLogger(__name__)


class Indexable(Protocol):
    """A map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def as_sample(element: Any) -> Any:
    """The decoder where none was given: the element itself."""
    return element


@dataclass(frozen=True)
class MapSource:
    """Reads a map-style dataset for ever, or `epochs` times, in a new order each time (in its own without `shuffle`).

    `decode` makes a mapping of tensors out of an element; elements that are mappings need none. A dataset that gives
    several at once (`__getitems__`, as torch's `DataLoader` asks for them) is asked so. An element that cannot
    be got or decoded is skipped; more than `bad_limit` in a row are an error.
    """

    dataset: Indexable
    decode: Callable[[Any], Mapping[str, Any]] = as_sample
    shuffle: bool = True
    epochs: int | None = None
    bad_limit: int = BAD_LIMIT

    has_epochs: ClassVar[bool] = True

    @property
    def fingerprint(self) -> str:
        """The dataset's type and length, and its own fingerprint where it has one (Hugging Face)."""
        own = getattr(self.dataset, "_fingerprint", "")
        return f"map:{type(self.dataset).__qualname__}[{len(self.dataset)}]{own}"

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> MapReader:
        """A reader of one share."""
        return MapReader(self, share, consumed)

    def loader(self) -> MapLoader:
        """Gets and decodes elements, in the calling process."""
        return MapLoader(self)


class MapLoader:
    """Loads elements by their index."""

    def __init__(self, source: MapSource) -> None:
        self._dataset, self._decode = source.dataset, source.decode
        self._several = getattr(source.dataset, "__getitems__", None)  # as torch's DataLoader asks for a batch

    def __call__(self, index: int) -> Loaded:
        """The element, decoded."""
        return Loaded.decoded(self._fetch, index, str(index))

    def many(self, indices: Sequence[int]) -> Decoded:
        """The elements, decoded, up to one that cannot be used."""
        samples: list[Mapping[str, Any]] = []
        try:
            if self._several is not None:
                elements = self._several(indices)
            else:
                elements = map(self._dataset.__getitem__, indices)
            samples.extend(elements if self._decode is as_sample else map(self._decode, elements))
        except Exception:  # it is met again by itself, and judged there
            logger.debug("elements %s cannot all be used", indices, exc_info=True)
        if list(map(type, samples)).count(dict) < len(samples):
            samples = list(takewhile(_is_mapping, samples))
        return Decoded(samples, indices if len(samples) == len(indices) else indices[: len(samples)])

    def _fetch(self, index: int) -> Mapping[str, Any]:
        return self._decode(self._dataset[index])


def _is_mapping(sample: object) -> bool:
    return isinstance(sample, Mapping)


class MapReader:
    """Reads one share of a map-style dataset."""

    def __init__(self, source: MapSource, share: Share, consumed: Mapping[str, IntervalSet]) -> None:
        size = len(source.dataset)
        self._order = EpochOrder(share, consumed, lambda epoch, fresh: size, source.shuffle, source.epochs)
        self._load = source.loader()
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._finisher = Finisher(self._decoder)

    def plan(self) -> Planned | None:
        """The next place of the share's order."""
        place = self._order.next()
        return None if place is None else Planned(place.number, place.span, repeat=place.epoch > 0)

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item."""
        return self._finisher(planned, loaded)

    def poll(self) -> Item | None:
        """The next item of the share."""
        while (place := self._order.next()) is not None:
            item = self._finisher.item(self._load(place.number), place.span, repeat=place.epoch > 0)
            if item is not None:
                return item
        return None

    def poll_many(self, count: int) -> Run | list[Item]:
        """The next items of the share, of one epoch."""
        return next_run(self._order, None, self._load, self._finisher, count)

    def exhausted(self) -> bool:
        """Whether the last epoch was read."""
        return self._order.ended()

    def stats(self) -> SourceStats:
        """Counters; every sample of a later epoch is a repeat."""
        finisher = self._finisher
        return SourceStats(polled=finisher.polled, repeats=finisher.repeats, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """Nothing: the positions tell all."""
        return {}

    def close(self) -> None:
        """Nothing to close."""
