"""A batch in the making: what its draws want is asked of each source at once, and drawn again where one is dry."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from dataset.mixture import Draws, Weights
from dataset.readers import Readers
from dataset.receipt import Columns, Head, Receipt, Redraw, filled, in_order, of_runs
from dataset.source import Item, Run


class Batch:
    """So many rows from a draw on, all by the same weights; `advance` until it is whole.

    The draws of a batch are known before anything is read, so every source is asked once for all that they want of it.
    Where one has less, the rest goes draw by draw: which source gives a row is the same as if each had been asked alone.
    """

    def __init__(self, readers: Readers, draws: Draws, weights: Weights, size: int, head: Head) -> None:
        self._readers, self._draws, self.weights, self._head = readers, draws, weights, head
        self._picks = picks = draws.picks(weights, head.first_draw, size)
        self._wanted = {name: count for name in weights.by_source if (count := picks.count(name))}
        self._read: dict[str, Run | list[Item]] = {}
        self._runs: dict[str, Run] = {}  # those of them that are runs
        self._whole = False  # all was read, and no draw repeated
        self._queues: dict[str, deque[Item]] | None = None  # what was read and not drawn yet, once a source was dry
        self._drawn: list[Item] = []
        self._redraws: list[Redraw] = []
        self.loading = False

    def __len__(self) -> int:
        """Rows that are there, from the first on."""
        return len(self._picks) if self._whole else len(self._drawn)

    def advance(self) -> bool:
        """Go on as far as it goes now; True when it is whole.

        Else `loading` says whether a worker still loads what comes next; if none does, every source with a weight is dry.
        """
        self.loading = False
        if self._queues is None:
            self._whole = self._read_all()
            if self._whole or self.loading:
                return self._whole
            self._queues = {name: deque(_items(read)) for name, read in self._read.items()}
        return self._draw(self._queues)

    def taken(self) -> tuple[list[Mapping[str, Any]], Receipt]:
        """The samples that are there, and their receipt."""
        if self._whole and len(self._runs) == len(self._read):  # as most are, of sources that are read in a known order
            return of_runs(self._head, self._picks, self._runs)
        names = self._picks[: len(self)]
        columns = {name: Columns.of(items) for name, items in self._by_source().items()}
        samples = in_order(names, {name: own.samples for name, own in columns.items()})
        return samples, filled(self._head, names, columns, self._redraws)

    def items(self) -> list[Item]:
        """The rows that are there, each by itself."""
        if not self._whole:
            return self._drawn
        return in_order(self._picks, {name: _items(read) for name, read in self._read.items()})

    def keys(self) -> Iterator[str]:
        """The keys of all rows that are there, source by source."""
        for read in self._by_source().values():
            yield from map(str, read.keys) if isinstance(read, Run) else (item.key for item in read)

    def put_back(self) -> None:
        """Give it up, unfinished: what was read for it comes first, in the same order, whoever draws it."""
        drawn = self._drawn_by_source()
        left = self._read if self._queues is None else self._queues
        for name in drawn.keys() | left.keys():
            self._readers.put_back(name, [*drawn.get(name, ()), *_items(left.get(name, ()))])

    def _read_all(self) -> bool:
        """Whether every source gave all that the draws want of it."""
        whole, polls = True, self._readers.polls
        for name, count in self._wanted.items():
            read = self._read.get(name)
            if read is None:
                self._read[name] = read = polls[name](count)
                if isinstance(read, Run):
                    self._runs[name] = read
            if len(read) < count and not self._read_on(name, count):
                whole = False
        return whole

    def _read_on(self, name: str, count: int) -> bool:
        while (left := count - len(self._read[name])) > 0:
            more = self._readers.polls[name](left)
            if not len(more):
                self.loading = self.loading or self._readers.loading(name)
                return False
            self._read[name] = [*_items(self._read[name]), *_items(more)]
            self._runs.pop(name, None)
        return True

    def _draw(self, queues: dict[str, deque[Item]]) -> bool:
        """Go on draw by draw; where a source is dry, the draw is repeated among the others."""
        picks, drawn = self._picks, self._drawn
        while len(drawn) < len(picks):
            draw, name, dry = self._head.first_draw + len(drawn), picks[len(drawn)], list[str]()
            while (item := self._next_of(name, queues)) is None:
                dry.append(name)
                again = None if self.loading else self._draws.again(self.weights, draw, dry)
                if again is None:
                    return False
                name = again
            if dry:
                picks[len(drawn)] = name
                self._redraws.append(Redraw(draw, tuple(dry)))
            drawn.append(item)
        return True

    def _next_of(self, name: str, queues: dict[str, deque[Item]]) -> Item | None:
        queue = queues.get(name)
        if queue:
            return queue.popleft()
        item: Item | None = next(iter(_items(self._readers.polls[name](1))), None)
        self.loading = item is None and self._readers.loading(name)
        return item

    def _by_source(self) -> Mapping[str, Run | list[Item]]:
        return self._read if self._whole else self._drawn_by_source()

    def _drawn_by_source(self) -> dict[str, list[Item]]:
        by_source: dict[str, list[Item]] = {}
        for name, item in zip(self._picks, self._drawn, strict=False):  # there may be more draws than rows
            by_source.setdefault(name, []).append(item)
        return by_source


def _items(read: Any) -> Any:
    return read.items() if isinstance(read, Run) else read
