"""The readers of all sources, as one rank has them open, and what was read and then not used after all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dataset.ahead import AheadReader
from dataset.mixture import Weights
from dataset.planning import LoadingSource, PlanningReader, Uncovered
from dataset.pool import Pool
from dataset.positions import Consumed
from dataset.source import (
    BatchReader,
    FollowingReader,
    Item,
    RecencyReader,
    Run,
    Share,
    Source,
    SourceReader,
    SourceStats,
)
from dataset.uniforms import seed_of
from ingest.deletions import Deletions

PollMany = Callable[[int], Run | list[Item]]
"""Up to so many items; none only where there is none now."""
States = dict[str, Mapping[str, Mapping[str, Any]]]
"""By source and share (`0/2`: the first of two)."""


class Readers:
    """Open readers by the name of their source; `polls` gives items of each."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        share: Share,
        passed: Consumed,
        states: Mapping[str, Mapping[str, Any]],
        pool: Pool | None = None,
    ) -> None:
        self._share = f"{share.index}/{share.count}"
        self._readers: dict[str, SourceReader] = {}
        self._aside: dict[str, deque[Item]] = {}
        self._uncovered: dict[str, Uncovered] = {}
        self._deleted = [each.open() for each in _deletions(sources)]
        try:
            for name, source in sources.items():
                own = Share(share.index, share.count, seed_of(share.seed, name))
                state = self._state_for(source, states.get(name, {}))
                reader = source.open(own, passed.of(name), state)
                if pool is not None and isinstance(source, LoadingSource) and isinstance(reader, PlanningReader):
                    reader = AheadReader(name, reader, pool, pool.ahead_bytes // len(sources))
                self._readers[name] = reader
        except BaseException:
            self.close()
            raise
        self._own = {name: _poll_many_of(reader) for name, reader in self._readers.items()}
        self.polls: dict[str, PollMany] = dict(self._own)
        self._followers = list(_followers(sources, self._readers))
        self._limits: Mapping[str, int] = {}
        self._adjusted: Weights | None = None
        self.follow(passed)

    def adjust(self, weights: Weights) -> None:
        """Take note of what goes with the weights: limits of epochs, and half-lives."""
        if weights is self._adjusted:
            return
        self._adjusted = weights
        for name, reader in self._readers.items():
            if isinstance(reader, RecencyReader):
                reader.prefer_recent(weights.half_life.get(name), weights.half_life_seconds.get(name))
        changed, self._limits = self._limits.keys() | weights.epochs.keys(), weights.epochs
        for name in changed:
            self.polls[name] = self._poll_of(name)

    def exhausted(self, names: Iterable[str], for_now: bool) -> bool:
        """Whether none of these sources will ever give an item again; `for_now`: while their limits stay."""
        return all(self._exhausted(name, for_now) for name in names)

    def loading(self, name: str) -> bool:
        """Whether the next item of a source that gave none is still being loaded by a worker."""
        reader = self._readers[name]
        return isinstance(reader, AheadReader) and reader.loading

    def hold_deleted(self, keys: Iterable[str]) -> bool:
        """Whether one of these keys belongs to a session that was deleted since it was read."""
        return bool(self._deleted) and any(map(len, self._deleted)) and any(map(self._is_deleted, keys))

    def put_back(self, name: str, items: Sequence[Item]) -> None:
        """Keep items of a source that are not used after all: they are polled first, in the same order."""
        if items:
            self._aside.setdefault(name, deque()).extendleft(reversed(items))
            self.polls[name] = self._poll_of(name)

    def follow(self, passed: Consumed) -> None:
        """Tell histories what the sources that they follow have passed."""
        for followed, reader in self._followers:
            reader.follow(passed.sources.get(followed, {}))

    def stats(self) -> dict[str, SourceStats]:
        """The counters of every reader."""
        return {name: reader.stats() for name, reader in self._readers.items()}

    def states(self) -> States:
        """The state of every reader, under its share."""
        return {name: {self._share: reader.state()} for name, reader in self._readers.items()}

    def close(self) -> None:
        """Close all."""
        for reader in self._readers.values():
            reader.close()
        for deleted in self._deleted:
            deleted.close()

    def _is_deleted(self, key: str) -> bool:
        return any(deleted.holds(key) for deleted in self._deleted)

    def _state_for(self, source: Source, saved: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """That of the same share, or else of the first one; always of the first where it holds for all."""
        of_all = getattr(source, "one_state", False)
        if not of_all and self._share in saved:
            return saved[self._share]
        return next((saved[share] for share in sorted(saved)), None)

    def _exhausted(self, name: str, for_now: bool) -> bool:
        aside = self._aside.get(name)
        if aside:
            return for_now and self._beyond_limit(name, aside[0])
        return self._readers[name].exhausted()

    def _beyond_limit(self, name: str, item: Item) -> bool:
        """Whether an item belongs to an epoch that is not to be read."""
        limit = self._limits.get(name)
        return limit is not None and item.span.end[0] >= limit

    def _poll_of(self, name: str) -> PollMany:
        """The reader's own, unless something was put back or its epochs are limited."""
        own, aside = self._own[name], self._aside.setdefault(name, deque())
        uncovered = self._uncovered.setdefault(name, Uncovered())
        if not aside and not uncovered and name not in self._limits:
            return own

        def one_by_one(count: int) -> list[Item]:
            items: list[Item] = []
            while len(items) < count:
                while aside and self._is_deleted(aside[0].key):
                    gone = aside.popleft()
                    uncovered.add(*uncovered.covered_by(gone.span, gone.jumped))
                if not aside:
                    read = own(1)
                    aside.extend(read.items() if isinstance(read, Run) else read)
                if not aside or self._beyond_limit(name, aside[0]):
                    break
                items.append(uncovered.cover(aside.popleft()))
            if not aside and not uncovered and name not in self._limits:
                self.polls[name] = own
            return items

        return one_by_one


def _deletions(sources: Mapping[str, Source]) -> list[Deletions]:
    """Where the sources learn of deletions, each place once."""
    found: list[Deletions] = []
    for source in sources.values():
        told = getattr(source, "deletions", None)
        if told is not None and told not in found:
            found.append(told)
    return found


def _followers(
    sources: Mapping[str, Source], readers: Mapping[str, SourceReader]
) -> Iterator[tuple[str, FollowingReader]]:
    for name, source in sources.items():
        reader, followed = readers[name], getattr(source, "follows", None)
        if followed is not None and isinstance(reader, FollowingReader):
            yield followed, reader


def _poll_many_of(reader: SourceReader) -> PollMany:
    if isinstance(reader, BatchReader):
        return reader.poll_many
    poll = reader.poll

    def poll_many(count: int) -> list[Item]:
        items: list[Item] = []
        while len(items) < count and (item := poll()) is not None:
            items.append(item)
        return items

    return poll_many
