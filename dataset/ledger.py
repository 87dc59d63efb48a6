"""The books of one rank: what completed optimizer steps used, and how it was drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dataset.errors import ReceiptError
from dataset.positions import Consumed
from dataset.receipt import Receipt
from dataset.state import MixtureState, RankState, Redraws, Run

KEPT_RUNS = 1000


class Ledger:
    """Takes in receipts, in order; `next_draw` is the first draw that no completed step has used.

    `passed` is what was consumed or jumped over: what a source reads no more, and what a history may draw from.
    """

    def __init__(self, state: MixtureState | None, rank: RankState) -> None:
        self.consumed = Consumed.load(state.consumed) if state else Consumed()
        self.jumped = Consumed.load(state.jumped) if state else Consumed()
        self.passed = Consumed()
        for name in self.consumed.sources:
            self._pass(name)
        for name in self.jumped.sources:
            self._part(name)
            self.passed.update(Consumed({name: self.jumped.sources[name]}))
        self.redraws = RedrawRecord(rank.redraws)
        self.next_draw = rank.next_draw

    def check(self, receipts: Sequence[Receipt], stream: int) -> None:
        """Raise `ReceiptError` unless these are the next ones of this stream."""
        expected = self.next_draw
        for receipt in receipts:
            if receipt.stream != stream:
                raise ReceiptError(
                    f"the receipt of draws {receipt.first_draw} to {receipt.next_draw - 1} was made before the stream "
                    "was restored or rewound; drop it: its samples come again"
                )
            if receipt.first_draw != expected:
                raise ReceiptError(
                    f"the receipt begins at draw {receipt.first_draw}, but the next to be completed is {expected}; "
                    "complete each batch once, in the order taken"
                )
            expected = receipt.next_draw

    def book(self, receipt: Receipt) -> None:
        """Take in a completed batch."""
        for name, spans in receipt.spans.items():
            self.consumed.add_all(name, spans)
            if name in self.jumped.sources:
                self.passed.add_all(name, spans)
            elif name not in self.passed.sources:
                self._pass(name)
        for name, spans in receipt.jumped.items():
            if name not in self.jumped.sources:
                self._part(name)
            self.jumped.add_all(name, spans)
            self.passed.add_all(name, spans)
        self.redraws.book(receipt)
        self.next_draw = receipt.next_draw

    def _pass(self, name: str) -> None:
        """Of a source that was never jumped in, what was passed is what was consumed: the same sets."""
        self.passed.sources[name] = self.consumed.sources[name]

    def _part(self, name: str) -> None:
        """From here on they are two."""
        self.passed.sources[name] = self.consumed.of(name)


class RedrawRecord:
    """Repeated draws as runs: one run while a source stays dry, however many of the draws between want others."""

    def __init__(self, redraws: Redraws | None = None) -> None:
        self._complete_from = redraws.complete_from if redraws else 0
        self._runs = deque(redraws.runs if redraws else ())
        self._given_since: set[str] | None = None  # by draws after the last run; None: unknown

    def book(self, receipt: Receipt) -> None:
        """Take in a completed batch."""
        if not receipt.redraws:
            if self._given_since is not None:
                self._given_since.update(receipt.spans)
            return
        dry_at = {redraw.draw: frozenset(redraw.dry) for redraw in receipt.redraws}
        for draw, name in enumerate(receipt.sources, receipt.first_draw):
            dry = dry_at.get(draw)
            if dry is not None:
                self._add(draw, dry)
            elif self._given_since is not None:
                self._given_since.add(name)

    def _add(self, draw: int, dry: frozenset[str]) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last.dry == dry and self._given_since is not None and not self._given_since & dry:
            self._runs[-1] = Run(last.first, draw, dry)
            return
        self._runs.append(Run(draw, draw, dry))
        self._given_since = set()
        if len(self._runs) > KEPT_RUNS:
            self._complete_from = self._runs.popleft().last + 1

    def dump(self) -> Redraws:
        """As it is saved."""
        return Redraws(self._complete_from, tuple(self._runs))
