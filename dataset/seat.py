"""A mixture as a worker process of a plain torch `DataLoader` reads it: its copy of what the process that trains has.

The worker reads as a rank of its own, looks at the board before every sample, and keeps the receipts of what it gave
until the board says that they were completed. A change of weights therefore holds for the next sample that is read: at
most num_workers * prefetch_factor batches after it, those that were begun before it, hold rows on the old weights, and
their receipts say so.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from dataset.crew import Notice
from dataset.errors import StateError
from dataset.receipt import RECEIPT, Receipt
from dataset.state import MixtureState

if TYPE_CHECKING:
    from dataset.interactive import InteractiveMixture

KEPT = 1 << 14
"""Receipts that a worker keeps; older ones count as completed, where nobody completes any."""
_notice = msgspec.json.Decoder(Notice)
_annex: msgspec.json.Decoder[MixtureState | None] = msgspec.json.Decoder(MixtureState | None)
_receipt = msgspec.json.Encoder()
_inherited: list[Any] = []  # clients of the process that forked this one: neither used nor closed here


class Seat:
    """One worker's place at a mixture."""

    def __init__(self, mixture: InteractiveMixture, number: int, workers: int) -> None:
        self._mixture = mixture
        mixture._seat = self  # from here on it writes nothing on the board
        self._given: deque[Receipt] = deque()
        self._told: dict[str, Mapping[str, Any]] = {}
        self._parent = os.getppid()
        self.stream = mixture._reading.stream
        mixture._reading.note_states()
        base = mixture._books.begins_workers()
        _inherited.append(mixture._reading.left_behind())
        self._rank = mixture.rank * workers + number
        self._world = mixture.world * workers
        self._sit_down(base)

    def samples(self) -> Iterator[Mapping[str, Any]]:
        """Samples, each with its receipt, from the first on that was not completed."""
        mixture = self._mixture
        self._look(begins=True)
        mixture.rewind()
        mixture._reading.stream = self.stream
        self._given.clear()
        self._told = {}
        while True:
            self._look()
            taken = mixture.take_samples(1, self._waits)
            if taken is None:
                return
            (sample,), receipt = taken
            self._given.append(receipt)
            yield {**sample, RECEIPT: _receipt.encode(self._with_states(receipt)).decode()}

    def _sit_down(self, state: MixtureState | None) -> None:
        mixture = self._mixture
        mixture.rank, mixture.world = self._rank, self._world
        mixture._restore(state, self.stream)

    def _look(self, begins: bool = False) -> None:
        """Take in what the board says. What was loaded elsewhere is read from where the next iteration begins."""
        mixture = self._mixture
        news = mixture._board.news()
        notice = None if news is None else _notice.decode(news)
        if notice is not None:
            mixture._notice = notice
        if begins and mixture._notice.stream != self.stream:
            self.stream = mixture._notice.stream
            self._given.clear()
            self._sit_down(self._loaded())
        if mixture._notice.stream != self.stream:
            return
        if (notice is not None or begins) and mixture._notice.weights.version > mixture.weights.version:
            mixture._books.schedule.change(mixture._notice.weights, mixture._reading.next)
        if notice is not None or len(self._given) > KEPT:
            self._complete(mixture._notice.completed.get(str(self._rank), 0))

    def _complete(self, draw: int) -> None:
        done = []
        while self._given and (self._given[0].next_draw <= draw or len(self._given) > KEPT):
            done.append(self._given.popleft())
        self._mixture.complete(done)

    def _loaded(self) -> MixtureState | None:
        """The state that was loaded in the process that trains after this one was started."""
        annex = self._mixture._board.annex()
        if annex is None or not annex:
            raise StateError(
                "a state was loaded that does not fit on the board for worker processes; begin with a new DataLoader, "
                "or leave out persistent_workers"
            )
        return _annex.decode(annex)

    def _waits(self) -> bool:
        """While all sources are dry: weights may change, and the process that trains may end."""
        self._look()
        return os.getppid() == self._parent

    def _with_states(self, receipt: Receipt) -> Receipt:
        readers = self._mixture._reading.readers
        changed: dict[str, Mapping[str, Any]] = {}
        for name, shares in readers.states().items() if readers is not None else ():
            for state in shares.values():
                if self._told.get(name) != state:
                    self._told[name] = changed[name] = state
        return msgspec.structs.replace(receipt, states=changed) if changed else receipt
