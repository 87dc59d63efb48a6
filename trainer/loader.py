"""The mixture's loader inside a Trainer: commands act while it waits, and ranks wait for each other's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dataset import InteractiveMixture, MixtureLoader

if TYPE_CHECKING:
    from trainer.steering import Steering


def mixture_loader(steering: Steering, dataset: InteractiveMixture, collate: Callable[..., Any]) -> Any:
    """Batches of the mixture for this rank, made when they are asked for; not to be handed to `accelerator.prepare`."""
    args = steering.trainer.args
    rank, world = steering.ranks.rank, steering.ranks.world
    if world == 1:
        return MixtureLoader(dataset, args.train_batch_size, collate, rank, world, steering.idle)
    return _Together(steering, dataset, args.train_batch_size, collate)


class _Together:
    """Yields a batch when every rank has one, so that none waits in a collective for a rank whose sources are dry.

    Ranks go in rounds: in each, all say whether they are ready, and commands act on all at once. It ends on all ranks
    when it ends on one.
    """

    def __init__(
        self, steering: Steering, dataset: InteractiveMixture, batch_size: int, collate: Callable[..., Any]
    ) -> None:
        self._steering = steering
        self._ended = False
        ranks = steering.ranks
        self._loader = MixtureLoader(dataset, batch_size, collate, ranks.rank, ranks.world, self._waiting)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._ended = False
        for batch in self._loader:
            while not (agreed := self._steering.agree_ready(True))[0]:
                if agreed[1] or self._steering.leaving is not None:
                    return
            yield batch
        if not self._ended and self._steering.leaving is None:
            self._steering.agree_ready(False, ended=True)

    def _waiting(self) -> bool:
        if not self._steering.looks_again():
            return True
        _, self._ended = self._steering.agree_ready(False)
        return not self._ended and self._steering.leaving is None
