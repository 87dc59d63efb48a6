"""What travels with a batch: which samples it holds, drawn how, covering which stretches.

A receipt is handed back, after the optimizer step that used its batch, to `InteractiveMixture.complete`. Only then
are its samples consumed; a batch that was fetched and never trained leaves no trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from dataset.errors import ReceiptError
from dataset.positions import Span, joined
from dataset.source import Item

RECEIPT = "receipt"
"""The name under which a batch carries its receipt."""


class Redraw(msgspec.Struct, frozen=True):
    """A draw that was repeated, and the sources that were dry, in the order in which they were drawn."""

    draw: int
    dry: tuple[str, ...]


class Receipt(msgspec.Struct, frozen=True):
    """One batch: row i was draw `first_draw + i`, of `sources[i]`, with `keys[i]` and `times[i]` (Unix seconds).

    `version` is that of the weights behind every row. `spans` and `jumped` are by source; `sizes` counts bytes of
    undecoded samples by source (0: unknown). `stream` tells batches from before and after a restore apart.

    From worker processes of a plain `DataLoader`, `rank` and `world` count workers, `version` is the oldest behind any
    row, `versions` tells from which draw on which one was, and `states` are those of readers that have changed.
    """

    rank: int
    world: int
    stream: int
    version: int
    first_draw: int
    sources: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
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

    def keys_of(self, source: str) -> tuple[str, ...]:
        """The keys of the rows that came from `source`, in order."""
        return tuple(key for key, name in zip(self.keys, self.sources, strict=True) if name == source)


def filled(blank: Receipt, names: Sequence[str], items: Sequence[Item], redraws: Sequence[Redraw]) -> Receipt:
    """A receipt with its rows: an item each, and the source that it came from. Stretches that touch become one."""
    by_source: dict[str, list[Item]] = {name: [] for name in dict.fromkeys(names)}
    for name, item in zip(names, items, strict=True):
        by_source[name].append(item)
    jumped = {name: tuple([item.jumped for item in own if item.jumped]) for name, own in by_source.items()}
    return Receipt(
        rank=blank.rank,
        world=blank.world,
        stream=blank.stream,
        version=blank.version,
        first_draw=blank.first_draw,
        sources=tuple(names),
        keys=tuple([item.key for item in items]),
        times=tuple([item.time for item in items]),
        spans={name: joined([item.span for item in own]) for name, own in by_source.items()},
        jumped={name: spans for name, spans in jumped.items() if spans},
        sizes={name: sum([item.size for item in own]) for name, own in by_source.items()},
        redraws=tuple(redraws),
    )


def take_receipt(batch: MutableMapping[str, Any]) -> Receipt:
    """Remove the receipt from a batch and return it; what is left goes to the model."""
    receipt = batch.pop(RECEIPT, None)
    if isinstance(receipt, (list, tuple)) and receipt and all(isinstance(row, str) for row in receipt):
        return merged([msgspec.json.decode(row, type=Receipt) for row in receipt])
    if not isinstance(receipt, Receipt):
        raise ReceiptError(
            f"a batch with the keys {sorted(batch)} carries no receipt; take batches from a MixtureLoader, each once "
            "(a DataLoader with workers brings receipts where its collate_fn keeps strings, as torch's default does)"
        )
    return receipt


def merged(rows: Sequence[Receipt]) -> Receipt:
    """One receipt out of those of the rows of a batch, which one worker drew one after the other."""
    spans: dict[str, list[Span]] = {}
    jumped: dict[str, list[Span]] = {}
    sizes: Counter[str] = Counter()
    versions: list[tuple[int, int]] = []
    states: dict[str, Mapping[str, Any]] = {}
    expected = rows[0].first_draw
    for row in rows:
        if row.first_draw != expected or row.rank != rows[0].rank:
            raise ReceiptError(
                f"a batch holds draw {row.first_draw} of worker {row.rank} where draw {expected} of worker "
                f"{rows[0].rank} comes next; let collate_fn keep all rows, in order"
            )
        expected = row.next_draw
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
        keys=tuple([key for row in rows for key in row.keys]),
        times=tuple([received for row in rows for received in row.times]),
        spans={name: tuple(stretches) for name, stretches in spans.items()},
        jumped={name: tuple(stretches) for name, stretches in jumped.items()},
        sizes=dict(sizes),
        redraws=tuple([redraw for row in rows for redraw in row.redraws]),
        versions=tuple(versions),
        states=states,
    )
