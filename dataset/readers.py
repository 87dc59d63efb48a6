"""The readers of all sources, as one rank has them open, and what was read and then not used after all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dataset.ahead import AheadReader
from dataset.mixture import Weights
from dataset.planning import LoadingSource, PlanningReader, Uncovered
from dataset.pool import Pool
from dataset.positions import Consumed
from dataset.source import FollowingReader, Item, RecencyReader, Share, Source, SourceReader, SourceStats
from dataset.uniforms import seed_of
from ingest.deletions import Deletions

States = dict[str, Mapping[str, Mapping[str, Any]]]
"""By source and share (`0/2`: the first of two)."""


class Readers:
    """Open readers by the name of their source."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        share: Share,
        passed: Consumed,
        states: Mapping[str, Mapping[str, Any]],
        pool: Pool | None = None,
    ) -> None:
        self._sources = sources
        self._share = f"{share.index}/{share.count}"
        self._readers: dict[str, SourceReader] = {}
        self._aside: dict[str, deque[Item]] = {}
        self._uncovered: dict[str, Uncovered] = {}
        deletions: list[Deletions] = []
        for source in sources.values():
            told = getattr(source, "deletions", None)
            if told is not None and told not in deletions:
                deletions.append(told)
        self._deleted = [each.open() for each in deletions]
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
        self.polls: dict[str, Callable[[], Item | None]] = {name: reader.poll for name, reader in self._readers.items()}
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
                reader.prefer_recent(weights.half_life.get(name))
        changed, self._limits = self._limits.keys() | weights.epochs.keys(), weights.epochs
        for name in changed:
            self.polls[name] = self._poll_of(name)

    def exhausted(self, names: Iterable[str], for_now: bool) -> bool:
        """Whether none of these sources will ever give an item again; `for_now`: while their limits stay."""
        return all(self._exhausted(name, for_now) for name in names)

    def hold_deleted(self, items: Iterable[Item]) -> bool:
        """Whether one of these belongs to a session that was deleted since it was read."""
        return any(self._is_deleted(item) for item in items) if self._deleted else False

    def put_back(self, names: Sequence[str], items: Sequence[Item]) -> None:
        """Keep items of a batch that is given up: they are polled first, in the same order."""
        for name, item in zip(reversed(names), reversed(items), strict=True):
            self._aside.setdefault(name, deque()).appendleft(item)
            self.polls[name] = self._poll_of(name)

    def follow(self, passed: Consumed) -> None:
        """Tell histories what the sources that they follow have passed."""
        for name, source in self._sources.items():
            reader, followed = self._readers[name], getattr(source, "follows", None)
            if followed is not None and isinstance(reader, FollowingReader):
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

    def _is_deleted(self, item: Item) -> bool:
        return any(deleted.holds(item.key) for deleted in self._deleted)

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

    def _poll_of(self, name: str) -> Callable[[], Item | None]:
        """The reader's own, unless something was put back or its epochs are limited."""
        reader = self._readers[name]
        aside, uncovered = self._aside.setdefault(name, deque()), self._uncovered.setdefault(name, Uncovered())
        if not aside and not uncovered and name not in self._limits:
            return reader.poll

        def poll() -> Item | None:
            while aside and self._is_deleted(aside[0]):
                gone = aside.popleft()
                uncovered.add(*uncovered.covered_by(gone.span, gone.jumped))
            item = aside.popleft() if aside else reader.poll()
            if item is None:
                return None
            if self._beyond_limit(name, item):
                aside.appendleft(item)
                return None
            if uncovered:
                span, jumped = uncovered.covered_by(item.span, item.jumped)
                item = msgspec.structs.replace(item, span=span, jumped=jumped)
            if not aside and not uncovered and name not in self._limits:
                self.polls[name] = reader.poll
            return item

        return poll
