"""One partition of a log as a live source reads it: in order, from the log or below its start from the archive."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile

import msgspec

from dataset.errors import SourceError, StateError
from dataset.positions import ORIGIN, IntervalSet, Span
from ingest import Annotated, LogReader, OffsetOutOfRange, Point, Record
from ingest.entries import Entry
from ingest.shard_reader import ShardChain
from ingest.shards import ShardStore

logger = logging.getLogger(__name__)

_ARCHIVED_AT_ONCE = 64
_annotated = msgspec.msgpack.Decoder(Annotated)


class Limits(msgspec.Struct, frozen=True):
    """How far reading may lag, in records of a partition and in seconds, and how many bytes are fetched at once."""

    max_lag: int | None
    max_age: float | None
    batch_bytes: int


class Waiting(msgspec.Struct, frozen=True):
    """A sample that was fetched, undecoded. It ends at `end`; its step came in at `time`, its record at `logged`."""

    key: str
    members: Mapping[str, bytes]
    time: float
    logged: float
    end: Point

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.members.values()))


class Lane:
    """Reads one partition. An item covers from where the one before it ended, so gaps and empty records are covered."""

    def __init__(
        self,
        log: LogReader,
        topic: str,
        partition: int,
        limits: Limits,
        archive: ShardStore | None,
        taken: IntervalSet | None,
    ) -> None:
        self._log, self._topic, self._partition = log, topic, partition
        self._limits, self._archive = limits, archive
        self._taken = taken if taken is not None else IntervalSet()
        self._at: Point = self._taken.next_after(ORIGIN)  # what the next item covers begins here
        self._next = self._at[0]  # the offset to fetch next
        self._waiting: deque[Waiting] = deque()
        self._archived: Iterator[Entry] | None = None
        self._drained = False
        self._jumped_from: Point | None = None
        self.jumped = 0
        end = log.bounds(topic, partition).end
        if self._at > (end, 0):
            raise StateError(
                f"{topic}/{partition}: the state has consumed up to offset {self._at[0]}, but the log ends at {end}; "
                "give the log that it was made with"
            )

    def head(self, now: float) -> Waiting | None:
        """The next sample, fetched if there is one; None if there is none now."""
        if not self._waiting and not self._drained:
            self._fill()
        max_age = self._limits.max_age
        if self._waiting and max_age is not None and self._waiting[0].logged < now - max_age:
            # not to the very limit: there it would have to jump again at once
            self._jump(self._first_logged_after(now - max_age / 2), f"its samples are older than {max_age:g} s")
            self._fill()
        return self._waiting[0] if self._waiting else None

    def pop(self) -> Waiting:
        """Remove the next sample; it is covered by the next item that is booked."""
        return self._waiting.popleft()

    def book(self, waiting: Waiting) -> tuple[Span, Span | None]:
        """What the item of a sample covers, and what was jumped over before it."""
        name = str(self._partition)
        jumped = None if self._jumped_from is None else Span(name, self._jumped_from, self._at)
        span = Span(name, self._at, waiting.end)
        self._at, self._jumped_from = waiting.end, None
        return span, jumped

    def look_again(self) -> None:
        """There is news in the log."""
        self._drained = False

    @property
    def oldest(self) -> float | None:
        """When the step of the next sample came in, if it was fetched."""
        return self._waiting[0].time if self._waiting else None

    @property
    def dry(self) -> bool:
        """Whether everything in the log was fetched and taken."""
        return self._drained and not self._waiting

    def lag(self) -> int:
        """Offsets from what was taken to the end of the log."""
        return max(0, self._log.bounds(self._topic, self._partition).end - self._at[0])

    def _fill(self) -> None:
        while not self._waiting and not self._drained:
            if self._archived is not None:
                self._fill_from_archive(self._archived)
                continue
            try:
                self._fill_from_log()
            except OffsetOutOfRange as trimmed:
                self._go_below(trimmed.start)

    def _fill_from_log(self) -> None:
        max_lag = self._limits.max_lag
        if max_lag is not None:
            end = self._log.bounds(self._topic, self._partition).end
            if end - self._next > max_lag:
                self._jump(end - (max_lag + 1) // 2, f"more than {max_lag} records waited")
        fetched = self._log.fetch(self._topic, self._partition, self._next, self._limits.batch_bytes)
        self._next = fetched.next_offset
        self._drained = not fetched.records
        for record in fetched.records:
            self._add(record)

    def _add(self, record: Record) -> None:
        try:
            samples = _annotated.decode(record.value).samples
        except msgspec.DecodeError as error:
            raise SourceError(
                f"{self._topic}/{self._partition}: the record at offset {record.offset} holds no samples ({error}); "
                "is this the topic that the annotator writes?"
            ) from error
        for index, sample in enumerate(samples):
            start = (record.offset, index)
            end = (record.offset + 1, 0) if index + 1 == len(samples) else (record.offset, index + 1)
            if not self._taken.touches(start, (record.offset, index + 1)):
                self._waiting.append(Waiting(sample.key, sample.members, sample.time, record.time, end))

    def _go_below(self, start: int) -> None:
        """The log begins at `start`, behind what comes next: go on in the archive, as far as it goes."""
        chain = None if self._archive is None else ShardChain(self._archive, self._topic, self._partition)
        first = None if chain is None else chain.first_offset
        end = None if chain is None else chain.next_offset
        if chain is None or first is None or end is None or end <= self._next:
            self._jump(start, "the log was trimmed and the archive does not hold it")
            return
        if first > self._next:
            self._jump(first, "the archive begins there")
        until = min(start, end)
        self._next = until
        self._archived = takewhile(lambda entry: entry.offset < until, chain.entries(self._at))

    def _fill_from_archive(self, archived: Iterator[Entry]) -> None:
        entries = list(islice(archived, _ARCHIVED_AT_ONCE))
        if not entries:
            self._archived = None
        for entry in entries:
            end = (entry.offset, entry.index + 1)
            if not self._taken.touches((entry.offset, entry.index), end):
                self._waiting.append(Waiting(entry.key, entry.members, entry.time, entry.time, end))

    def _jump(self, offset: int, reason: str) -> None:
        """Leave out everything below `offset` that was not taken."""
        if offset <= self._at[0]:
            return
        place = f"{self._topic}/{self._partition}"
        logger.warning("%s: jumped from offset %d to %d, as %s", place, self._at[0], offset, reason)
        self.jumped += offset - self._at[0]
        self._jumped_from = self._at if self._jumped_from is None else self._jumped_from
        self._at, self._next = (offset, 0), offset
        self._waiting.clear()
        self._archived, self._drained = None, False

    def _first_logged_after(self, cutoff: float) -> int:
        """The offset of the first record of the log that came in at or after `cutoff`, by bisection."""
        bounds = self._log.bounds(self._topic, self._partition)
        low, high = max(bounds.start, self._at[0]), bounds.end
        while low < high:
            middle = (low + high) // 2
            try:
                records = self._log.fetch(self._topic, self._partition, middle, max_bytes=1).records
            except OffsetOutOfRange as trimmed:
                low = max(trimmed.start, middle + 1)
                continue
            if not records or records[0].time >= cutoff:
                high = middle
            else:
                low = records[0].offset + 1
        return low
