"""The loader: batches made when they are asked for, so that the next one obeys whatever was said before.

It is not handed to `accelerator.prepare`, which would fetch one batch ahead. Each rank makes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import default_collate

from dataset.errors import SourceError
from dataset.interactive import InteractiveMixture
from dataset.reading import Idle
from dataset.receipt import RECEIPT

Collate = Callable[[list[Any]], Mapping[str, Any]]


class MixtureLoader:
    """An iterable of batches: what `collate` makes of `batch_size` samples, with the `Receipt` under "receipt".

    Take the receipt out with `take_receipt` and hand it to `dataset.complete` once an optimizer step has used the
    batch. Iteration begins after what was completed, waits while all sources are dry, and ends when no sample will
    ever come again or when `idle` returns False. `idle` is called about every millisecond while waiting, in the
    thread that iterates: commands can be served there, and a change of weights holds for the very batch that waits.
    """

    def __init__(
        self,
        dataset: InteractiveMixture,
        batch_size: int,
        collate: Collate = default_collate,
        rank: int = 0,
        world: int = 1,
        idle: Idle | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but a batch holds at least 1 sample")
        dataset.set_layout(rank, world)
        self.dataset = dataset
        self.batch_size = batch_size
        self.collate = collate
        self.idle = idle

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches from the first sample on that was not completed. One iteration at a time."""
        self.dataset.rewind()
        while (taken := self.dataset.take_samples(self.batch_size, self.idle)) is not None:
            samples, receipt = taken
            batch = self.collate(samples)
            if not isinstance(batch, Mapping):
                raise SourceError(
                    f"collate returned {type(batch).__name__}, but a batch is a mapping of tensors by name; "
                    "return a dict from collate"
                )
            yield {**batch, RECEIPT: receipt}
