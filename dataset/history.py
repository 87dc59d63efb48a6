"""The history source: archived samples that live has passed, drawn at random and as often as it falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from dataset.decoding import BAD_LIMIT, Decode, Decoder, as_members
from dataset.errors import SourceError, StateError
from dataset.order import share_name
from dataset.planning import Finisher, Loaded, Planned, next_item
from dataset.positions import ORIGIN, IntervalSet, Span
from dataset.recency import Pool, Snapshot, Times, pool_of
from dataset.source import Item, Share, SourceStats
from dataset.uniforms import Uniforms
from ingest import SAMPLES, ShardError
from ingest.deletions import Deletions
from ingest.entries import Entry
from ingest.errors import SampleRemoved
from ingest.shard_reader import ShardChain
from ingest.shards import ShardStore

GROW_EVERY = 64
"""Draws between two looks for more to draw from."""
KEPT = 8
"""Snapshots in the state; draws that are not yet completed may need those before the last."""


class _Saved(msgspec.Struct, frozen=True):
    share: str
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True)
class HistorySource:
    """Draws uniformly, with repetition, from the archived samples that the source `follows` has passed.

    Passed is what completed steps consumed, and what was jumped over. Each draw is a function of the seed, the share,
    the draw's number and the snapshot of what was passed; snapshots grow at most every 64 draws and are part of the
    state. Samples of sessions in `deletions` are drawn and passed over, as are those that the archive has lost, so that
    all other draws stay what they are. A share draws from the partitions that it reads live. With `follows` None,
    everything in the first `partitions` partitions of the archive can be drawn.
    """

    archive: ShardStore
    follows: str | None = "live"
    topic: str = SAMPLES
    decode: Decode = as_members
    partitions: int | None = None
    bad_limit: int = BAD_LIMIT
    deletions: Deletions | None = None

    has_half_life: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.follows is None and self.partitions is None:
            raise SourceError(
                "follows is None, so nothing tells how many partitions the archive has; give partitions=…"
            )

    @property
    def fingerprint(self) -> str:
        """The topic and what is followed; which samples they are is in the snapshots."""
        return f"history:{self.topic} behind {self.follows or 'the archive'}"

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> HistoryReader:
        """A reader of one share."""
        return HistoryReader(self, share, consumed, state)

    def loader(self) -> HistoryLoader:
        """Reads and decodes samples, in the calling process."""
        return HistoryLoader(self, {})


class HistoryLoader:
    """Loads samples by partition and number."""

    def __init__(self, source: HistorySource, chains: dict[str, ShardChain]) -> None:
        self._source, self._chains = source, chains

    def __call__(self, drawn: tuple[str, int]) -> Loaded:
        """The sample, decoded; one that is damaged is skipped, else the same draw would end every restart."""
        partition, number = drawn
        try:
            entry = self._entry(self.chain(partition), number)
        except ShardError as error:
            return Loaded(f"sample {number} of partition {partition}", None, error=error)
        if entry.removed:
            return Loaded("", None, error=SampleRemoved(f"sample {number} of partition {partition} was deleted"))
        size = sum(map(len, entry.members.values()))
        return Loaded.decoded(self._source.decode, entry.members, entry.key, size, entry.time)

    def chain(self, partition: str) -> ShardChain:
        """The shards of a partition, as they were when it was asked for first, or refreshed."""
        chain = self._chains.get(partition)
        if chain is None:
            chain = ShardChain(self._source.archive, self._source.topic, int(partition), whole=False)
            self._chains[partition] = chain
        return chain

    def _entry(self, chain: ShardChain, number: int) -> Entry:
        if number >= chain.count():  # drawn by a process that has seen more
            chain.refresh()
        return chain.entry(number)


class HistoryReader:
    """Draws for one share; positions are the numbers of its draws."""

    def __init__(
        self, source: HistorySource, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None
    ) -> None:
        self._source, self._share = source, share
        self._name = share_name(share)
        self._draw = self._done = consumed.get(self._name, IntervalSet()).next_after(ORIGIN)[0]
        self._uniforms = Uniforms("history", share.seed, share.index, share.count)
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._finisher = Finisher(self._decoder, source.deletions)
        self._load = HistoryLoader(source, {})
        self._drawn: dict[str, bytearray] = {}
        self._repeats = 0
        self._snapshots = self._restored(state)
        self._pool: Pool | None = None
        self._times = Times()
        if source.follows is None:
            self._follow_archive()

    def plan(self) -> Planned | None:
        """The sample of the next draw; None while there is nothing to draw from."""
        if self._source.follows is None:
            self._follow_archive()
        pool = self._pool_now()
        if not pool.total:
            return None
        drawn = pool.at(self._uniforms.at(self._draw))
        self._draw += 1
        return Planned(drawn, Span(self._name, (self._draw - 1, 0), (self._draw, 0)))

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item."""
        self._done = planned.span.end[0]
        item = self._finisher(planned, loaded)
        if item is not None:
            self._repeats += self._drawn_before(*planned.what)
        return item

    def poll(self) -> Item | None:
        """The sample of the next draw, loaded."""
        return next_item(self, self._load)

    def exhausted(self) -> bool:
        """Never: there is repetition, and more is archived."""
        return False

    def stats(self) -> SourceStats:
        """Counters; a repeat is a sample that this reader has given before."""
        return SourceStats(polled=self._finisher.polled, repeats=self._repeats, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """The last snapshots."""
        built: dict[str, Any] = msgspec.to_builtins(_Saved(self._name, tuple(self._snapshots)))
        return built

    def close(self) -> None:
        """Close the view of the deletions; no shard is kept open."""
        self._finisher.close()

    def follow(self, passed: Mapping[str, IntervalSet]) -> bool:
        """Take a new snapshot, if there is more to draw from than at the last.

        It holds from the first draw on that is not finished. True where that was planned already: it is planned anew.
        """
        if not self._snapshot(passed, self._done):
            return False
        planned_anew, self._draw = self._draw > self._done, self._done
        return planned_anew

    def prefer_recent(self, half_life: float | None, half_life_seconds: float | None = None) -> bool:
        """Draw with another half-life, in samples of a partition or in seconds, from the first draw on not finished."""
        in_force = self._snapshot_at(self._done)
        if in_force is None or (in_force.half_life, in_force.half_life_seconds) == (half_life, half_life_seconds):
            return False
        kept = [snapshot for snapshot in self._snapshots if snapshot.from_draw < self._done]
        self._snapshots = [*kept[1 - KEPT :], Snapshot(self._done, in_force.eligible, half_life, half_life_seconds)]
        planned_anew, self._draw = self._draw > self._done, self._done
        return planned_anew

    def _snapshot_at(self, draw: int) -> Snapshot | None:
        return next((each for each in reversed(self._snapshots) if each.from_draw <= draw), None)

    def _snapshot(self, passed: Mapping[str, IntervalSet], draw: int) -> bool:
        """Whether a snapshot was taken that holds from `draw` on."""
        last = self._snapshots[-1]
        if last.eligible and draw - last.from_draw < GROW_EVERY:
            return False
        eligible = {}
        for partition, intervals in passed.items():
            if int(partition) % self._share.count == self._share.index:
                stretches = archived(self._load.chain(partition), intervals)
                if stretches:
                    eligible[partition] = stretches
        if eligible == last.eligible:
            return False
        kept = [snapshot for snapshot in self._snapshots if snapshot.from_draw < draw]
        taken = msgspec.structs.replace(last, from_draw=draw, eligible=eligible)
        self._snapshots = [*kept[1 - KEPT :], taken]
        return True

    def _drawn_before(self, partition: str, number: int) -> bool:
        """Whether this reader has given a sample before; from now on it has."""
        drawn = self._drawn.setdefault(partition, bytearray())
        if number >= len(drawn):
            drawn.extend(bytes(max(number + 1, 2 * len(drawn)) - len(drawn)))
        before, drawn[number] = bool(drawn[number]), 1
        return before

    def _follow_archive(self) -> None:
        """Everything is passed that is in the archive."""
        last = self._snapshots[-1]
        if not last.eligible or self._draw - last.from_draw >= GROW_EVERY:
            everything = IntervalSet([(ORIGIN, (1 << 62, 0))])
            self._snapshot({str(number): everything for number in range(self._source.partitions or 0)}, self._draw)

    def _restored(self, state: Mapping[str, Any] | None) -> list[Snapshot]:
        try:
            saved = None if state is None else msgspec.convert(state, _Saved)
        except msgspec.ValidationError as error:
            raise StateError(f"{self._source.fingerprint}: its saved snapshots cannot be read: {error}") from None
        if saved is None or saved.share != self._name:  # on another layout draws are numbered anew
            return [Snapshot(self._draw, {})]
        return list(saved.snapshots)

    def _pool_now(self) -> Pool:
        snapshot = self._snapshot_at(self._draw)
        if snapshot is None:
            raise StateError(
                f"{self._source.fingerprint}: the state has no snapshot for draw {self._draw} of share {self._name}; "
                "it was taken too long after that draw"
            )
        if self._pool is None or self._pool.snapshot is not snapshot:
            chains = {name: self._load.chain(name) for name in snapshot.eligible}
            self._pool = pool_of(snapshot, chains, self._times, self._pool)
        return self._pool


def archived(chain: ShardChain, intervals: IntervalSet) -> tuple[tuple[int, int, int, int], ...]:
    """The part of `intervals` that is archived by now."""
    chain.refresh()
    first, end = chain.first_offset, chain.next_offset
    if first is None or end is None:
        return ()
    clipped = ((max(start, (first, 0)), min(stop, (end, 0))) for start, stop in intervals)
    return tuple((*start, *stop) for start, stop in clipped if start < stop)
