"""Reads shards: one file, and the chain of them that a partition has become.

Single entries are read in place, by their row in the index; runs of entries are read in pieces of a few MiB. No tar
library stands in the way. What is read is checked: the summary and the length when a shard is first used, a CRC-32C
with every entry, and the sha256 of the whole once, where asked for.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import TypeVar

import msgspec
from crc32c import crc32c

from ingest.entries import Entry, record_of, sample_of
from ingest.errors import ShardError, ShardGone
from ingest.shard_format import BLOCK, BODY, ROW, Made, Row, Version, decode_summary, made_of, members
from ingest.shards import ShardStore, chain_folder, first_offset_of, generation_of, latest, shard_name
from ingest.types import Point, Position, Sample, SessionRecord

_PIECE = 4 << 20
"""Bytes that are read at once when entries are read in order."""
_LIST_EVERY = 60.0
"""Seconds between two listings of a chain."""
T = TypeVar("T")

_versions = msgspec.json.Decoder(list[Version])


class Shard:
    """One published shard. Opening it reads its summary; nothing is kept open."""

    def __init__(self, store: ShardStore, name: str) -> None:
        head = store.head(name)
        self.name = name
        self.summary = decode_summary(name, head.data)
        self.size, self.published = head.size, head.published
        self._store = store
        self._versions: list[Version] | None = None
        self._whole = False
        self._check_identity()

    def _check_identity(self) -> None:
        summary = self.summary
        own = shard_name(summary.topic, summary.partition, summary.first_offset, generation_of(self.name))
        if own != self.name:
            raise ShardError(f"{self.name}: its summary names it {own}; it was renamed or copied here, move it back")
        if self.size != summary.length:
            raise ShardError(f"{self.name}: {self.size} bytes, but its summary says {summary.length}: torn; restore it")
        if not summary.first_offset < summary.next_offset:
            raise ShardError(f"{self.name}: it ends at {summary.next_offset}, not after its first offset; restore it")

    def verify(self) -> None:
        """Compare the sha256 of everything after the summary; done once for this object, then remembered."""
        if self._whole:
            return
        digest = hashlib.sha256()
        for start in range(BODY, self.summary.length, _PIECE):
            digest.update(self._store.read(self.name, start, min(_PIECE, self.summary.length - start)))
        if digest.hexdigest() != self.summary.sha256:
            raise ShardError(
                f"{self.name}: its bytes have sha256 {digest.hexdigest()}, but its summary says {self.summary.sha256}; "
                "restore it from a copy"
            )
        self._whole = True

    def entry(self, number: int) -> Entry:
        """Entry `number` of this shard, read in place; one that was deleted has no members."""
        if not 0 <= number < self.summary.rows:
            raise IndexError(f"{self.name}: entry {number}, but it has {self.summary.rows}")
        row = self._row(number)
        return self._entry(row, self._store.read(self.name, row.position, row.size))

    def number_at(self, point: Point) -> int:
        """The number of the first entry at or after `point`; that of all entries where there is none."""
        return bisect_left(range(self.summary.rows), point, key=lambda number: self._row(number)[:2])

    def times(self) -> list[float]:
        """When each entry was received, in Unix seconds; from the index, without reading any."""
        return [Row(*row).time for row in ROW.iter_unpack(self._index(0, self.summary.rows * ROW.size))]

    def _row(self, number: int) -> Row:
        return Row(*ROW.unpack(self._index(number * ROW.size, ROW.size)))

    def entries(self, start: Point = (0, 0)) -> Iterator[Entry]:
        """Its entries from `start` on, in order, those that were deleted too."""
        rows = [Row(*row) for row in ROW.iter_unpack(self._index(0, self.summary.rows * ROW.size))]
        at = bisect_left(rows, start, key=lambda row: (row.offset, row.number))
        while at < len(rows):
            first = rows[at].position
            end = max(at + 1, bisect_right(rows, first + _PIECE, lo=at, key=lambda row: row.position + row.size))
            data = self._store.read(self.name, first, rows[end - 1].position + rows[end - 1].size - first)
            for row in rows[at:end]:
                yield self._entry(row, data[row.position - first : row.position - first + row.size])
            at = end

    def _index(self, start: int, size: int) -> bytes:
        """A stretch of the index."""
        data = self._store.read(self.name, self.summary.index_position + BLOCK + start, size)
        if len(data) != size:
            raise ShardError(f"{self.name}: its index ends early: it is torn; restore it from a copy")
        return data

    def _made(self, number: int) -> Made:
        if self._versions is None:
            header = self._store.read(self.name, self.summary.index_position, BLOCK)
            rows = self.summary.rows * ROW.size
            text = self._index(rows, int(header[124:135], 8) - rows)
            self._versions = _versions.decode(text)
        return made_of(self._versions[number])

    def _entry(self, row: Row, data: bytes) -> Entry:
        if crc32c(data) != row.crc32c or len(data) != row.size:
            raise ShardError(f"{self.name}: entry ({row.offset}, {row.number}) is damaged; restore it from a copy")
        key = ""
        contents: dict[str, bytes] = {}
        for name, value in members(data):
            folder, slash, file = name.rpartition("/")
            stem, _, extension = file.partition(".")
            key = f"{folder}{slash}{stem}"
            contents[extension] = value
        version, trace = self._made(row.version) if row.version else (None, None)
        return Entry(row.offset, row.number, key, row.time, contents, version, trace)


class ShardChain:
    """All shards of one partition, in order, as it grows. Used from one thread.

    `refresh` notices new shards by asking for the one name that can come next. Entries are numbered from the oldest
    shard on; those that were deleted keep their numbers, so that all others do. When shards were replaced, those that
    were read before are read on until they are removed, then the chain is looked up anew. With `whole`, the sha256 of
    a shard is verified before anything of it is given out; leave it out where single entries are drawn from a large
    archive: each has a checksum of its own.
    """

    def __init__(self, store: ShardStore, topic: str, partition: int, *, whole: bool = True) -> None:
        self.topic = topic
        self.partition = partition
        self._store = store
        self._whole = whole
        self._names: list[str] = []
        self._shards: list[Shard | None] = []
        self._ends: list[int] = []
        self._listed = -inf
        self._list()

    def _list(self) -> None:
        """Look up the chain: of each first offset the latest, without those that one before them covers."""
        self._names, self._shards, self._ends = [], [], []
        self._take_in(latest(self._store.names(chain_folder(self.topic, self.partition))), end=0)
        self._listed = time.monotonic()

    def _take_in(self, names: Iterable[str], end: int) -> None:
        for name in names:
            if first_offset_of(name) < end:
                continue
            # only what replaced others can cover names that follow, so the rest is opened when it is needed
            shard = Shard(self._store, name) if generation_of(name) else None
            end = shard.summary.next_offset if shard is not None else 0
            self._names.append(name)
            self._shards.append(shard)

    def refresh(self) -> int:
        """Take in what was published since; return how many shards that were."""
        before = len(self._names)
        if not self._names:
            self._list()
        while self._names and (name := self._next_name()) is not None:
            self._names.append(name)
            self._shards.append(None)
        if time.monotonic() - self._listed > _LIST_EVERY:
            self._extend()
        return len(self._names) - before

    def _next_name(self) -> str | None:
        name = shard_name(self.topic, self.partition, self._end())
        return name if self._store.size(name) is not None else None

    def _extend(self) -> None:
        """Take in what only a listing shows: that the next shard was replaced before it was seen here."""
        names = latest(self._store.names(chain_folder(self.topic, self.partition)))
        self._listed = time.monotonic()
        end = self._end() if self._names else 0
        newer = [name for name in names if first_offset_of(name) >= end]
        if self._names and newer and first_offset_of(newer[0]) == end:
            self._take_in(newer, end)

    def _end(self) -> int:
        return self.shard(len(self._names) - 1).summary.next_offset

    def __len__(self) -> int:
        """The number of shards."""
        return len(self._names)

    @property
    def names(self) -> Sequence[str]:
        """The names of its shards, in order: what to give to a reader that knows only tars."""
        self.count()
        return tuple(self._names)

    @property
    def first_offset(self) -> int | None:
        """Where the archive begins; None where it is empty."""
        return first_offset_of(self._names[0]) if self._names else None

    @property
    def next_offset(self) -> int | None:
        """Every record below is archived; None where the archive is empty."""
        return self._again(self._end) if self._names else None

    def shard(self, number: int) -> Shard:
        """Shard `number`, opened and checked against its neighbour at first use."""
        shard = self._shards[number]
        if shard is None:
            shard = Shard(self._store, self._names[number])
            self._check_neighbour(shard, number + 1)
            self._shards[number] = shard
        return shard

    def covering(self, offset: int) -> Shard | None:
        """The shard that holds the record at `offset`; None where that is not archived."""
        if not self._names or not self.first_offset <= offset < self._end():  # type: ignore[operator]
            return None
        self.count()
        return self.shard(self._shard_at((offset, 0)))

    def _check_neighbour(self, shard: Shard, following: int) -> None:
        """A chain has no gap and no overlap; a name that a listing missed while it was published is taken in."""
        end = shard.summary.next_offset
        if following == len(self._names) or first_offset_of(self._names[following]) == end:
            return
        missed = shard_name(self.topic, self.partition, end)
        if first_offset_of(self._names[following]) < end or self._store.size(missed) is None:
            raise ShardError(
                f"{shard.name} ends at {end}, but the next shard is {self._names[following]}; "
                "restore the one that is missing, or move away the one that does not belong"
            )
        self._names.insert(following, missed)
        self._shards.insert(following, None)

    def count(self) -> int:
        """The number of entries in all shards that are known now."""
        return self._again(self._count)

    def _count(self) -> int:
        for number in range(len(self._ends), len(self._names)):
            self.shard(number)  # may take in a name that was missed, so all are opened before they are counted
        if len(self._ends) < len(self._names):
            self._ends = list(accumulate(self.shard(number).summary.rows for number in range(len(self._names))))
        return self._ends[-1] if self._ends else 0

    def entry(self, number: int) -> Entry:
        """Entry `number` of all, oldest first, read in place; one that was deleted has no members."""
        if not 0 <= number < self.count():
            raise IndexError(f"{self.topic}/{self.partition}: entry {number}, but the archive has {self.count()}")
        return self._again(lambda: self._entry(number))

    def _entry(self, number: int) -> Entry:
        self._count()
        at = bisect_right(self._ends, number)
        return self._checked(at).entry(number - (self._ends[at - 1] if at else 0))

    def number_at(self, point: Point) -> int:
        """The number of the first entry at or after `point`; that of all entries where there is none."""
        return self._again(lambda: self._number_at(point))

    def _number_at(self, point: Point) -> int:
        count = self._count()
        at = self._shard_at(point)
        return min(count, self.shard(at).number_at(point) + (self._ends[at - 1] if at else 0)) if count else 0

    def pieces(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Where the entries from number `first` up to `end` lie: a shard, its first one of them, and behind its last."""
        self.count()
        while first < end:
            at = bisect_right(self._ends, first)
            begins = self._ends[at - 1] if at else 0
            upto = min(end, self._ends[at])
            yield at, first - begins, upto - begins
            first = upto

    def entries(self, start: Point = (0, 0)) -> Iterator[Entry]:
        """The entries from `start` on, up to the end as of the last `refresh`, without those that were deleted."""
        at = self._shard_at(start)
        while at < len(self._names):
            try:
                self._store.expect(self._names[at + 1 : at + 2])
                for entry in self._checked(at).entries(start):
                    start = (entry.offset, entry.index + 1)
                    if not entry.removed:
                        yield entry
                start = max(start, (self.shard(at).summary.next_offset, 0))
                at += 1
            except ShardGone as gone:
                self._look_up(gone)
                at = self._shard_at(start)

    def samples(self, start: Point = (0, 0)) -> Iterator[tuple[Position, Sample]]:
        """The samples from `start` on (a chain of the topic `samples`)."""
        for entry in self.entries(start):
            yield self._position(entry), sample_of(entry)

    def sample(self, number: int) -> tuple[Position, Sample]:
        """Sample `number` of all, oldest first (a chain of the topic `samples`); `SampleRemoved` if it was deleted."""
        entry = self.entry(number)
        return self._position(entry), sample_of(entry)

    def records(self, start: Point = (0, 0)) -> Iterator[tuple[Position, SessionRecord]]:
        """The session records from `start` on, each step in one of its own (a chain of the topic `steps`)."""
        for entry in self.entries(start):
            yield self._position(entry), record_of(entry)

    def _shard_at(self, point: Point) -> int:
        """The shard that covers `point`, or the first."""
        return max(0, bisect_right(self._names, point[0], key=first_offset_of) - 1)

    def _checked(self, number: int) -> Shard:
        shard = self.shard(number)
        if self._whole:
            shard.verify()
        return shard

    def _again(self, look: Callable[[], T]) -> T:
        """What `look` gives, after another look at the chain where a shard was replaced and is gone by now."""
        while True:
            try:
                return look()
            except ShardGone as gone:
                self._look_up(gone)

    def _look_up(self, gone: ShardGone) -> None:
        """Look up the chain anew. Raises `gone` where that changes nothing: then a shard is missing."""
        before = self._names
        self._list()
        if self._names == before:
            raise gone

    def _position(self, entry: Entry) -> Position:
        return Position(self.topic, self.partition, entry.offset, entry.index)


def archived_before(store: ShardStore, topic: str, partition: int) -> int:
    """The offset below which every record is archived, durably; 0 where none is. What retention may not pass."""
    store.settle(chain_folder(topic, partition))
    names = latest(store.names(chain_folder(topic, partition)))  # the last is on the chain: see `ingest.replacing`
    return Shard(store, names[-1]).summary.next_offset if names else 0
