"""The readers of all sources, as one rank has them open, and what was read and then not used after all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dataset.ahead import AheadReader
from dataset.planning import LoadingSource, PlanningReader
from dataset.pool import Pool
from dataset.positions import Consumed
from dataset.source import FollowingReader, Item, Share, Source, SourceReader, SourceStats
from dataset.uniforms import seed_of

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
        self.follow(passed)

    def exhausted(self, names: Iterable[str]) -> bool:
        """Whether none of these sources will ever give an item again."""
        return all(self._readers[name].exhausted() and not self._aside.get(name) for name in names)

    def put_back(self, names: Sequence[str], items: Sequence[Item]) -> None:
        """Keep items of a batch that is given up: they are polled first, in the same order."""
        for name, item in zip(reversed(names), reversed(items), strict=True):
            self._aside.setdefault(name, deque()).appendleft(item)
            self.polls[name] = self._again(name)

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

    def _state_for(self, source: Source, saved: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """That of the same share, or else of the first one; always of the first where it holds for all."""
        of_all = getattr(source, "one_state", False)
        if not of_all and self._share in saved:
            return saved[self._share]
        return next((saved[share] for share in sorted(saved)), None)

    def _again(self, name: str) -> Callable[[], Item | None]:
        aside = self._aside[name]

        def poll() -> Item | None:
            item = aside.popleft()
            if not aside:
                self.polls[name] = self._readers[name].poll
            return item

        return poll
