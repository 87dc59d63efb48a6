"""The books of a mixture on one rank, from one restore to the next: what was trained, and by which weights it was drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from dataset.crew import Crew
from dataset.errors import LayoutError
from dataset.ledger import Ledger
from dataset.mixture import KEPT, Schedule, Weights
from dataset.positions import Consumed
from dataset.readers import States
from dataset.receipt import Receipt
from dataset.source import Source
from dataset.state import MixtureState, RankState, SourceState, rank_state
from dataset.statistics import Tally


class Books:
    """Opened with the state that training goes on from (None: at the very start), on one of `world` ranks.

    `first` is the draw that they begin with. Receipts come from this process, or all from worker processes of a plain
    `DataLoader`: then there is a crew.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        seed: int,
        made_with: Weights,
        rank: int = 0,
        world: int = 1,
        state: MixtureState | None = None,
    ) -> None:
        self.rank, self.world, self.loaded = rank, world, state
        self._sources, self._seed, self._made_with = sources, seed, made_with
        begins = rank_state(state, rank, world, made_with)
        self.first = begins.next_draw
        self.schedule = Schedule(begins.weights)
        self.states: States = {name: source.shares for name, source in state.sources.items()} if state else {}
        self.crew: Crew | None = None
        self.tally = Tally(sources)
        self._ledger = Ledger(state, begins)
        self._by_version = {entry.weights.version: entry.weights for entry in begins.weights}

    @property
    def weights(self) -> Weights:
        """The newest."""
        return self.schedule.newest

    @property
    def next_draw(self) -> int:
        """The first draw of this process that no completed step has used."""
        return self._ledger.next_draw

    @property
    def passed(self) -> Consumed:
        """What this process reads no more; not to be changed."""
        return self._ledger.passed

    @property
    def consumed(self) -> Consumed:
        """What completed steps of this rank used, and those of all ranks up to the last load."""
        return self.crew.consumed if self.crew is not None else self._ledger.consumed.copy()

    def let_hold(self, weights: Weights, from_draw: int) -> None:
        """New weights, from a draw of this process on."""
        self.schedule.change(weights, from_draw)
        self._by_version[weights.version] = weights
        while len(self._by_version) > KEPT:
            del self._by_version[next(iter(self._by_version))]

    def draw_again(self, from_draw: int) -> None:
        """Draws from there on are made once more: those that were made with older weights obey the newest now."""
        if self.schedule.at(from_draw) is not self.weights:
            self.schedule.change(self.weights, from_draw)

    def complete(self, receipts: Sequence[Receipt], stream: int) -> None:
        """Book the batches of a completed optimizer step. Raises `ReceiptError`, and then nothing is booked."""
        crew = self._crew_of(receipts)
        (crew or self._ledger).check(receipts, stream)
        self.crew = crew
        now = time.time()
        for receipt in receipts:
            if crew is not None:
                crew.book(receipt, self._by_version)
            else:
                self._ledger.book(receipt)
            self.tally.book(receipt, now)

    def note_states(self, states: States) -> None:
        """Readers stand so; those of other shares stay."""
        self.states = {
            **self.states,
            **{name: {**self.states.get(name, {}), **shares} for name, shares in states.items()},
        }

    def snapshot(self) -> MixtureState:
        """The state after the last completed step."""
        if self.crew is not None:
            return self.crew.state(self.weights)
        rank = RankState(self._ledger.next_draw, self.schedule.dump(), self._ledger.redraws.dump())
        return MixtureState(
            seed=self._seed,
            world=self.world,
            ranks={str(self.rank): rank},
            sources={
                name: SourceState(each.fingerprint, self.states.get(name, {})) for name, each in self._sources.items()
            },
            consumed=self._ledger.consumed.dump(),
            jumped=self._ledger.jumped.dump(),
        )

    def begins_workers(self) -> MixtureState:
        """What worker processes begin with, that are started now."""
        read_here = self._ledger.next_draw != self.first
        if self.crew is None and not read_here and self.loaded is not None:
            return self.loaded
        if self.crew is None and self.world > 1 and read_here:
            raise LayoutError(
                f"rank {self.rank} of {self.world} has read without worker processes until now; to go on with them, "
                "merge the states of all ranks and load them first"
            )
        return self.snapshot()

    def ends_workers(self) -> MixtureState:
        """What this process begins with, where worker processes have read until now."""
        if self.world > 1:
            raise LayoutError(
                f"rank {self.rank} of {self.world} has read with worker processes until now; to go on without, "
                "merge the states of all ranks and load them first"
            )
        return self.snapshot()

    def _crew_of(self, receipts: Sequence[Receipt]) -> Crew | None:
        """The books of worker processes of a `DataLoader`, if it is they who drew these."""
        if self.crew is None and receipts and receipts[0].versions:
            workers = receipts[0].world // self.world
            return Crew(self.begins_workers(), self.rank, self.world, workers, self._made_with)
        return self.crew
