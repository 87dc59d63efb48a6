"""The worker processes of a plain torch `DataLoader`, in the books of the process that trains.

Each worker reads as a rank of its own: worker w of n on rank r of m is rank r * n + w of m * n. Its samples bring their
receipts with them, and what is completed here is told to it, with the weights, by the board.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dataset.errors import LayoutError
from dataset.ledger import Ledger
from dataset.mixture import InForce, Schedule, Weights
from dataset.positions import Consumed
from dataset.readers import States
from dataset.receipt import Receipt
from dataset.state import MixtureState, RankState, SourceState, rank_state


class Notice(msgspec.Struct, frozen=True):
    """What the process that trains tells its workers: the stream, its weights, and up to which draw each is done."""

    stream: int
    weights: Weights
    completed: Mapping[str, int] = {}


class Crew:
    """The books of the workers of one rank."""

    def __init__(self, base: MixtureState, rank: int, world: int, workers: int, made_with: Weights) -> None:
        self.workers, self._base = workers, base
        self._rank, self._world = rank, world
        self._ledgers: dict[int, Ledger] = {}
        self._schedules: dict[int, Schedule] = {}
        self._states: dict[str, dict[str, Mapping[str, Any]]] = {
            name: dict(source.shares) for name, source in base.sources.items()
        }
        for number in range(rank * workers, (rank + 1) * workers):
            own = rank_state(base, number, world * workers, made_with)
            self._ledgers[number] = Ledger(base, own)
            self._schedules[number] = Schedule(own.weights)

    def check(self, receipts: Sequence[Receipt], stream: int) -> None:
        """Raise `ReceiptError` unless these are the next ones of each worker."""
        for number, own in self._by_worker(receipts).items():
            self._ledgers[number].check(own, stream)

    def book(self, receipt: Receipt, weights: Mapping[int, Weights]) -> None:
        """Take in a completed batch; `weights` are those of every version that it may have been drawn with."""
        ledger, schedule = self._ledgers[receipt.rank], self._schedules[receipt.rank]
        for draw, version in receipt.versions or ((receipt.first_draw, receipt.version),):
            if version != schedule.newest.version:
                schedule.change(weights[version], draw)
        ledger.book(receipt)
        for name, state in receipt.states.items():
            self._states.setdefault(name, {})[f"{receipt.rank}/{receipt.world}"] = state

    @property
    def completed(self) -> dict[str, int]:
        """Up to which draw each worker is done."""
        return {str(number): ledger.next_draw for number, ledger in self._ledgers.items()}

    @property
    def consumed(self) -> Consumed:
        """What all workers of this rank gave to completed steps."""
        together = Consumed()
        for ledger in self._ledgers.values():
            together.update(ledger.consumed)
        return together

    def state(self, newest: Weights) -> MixtureState:
        """As it is saved: that of so many ranks as there are workers."""
        jumped = Consumed()
        for ledger in self._ledgers.values():
            jumped.update(ledger.jumped)
        return msgspec.structs.replace(
            self._base,
            world=self._world * self.workers,
            ranks={str(number): self._rank_state(number, newest) for number in self._ledgers},
            sources={
                name: SourceState(source.fingerprint, self._states.get(name, {}))
                for name, source in self._base.sources.items()
            },
            consumed=self.consumed.dump(),
            jumped=jumped.dump(),
        )

    @property
    def states(self) -> States:
        """The states of the workers' readers."""
        return {name: dict(shares) for name, shares in self._states.items()}

    def _rank_state(self, number: int, newest: Weights) -> RankState:
        ledger, entries = self._ledgers[number], self._schedules[number].dump()
        if newest.version > entries[-1].weights.version:  # set, and not yet seen in a completed batch
            entries = (*(entry for entry in entries if entry.from_draw < ledger.next_draw),)
            entries = (*entries, InForce(ledger.next_draw, newest))
        return RankState(ledger.next_draw, entries, ledger.redraws.dump())

    def _by_worker(self, receipts: Sequence[Receipt]) -> dict[int, list[Receipt]]:
        found: dict[int, list[Receipt]] = {}
        for receipt in receipts:
            if receipt.world != self._world * self.workers or receipt.rank not in self._ledgers:
                raise LayoutError(
                    f"a receipt is of rank {receipt.rank} of {receipt.world}, but rank {self._rank} of {self._world} is "
                    f"read by {self.workers} workers; load the state before reading with another number of them"
                )
            found.setdefault(receipt.rank, []).append(receipt)
        return found
