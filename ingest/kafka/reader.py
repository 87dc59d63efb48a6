"""Reads any topic of a log; see `ingest.log.LogReader`."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from kafka import TopicPartition
from kafka.errors import KafkaError

from ingest.errors import LogError, LogForked, LogUnavailable, OffsetOutOfRange
from ingest.kafka.cursors import Cursors
from ingest.kafka.layout import KafkaLayout
from ingest.kafka.offsets import Offsets
from ingest.kafka.patience import patiently
from ingest.kafka_options import KafkaOptions
from ingest.log import Bounds, Fetch

PROBE_BYTES = 1_024
"""A fetch of a single record (`max_bytes=1`) is a look aside: it goes through a consumer of its own, which asks for so
much, and spares what was fetched ahead for those who read on."""
PROBE_LINGER = 0.005
"""Seconds that the broker may hold such a look back: where nothing is, the next place is looked at."""
HEARING = 1.0
"""Seconds that `ends` waits for an answer, as somebody else waits for it."""
GLANCE = 0.01
"""Seconds between two looks at how far a fetch has come: a consumer says nothing when all that it met were markers."""
SETTLE = 0.25
"""Seconds that a fetch waits, once, for records whose transaction is being completed this very moment."""

logger = logging.getLogger(__name__)


class KafkaReader:
    """Implements `ingest.log.LogReader`. Use from one thread. `size` of its bounds is always 0: brokers do not tell.

    While no broker answers there is nothing new: `fetch` gives no records, `bounds` the last ones known, and a warning
    is logged once. `wait` notices news of the partitions that were fetched from. Raises `LogUnavailable` when opened.
    """

    def __init__(self, servers: str, layout: KafkaLayout, options: KafkaOptions) -> None:
        self._servers, self._layout, self._options = servers, layout, options
        self._pid = os.getpid()
        self._offsets = Offsets(servers, options)
        try:
            self._main: Cursors | None = Cursors(servers, options, options.fetch_bytes)
        except LogUnavailable:
            self._offsets.close()
            raise
        self._probe: Cursors | None = None
        self._scout: Cursors | None = None
        self._bounds: dict[TopicPartition, Bounds] = {}
        self._settled: dict[TopicPartition, int] = {}
        self._silent = False

    @property
    def silent(self) -> bool:
        """See `LogReader.silent`."""
        return self._silent

    def partitions(self, topic: str) -> int:
        """See `LogReader.partitions`."""
        self._layout.check(topic, 0)
        return self._layout.partitions

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See `LogReader.bounds`."""
        where = self._where(topic, partition)
        self._cursors()
        known = self._bounds.get(where)
        patience = self._options.patience_seconds if known is None else 0.0
        try:
            bounds = patiently(
                lambda: Bounds(self._offsets.start(where), self._offsets.end(where)), KafkaError, patience
            )
        except KafkaError as error:
            if known is None:
                raise LogUnavailable(f"{self._servers}: {where.topic} cannot be looked at ({error!r})") from error
            self._outage(error)
            return known
        self._heard()
        self._bounds[where] = bounds
        return bounds

    def ends(self, topic: str) -> list[int]:
        """See `LogReader.ends`: one request for all partitions."""
        places = [self._where(topic, partition) for partition in range(self.partitions(topic))]
        self._cursors()
        try:
            if self._scout is None:
                self._scout = Cursors(self._servers, self._options, PROBE_BYTES, undecided=True)
            ends = self._scout.ends(places, min(self._options.patience_seconds, HEARING))
        except KafkaError as error:
            self._outage(error)
            raise LogUnavailable(f"{self._servers}: the ends of {topic} cannot be told ({error!r})") from error
        self._heard()
        return ends

    def fetch(self, topic: str, partition: int, offset: int, max_bytes: int = 4 << 20) -> Fetch:
        """See `LogReader.fetch`."""
        where = self._where(topic, partition)
        cursors = self._look_aside() if max_bytes <= 1 else self._cursors()
        try:
            fetched = self._fetch(cursors, where, topic, offset, max_bytes)
        except KafkaError as error:
            self._outage(error)
            return Fetch((), offset)
        self._heard()
        return fetched

    def wait(self, timeout: float) -> bool:
        """See `LogReader.wait`."""
        cursors = self._cursors()
        deadline = time.monotonic() + timeout
        while not cursors.take_news():
            left = deadline - time.monotonic()
            try:
                cursors.pump(max(0.0, left))
            except KafkaError as error:
                self._outage(error)
                time.sleep(max(0.0, min(left, 0.05)))
            if left <= 0:
                return cursors.take_news()
        return True

    def commit(self, group: str, positions: dict[tuple[str, int], int]) -> None:
        """Tell the brokers how far a group has come, for those who watch its lag; nothing is ever read from it here."""
        offsets = {self._where(*key): offset for key, offset in positions.items()}
        try:
            Cursors.tell(self._servers, self._options, group, offsets)
        except KafkaError as error:
            self._outage(error)

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        if os.getpid() == self._pid:
            for each in (self._main, self._probe, self._scout, self._offsets):
                if each is not None and self._main is not None:
                    with suppress(KafkaError):
                        each.close()
        self._main = self._probe = self._scout = None

    def _fetch(self, cursors: Cursors, where: TopicPartition, topic: str, offset: int, max_bytes: int) -> Fetch:
        if not cursors.stands_at(where, offset):
            start, end = self._offsets.start(where), self._offsets.end(where)
            if offset < start:
                raise OffsetOutOfRange(topic, where.partition, offset, start)
            if offset > end:  # it can only be waited for
                return Fetch((), offset)
            cursors.go_to(where, offset)
        if not cursors.holds(where):
            cursors.pump(0.0)
        if not cursors.holds(where):
            self._catch_up(cursors, where, topic)
        return cursors.take(where, topic, max_bytes)

    def _catch_up(self, cursors: Cursors, where: TopicPartition, topic: str) -> None:
        """Nothing was fetched ahead: read up to what is the end now."""
        end = self._offsets.end(where)
        deadline = time.monotonic() + self._options.request_seconds
        while not cursors.holds(where) and cursors.position(where) < end:
            trimmed = cursors.pump(GLANCE)
            if where in trimmed:
                raise OffsetOutOfRange(topic, where.partition, trimmed[where], self._offsets.start(where))
            if time.monotonic() > deadline:
                logger.warning("%s: no answer within %g s", where, self._options.request_seconds)
                return
        if not cursors.holds(where):
            self._settle(cursors, where)

    def _settle(self, cursors: Cursors, where: TopicPartition) -> None:
        # A transaction is durable a moment before its records can be read; whoever was told of it may ask already.
        latest = self._offsets.latest(where)
        deadline = time.monotonic() + SETTLE
        while self._settled.get(where, 0) < latest and not cursors.holds(where) and time.monotonic() < deadline:
            if self._offsets.end(where) >= latest and cursors.position(where) >= latest:
                break
            cursors.pump(0.002)
        self._settled[where] = max(latest, self._settled.get(where, 0))

    def _where(self, topic: str, partition: int) -> TopicPartition:
        self._layout.check(topic, partition)
        return TopicPartition(self._layout.topic(topic), partition)

    def _cursors(self) -> Cursors:
        if os.getpid() != self._pid:
            raise LogForked(f"a reader of process {self._pid} was used by {os.getpid()}; open it after the fork")
        if self._main is None:
            raise LogError(f"{self._servers}: this reader is closed; open another one")
        return self._main

    def _look_aside(self) -> Cursors:
        self._cursors()
        if self._probe is None:
            self._probe = Cursors(self._servers, self._options, PROBE_BYTES, linger=PROBE_LINGER)
        return self._probe

    def _outage(self, error: KafkaError) -> None:
        if not self._silent:
            logger.warning("%s: no broker answers (%r); nothing is read until one does", self._servers, error)
        self._silent = True

    def _heard(self) -> None:
        if self._silent:
            logger.info("%s: a broker answers again", self._servers)
        self._silent = False
