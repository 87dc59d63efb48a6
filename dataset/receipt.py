"""What travels with a batch: which samples it holds, drawn how, covering which stretches.

A receipt is handed back, after the optimizer step that used its batch, to `InteractiveMixture.complete`. Only then
are its samples consumed; a batch that was fetched and never trained leaves no trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from dataset.errors import ReceiptError
from dataset.positions import Span
from dataset.source import Item, Key, Run

_Row = TypeVar("_Row")

RECEIPT = "receipt"
"""The name under which a batch carries its receipt."""


class Redraw(msgspec.Struct, frozen=True):
    """A draw that was repeated, and the sources that were dry, in the order in which they were drawn."""

    draw: int
    dry: tuple[str, ...]


class Receipt(msgspec.Struct, frozen=True):
    """One batch: row i was draw `first_draw + i`, of `sources[i]`, with `keys[i]`, received at `times[i]` (Unix seconds;
    there are none where that is known of no row).

    `version` is that of the weights behind every row. `spans`, `jumped` and `own_keys` are by source, in order; `sizes`
    counts bytes of undecoded samples by source (0: unknown). `stream` tells batches from before and after a restore apart.

    From worker processes of a plain `DataLoader`, `rank` and `world` count workers, `version` is the oldest behind any
    row, `versions` tells from which draw on which one was, and `states` are those of readers that have changed.
    """

    rank: int
    world: int
    stream: int
    version: int
    first_draw: int
    sources: tuple[str, ...] = ()
    own_keys: Mapping[str, tuple[Key, ...]] = {}
    times: tuple[float | None, ...] = ()
    spans: Mapping[str, tuple[Span, ...]] = {}
    jumped: Mapping[str, tuple[Span, ...]] = {}
    sizes: Mapping[str, int] = {}
    redraws: tuple[Redraw, ...] = ()
    versions: tuple[tuple[int, int], ...] = ()
    states: Mapping[str, Mapping[str, Any]] = {}

    @property
    def next_draw(self) -> int:
        """The draw that follows the last row."""
        return self.first_draw + len(self.sources)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all rows."""
        return tuple(map(str, in_order(self.sources, self.own_keys)))

    def keys_of(self, source: str) -> tuple[str, ...]:
        """The keys of the rows that came from `source`, in order."""
        return tuple(map(str, self.own_keys.get(source, ())))


_decode_receipt = msgspec.json.Decoder(Receipt).decode


class Head(msgspec.Struct, frozen=True, gc=False):
    """What is known of a batch before it is read, as its receipt tells it."""

    rank: int
    world: int
    stream: int
    version: int
    first_draw: int


class Columns(msgspec.Struct, frozen=True, gc=False):
    """What a receipt tells of the items of one source, in order; `times` is None where no step was received for any."""

    samples: Sequence[Mapping[str, Any]]
    keys: Sequence[Key]
    times: Sequence[float | None] | None
    spans: tuple[Span, ...]
    jumped: tuple[Span, ...] = ()
    size: int = 0

    @classmethod
    def of(cls, items: Run | Sequence[Item]) -> Columns:
        """Those of items, at least one. Stretches that touch become one."""
        if isinstance(items, Run):
            return cls(items.samples, items.keys, None, (items.span,), (), sum(items.sizes))
        spans: list[Span] = []
        jumped: list[Span] = []
        size = 0
        first = items[0].span
        partition, start, end = first.partition, first.start, first.start
        for item in items:
            span = item.span
            if span.start != end or span.partition != partition:
                spans.append(Span(partition, start, end))
                partition, start = span.partition, span.start
            end = span.end
            if item.jumped is not None:
                jumped.append(item.jumped)
            size += item.size
        spans.append(Span(partition, start, end))
        times = [item.time for item in items]
        return cls(
            [item.sample for item in items],
            [item.key for item in items],
            times if times.count(None) < len(times) else None,
            tuple(spans),
            tuple(jumped),
            size,
        )


def in_order(names: Sequence[str], by_source: Mapping[str, Iterable[_Row]]) -> list[_Row]:
    """Rows that each source has in order, in that of the draws, which came from these sources."""
    return _gathered(names, {name: iter(own) for name, own in by_source.items()})


def _gathered(names: Sequence[str], rows: Mapping[str, Iterator[_Row]]) -> list[_Row]:
    return list(map(next, itemgetter(*names)(rows))) if len(names) > 1 else [next(rows[name]) for name in names]


def filled(head: Head, names: Sequence[str], by_source: Mapping[str, Columns], redraws: Sequence[Redraw]) -> Receipt:
    """A receipt with its rows: the sources that they came from, and what those tell of them."""
    keys: dict[str, tuple[Key, ...]] = {}
    spans, jumped, sizes, timed = {}, {}, {}, False
    for name, own in by_source.items():
        keys[name], spans[name], sizes[name] = tuple(own.keys), own.spans, own.size
        timed = timed or own.times is not None
        if own.jumped:
            jumped[name] = own.jumped
    times: tuple[float | None, ...] = ()
    if timed:
        times = tuple(in_order(names, {name: own.times or repeat(None) for name, own in by_source.items()}))
    return _receipt(head, names, keys, times, spans, jumped, sizes, redraws)


def of_runs(head: Head, names: Sequence[str], runs: Mapping[str, Run]) -> tuple[list[Mapping[str, Any]], Receipt]:
    """The samples of whole runs, and their receipt: no draw was repeated, nothing left out, and nothing timed."""
    rows: dict[str, Iterator[Mapping[str, Any]]] = {}
    keys: dict[str, tuple[Key, ...]] = {}
    spans, sizes = {}, {}
    for name, run in runs.items():
        rows[name], keys[name] = iter(run.samples), tuple(run.keys)
        spans[name], sizes[name] = (run.span,), sum(run.sizes)
    return _gathered(names, rows), _receipt(head, names, keys, (), spans, {}, sizes, ())


def _receipt(
    head: Head,
    names: Sequence[str],
    keys: Mapping[str, tuple[Key, ...]],
    times: tuple[float | None, ...],
    spans: Mapping[str, tuple[Span, ...]],
    jumped: Mapping[str, tuple[Span, ...]],
    sizes: Mapping[str, int],
    redraws: Sequence[Redraw],
) -> Receipt:
    return Receipt(
        head.rank,
        head.world,
        head.stream,
        head.version,
        head.first_draw,
        tuple(names),
        keys,
        times,
        spans,
        jumped,
        sizes,
        tuple(redraws),
    )


def take_receipt(batch: MutableMapping[str, Any]) -> Receipt:
    """Remove the receipt from a batch and return it; what is left goes to the model."""
    receipt = batch.pop(RECEIPT, None)
    if isinstance(receipt, (list, tuple)) and receipt and all(isinstance(row, str) for row in receipt):
        return merged([_decode_receipt(row) for row in receipt])
    if not isinstance(receipt, Receipt):
        raise ReceiptError(
            f"a batch with the keys {sorted(batch)} carries no receipt; take batches from a MixtureLoader, each once "
            "(a DataLoader with workers brings receipts where its collate_fn keeps strings, as torch's default does)"
        )
    return receipt


def merged(rows: Sequence[Receipt]) -> Receipt:
    """One receipt out of those of the rows of a batch, which one worker drew one after the other."""
    keys: dict[str, list[Key]] = {}
    spans: dict[str, list[Span]] = {}
    jumped: dict[str, list[Span]] = {}
    sizes: Counter[str] = Counter()
    versions: list[tuple[int, int]] = []
    states: dict[str, Mapping[str, Any]] = {}
    times = [received for row in rows for received in row.times or (None,) * len(row.sources)]
    expected = rows[0].first_draw
    for row in rows:
        if row.first_draw != expected or row.rank != rows[0].rank:
            raise ReceiptError(
                f"a batch holds draw {row.first_draw} of worker {row.rank} where draw {expected} of worker "
                f"{rows[0].rank} comes next; let collate_fn keep all rows, in order"
            )
        expected = row.next_draw
        for name, own in row.own_keys.items():
            keys.setdefault(name, []).extend(own)
        for name, stretches in row.spans.items():
            spans.setdefault(name, []).extend(stretches)
        for name, stretches in row.jumped.items():
            jumped.setdefault(name, []).extend(stretches)
        sizes.update(row.sizes)
        if not versions or versions[-1][1] != row.version:
            versions.append((row.first_draw, row.version))
        states |= row.states
    return msgspec.structs.replace(
        rows[0],
        version=min(row.version for row in rows),
        sources=tuple([name for row in rows for name in row.sources]),
        own_keys={name: tuple(own) for name, own in keys.items()},
        times=tuple(times) if times.count(None) < len(times) else (),
        spans={name: tuple(stretches) for name, stretches in spans.items()},
        jumped={name: tuple(stretches) for name, stretches in jumped.items()},
        sizes=dict(sizes),
        redraws=tuple([redraw for row in rows for redraw in row.redraws]),
        versions=tuple(versions),
        states=states,
    )
