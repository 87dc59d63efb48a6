"""What travels with a batch: which samples it holds, drawn how, covering which stretches.

A receipt is handed back, after the optimizer step that used its batch, to `InteractiveMixture.complete`. Only then
are its samples consumed; a batch that was fetched and never trained leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec

from dataset.errors import ReceiptError
from dataset.positions import Span

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
    """

    rank: int
    world: int
    stream: int
    version: int
    first_draw: int
    sources: tuple[str, ...]
    keys: tuple[str, ...]
    times: tuple[float | None, ...]
    spans: Mapping[str, tuple[Span, ...]]
    jumped: Mapping[str, tuple[Span, ...]] = {}
    sizes: Mapping[str, int] = {}
    redraws: tuple[Redraw, ...] = ()

    @property
    def next_draw(self) -> int:
        """The draw that follows the last row."""
        return self.first_draw + len(self.sources)

    def keys_of(self, source: str) -> tuple[str, ...]:
        """The keys of the rows that came from `source`, in order."""
        return tuple(key for key, name in zip(self.keys, self.sources, strict=True) if name == source)


def take_receipt(batch: MutableMapping[str, Any]) -> Receipt:
    """Remove the receipt from a batch and return it; what is left goes to the model."""
    receipt = batch.pop(RECEIPT, None)
    if not isinstance(receipt, Receipt):
        raise ReceiptError(
            f"a batch with the keys {sorted(batch)} carries no receipt; take batches from a MixtureLoader, each once"
        )
    return receipt
