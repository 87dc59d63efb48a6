"""The live source: samples as the log gets them, each partition read in order by exactly one reader."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataset.decoding import BAD_LIMIT, Decode, Decoder, as_members
from dataset.errors import SourceError
from dataset.lane import Lane, Limits
from dataset.planning import Finisher, Loaded, Planned, next_item
from dataset.positions import IntervalSet
from dataset.source import Item, Share, SourceStats
from ingest import SAMPLES, Log
from ingest.deletions import Deletions
from ingest.shards import ShardStore

logger = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
LOOK = 0.001
"""Seconds between two looks for news while some partition is dry."""


@dataclass(frozen=True)
class LiveSource:
    """Reads a topic of samples from a log; partition p belongs to reader p % n of n.

    Among a reader's partitions the sample whose step is oldest comes first. Where more than `max_lag` records of a
    partition wait, or its next sample has waited for more than `max_age` seconds in the log, reading jumps forward to
    half of that: what is left out is recorded as jumped over, and stays in history. Samples below the log's start are
    read from `archive` at the same offsets; what that does not hold is jumped over, with a warning.
    """

    log: Log
    topic: str = SAMPLES
    decode: Decode = as_members
    archive: ShardStore | None = None
    max_lag: int | None = None
    max_age: float | None = None
    bad_limit: int = BAD_LIMIT
    batch_bytes: int = BATCH_BYTES

    def __post_init__(self) -> None:
        for name, value in (("max_lag", self.max_lag), ("max_age", self.max_age)):
            if value is not None and not value > 0:
                raise SourceError(
                    f"{name} is {value}, but it is above 0; to read everything, however late, leave it out"
                )

    @property
    def deletions(self) -> Deletions:
        """Which sessions were deleted: the log knows."""
        return Deletions(self.log)

    @property
    def fingerprint(self) -> str:
        """The kind of log and the topic. A log that ends before what was consumed is refused when it is opened."""
        return f"live:{type(self.log).__name__}/{self.topic}"

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> LiveReader:
        """A reader of the share's partitions. Raises `StateError` where more was consumed than the log ever held."""
        return LiveReader(self, share, consumed)

    def loader(self) -> LiveLoader:
        """Decodes samples, in the calling process; it opens no log."""
        return LiveLoader(self.decode)


class LiveLoader:
    """Decodes samples that were fetched."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def __call__(self, fetched: tuple[Mapping[str, bytes], str, float]) -> Loaded:
        """The sample of its members, decoded."""
        members, key, received = fetched
        return Loaded.decoded(self._decode, members, key, sum(map(len, members.values())), received)


class LiveReader:
    """Reads some partitions of a log."""

    def __init__(self, source: LiveSource, share: Share, consumed: Mapping[str, IntervalSet]) -> None:
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._log = source.log.reader()
        self._next_look = 0.0
        self._load = source.loader()
        self._finisher = Finisher(self._decoder, source.deletions)
        try:
            self._log.wait(0)  # what is committed from here on is news
            count = self._log.partitions(source.topic)
            if share.index >= count:
                logger.warning(
                    "%s has %d partitions for %d readers: reader %d gets no samples of it",
                    source.fingerprint,
                    count,
                    share.count,
                    share.index,
                )
            limits = Limits(source.max_lag, source.max_age, source.batch_bytes)
            self._lanes = [
                Lane(self._log, source.topic, number, limits, source.archive, consumed.get(str(number)))
                for number in range(share.index, count, share.count)
            ]
        except BaseException:
            self.close()
            raise

    def plan(self) -> Planned | None:
        """The sample whose step is oldest, of those that are there."""
        lane = self._oldest()
        if lane is None:
            return None
        waiting = lane.pop()
        span, jumped = lane.book(waiting)
        return Planned((waiting.members, waiting.key, waiting.time), span, jumped)

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item."""
        return self._finisher(planned, loaded)

    def poll(self) -> Item | None:
        """The same, decoded."""
        return next_item(self, self._load)

    def exhausted(self) -> bool:
        """Never: a log has no end."""
        return False

    def stats(self) -> SourceStats:
        """Counters; `lag` and `jumped` are in offsets of the log."""
        return SourceStats(
            polled=self._finisher.polled,
            skipped=self._decoder.skipped,
            jumped=sum(lane.jumped for lane in self._lanes),
            lag=sum(lane.lag() for lane in self._lanes),
            oldest_waiting=min((lane.oldest for lane in self._lanes if lane.oldest is not None), default=None),
        )

    def state(self) -> Mapping[str, Any]:
        """Nothing: positions and jumps travel with the items."""
        return {}

    def close(self) -> None:
        """Close the log's reader."""
        self._finisher.close()
        self._log.close()

    def _oldest(self) -> Lane | None:
        self._look()
        now = time.time()
        oldest, lane_of_oldest = 0.0, None
        for lane in self._lanes:
            head = lane.head(now)
            if head is not None and (lane_of_oldest is None or head.time < oldest):
                oldest, lane_of_oldest = head.time, lane
        return lane_of_oldest

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._next_look and any(lane.dry for lane in self._lanes):
            self._next_look = now + LOOK
            if self._log.wait(0):
                for lane in self._lanes:
                    lane.look_again()
