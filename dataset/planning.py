"""Reading in two halves: which sample comes next is planned where the mixture is, and it is loaded anywhere.

A reader that plans says what comes next without reading it; a loader, perhaps in a worker process, fetches and decodes
it; and the reader finishes it into an item, in the order of its plans. Order, positions and what is skipped are thereby
decided in one place, and are the same whoever loads, and however many do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec

from dataset.decoding import Decoder
from dataset.positions import Span
from dataset.source import Item, Source, SourceReader


class Planned(msgspec.Struct, frozen=True):
    """A sample that comes next, not loaded yet: `what` tells the loader which it is, small and to be pickled.

    It covers `span`; `jumped` was left out right before it; `repeat` tells that it was given before. What has a `lane` is
    loaded by one worker and in the order of the plans, as long as that worker lives; all else by any, in any order.
    """

    what: Any
    span: Span
    jumped: Span | None = None
    repeat: bool = False
    lane: int | None = None


class Loaded(msgspec.Struct, frozen=True):
    """What a loader made: the sample with its key, or the error that its decoding ended with.

    `size` is that of the undecoded sample in bytes, `time` when its step was received; `label` names it in messages.
    """

    key: str
    sample: Mapping[str, Any] | None
    size: int = 0
    time: float | None = None
    error: Exception | None = None
    label: str = ""

    @classmethod
    def decoded(
        cls,
        decode: Callable[[Any], Any],
        raw: Any,
        key: str,
        size: int = 0,
        time: float | None = None,
        label: str = "",
    ) -> Loaded:
        """What `decode` makes of `raw`; its error is kept, to be judged in the order of the plans."""
        try:
            sample = decode(raw)
            if type(sample) is not dict and not isinstance(sample, Mapping):  # the first is quicker, and the rule
                raise TypeError(
                    f"the sample is a {type(sample).__name__}, but a sample is a mapping by name; "
                    "give a decode function that returns a dict"
                )
        except Exception as error:
            return cls(key, None, size, time, error, label)
        return cls(key, sample, size, time)


Loader = Callable[[Any], Loaded]
"""Loads what was planned. An error that it raises ends reading; a sample that cannot be used is `Loaded.error`."""


@runtime_checkable
class PlanningReader(SourceReader, Protocol):
    """A reader whose `poll` is `plan`, the source's loader, and `finish`, one after the other."""

    def plan(self) -> Planned | None:
        """What comes next, or None when there is nothing now. Never blocks."""
        ...

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """The item of the oldest plan that is not finished; None where it is skipped."""
        ...


def next_item(reader: PlanningReader, load: Loader) -> Item | None:
    """The next item of a reader, loaded right here; what is skipped is passed over. None when there is nothing now."""
    while (planned := reader.plan()) is not None:
        item = reader.finish(planned, load(planned.what))
        if item is not None:
            return item
    return None


@runtime_checkable
class LoadingSource(Source, Protocol):
    """A source that can load what its readers plan, in any process."""

    def loader(self) -> Loader:
        """Something that loads, in the calling process; it may keep what it opens."""
        ...


class Finisher:
    """Makes items out of what was planned and loaded, in order.

    What could not be decoded is skipped, and covered by the item after it in the same partition: else a resume would
    go back to it, and repeat what was read since.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._uncovered: dict[str, Span] = {}
        self._jumped: dict[str, Span] = {}
        self.polled = self.repeats = 0

    def __call__(self, planned: Planned, loaded: Loaded) -> Item | None:
        """The item, or None where it is skipped. Raises `BadSamples` when too many are, in a row."""
        return self.item(loaded, planned.span, planned.jumped, planned.repeat)

    def item(self, loaded: Loaded, span: Span, jumped: Span | None = None, repeat: bool = False) -> Item | None:
        """The same, for a plan that was never written down."""
        if self._uncovered or self._jumped:
            span, jumped = self._with_skipped(span, jumped)
        sample = loaded.sample
        if sample is None:
            self._decoder.skip(loaded.label or loaded.key, loaded.error or ValueError("nothing was decoded"))
            self._uncovered[span.partition] = span
            if jumped is not None:
                self._jumped[span.partition] = jumped
            return None
        self._decoder.succeeded()
        self.polled += 1
        self.repeats += repeat
        return Item(sample, loaded.key, span, loaded.time, loaded.size, jumped)

    def _with_skipped(self, span: Span, jumped: Span | None) -> tuple[Span, Span | None]:
        """Lengthened by what was skipped before."""
        name = span.partition
        skipped, before = self._uncovered.pop(name, None), self._jumped.pop(name, None)
        if skipped is not None and skipped.end == span.start:
            span = Span(name, skipped.start, span.end)
        elif skipped is not None and jumped is not None and skipped.end == jumped.start:
            jumped = Span(name, skipped.start, jumped.end)
        if before is not None:
            jumped = before if jumped is None else Span(name, min(before.start, jumped.start), jumped.end)
        return span, jumped
