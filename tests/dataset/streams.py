"""Parts shared by the tests of dataset: a log in memory, archives and tars to read, and ways to read them."""

from __future__ import annotations

import io
import json
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from dataset import (
    Consumed,
    InteractiveMixture,
    Item,
    LoadingSource,
    PlanningReader,
    Receipt,
    Share,
    Source,
    SourceReader,
)
from dataset.ahead import AheadReader
from dataset.loading import Loading
from dataset.parcels import packed, unpacked
from ingest import SAMPLES, Annotated, Append, Bounds, Fetch, OffsetOutOfRange, Record, Sample, StepOutcome
from ingest.entries import sample_entry
from ingest.shard_reader import ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import DirectoryStore
from ingest.types import DELETIONS, SessionDeleted


class MemoryLog:
    """A log in memory: one topic, offsets with gaps, retention. Implements `Log` as far as readers go."""

    def __init__(self, partitions: int = 2) -> None:
        self.count = partitions
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.starts = [0] * partitions
        self.ends = [0] * partitions
        self.commits = 0
        self.deleted: list[list[Record]] = [[] for _ in range(partitions)]
        self.open_readers = 0

    def append(self, partition: int, keys: Sequence[str], time: float = 0.0) -> None:
        """One record that holds a sample for each key (perhaps none)."""
        value = record_value(keys, time)
        self.records[partition].append(Record(SAMPLES, partition, self.ends[partition], "", value, time))
        self.ends[partition] += 1
        self.commits += 1

    def leave_gap(self, partition: int, count: int) -> None:
        self.ends[partition] += count
        self.commits += 1

    def trim(self, partition: int, before: int) -> None:
        self.starts[partition] = max(self.starts[partition], min(before, self.ends[partition]))
        self.records[partition] = [each for each in self.records[partition] if each.offset >= before]

    def delete(self, session_id: str, partition: int = 0) -> None:
        """A session's tombstone; `session_id` is what its samples' keys begin with, up to the slash."""
        value = msgspec.msgpack.encode(SessionDeleted(session_id, f"session.{session_id}", 0.0))
        gone = self.deleted[partition]
        gone.append(Record(DELETIONS, partition, len(gone), session_id, value, 0.0))
        self.commits += 1

    def writer(self, name: str) -> Any:
        raise NotImplementedError("tests append by themselves")

    def reader(self) -> MemoryReader:
        self.open_readers += 1
        return MemoryReader(self)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        return {}


class MemoryReader:
    """A reader of a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._seen = -1
        self.fetches = 0

    @property
    def silent(self) -> bool:
        return False

    def partitions(self, topic: str) -> int:
        return self._log.count

    def ends(self, topic: str) -> list[int]:
        return [self.bounds(topic, partition).end for partition in range(self.partitions(topic))]

    def bounds(self, topic: str, partition: int) -> Bounds:
        if topic == DELETIONS:
            return Bounds(0, len(self._log.deleted[partition]))
        return Bounds(self._log.starts[partition], self._log.ends[partition])

    def fetch(self, topic: str, partition: int, offset: int, max_bytes: int = 4 << 20) -> Fetch:
        if topic == DELETIONS:
            gone = self._log.deleted[partition]
            return Fetch(tuple(gone[offset:]), max(offset, len(gone)))
        start = self._log.starts[partition]
        if offset < start:
            raise OffsetOutOfRange(topic, partition, offset, start)
        self.fetches += 1
        found: list[Record] = []
        size = 0
        records = self._log.records[partition]
        for record in islice(records, bisect_left(records, offset, key=lambda each: each.offset), None):
            size += len(record.value)
            if found and size > max_bytes:
                return Fetch(tuple(found), record.offset)
            found.append(record)
        return Fetch(tuple(found), max(offset, self._log.ends[partition]))

    def wait(self, timeout: float) -> bool:
        news = self._seen != self._log.commits
        self._seen = self._log.commits
        return news

    def close(self) -> None:
        self._log.open_readers -= 1


def sample(key: str, time: float = 0.0) -> Sample:
    """A sample that says which one it is; `key` is session/seq-index."""
    session, _, numbers = key.rpartition("/")
    seq, _, index = numbers.partition("-")
    return Sample(session, int(seq), int(index), time, {"json": json.dumps({"key": key}).encode()})


def record_value(keys: Sequence[str], time: float = 0.0) -> bytes:
    """A record of the topic `samples`."""
    samples = tuple(sample(key, time) for key in keys)
    return msgspec.msgpack.encode(Annotated("session", (StepOutcome(0, len(samples)),), samples))


def annotated(partition: int, keys: Sequence[str], time: float = 0.0) -> Append:
    """The same, to be committed to a log."""
    return Append(SAMPLES, partition, "session", record_value(keys, time), time)


def key(number: int) -> str:
    """A sample's key that sorts by number."""
    return f"s{number // 100:04d}/{number % 100:06d}-00"


def decode(members: Mapping[str, bytes]) -> dict[str, Any]:
    """What the tests' apps make of a sample."""
    loaded: dict[str, Any] = json.loads(members["json"])
    return loaded


def archive_of(log: MemoryLog, root: Path, per_shard: int = 9) -> DirectoryStore:
    """Archive what a log holds and the archive does not, as the archiver would."""
    store = DirectoryStore(root)
    for partition in range(log.count):
        done = ShardChain(store, SAMPLES, partition).next_offset or 0
        waiting = [each for each in log.records[partition] if each.offset >= done]
        for first in range(0, len(waiting), per_shard):
            batch = waiting[first : first + per_shard]
            writer = ShardWriter(store, SAMPLES, partition, done)
            for record in batch:
                for index, each in enumerate(msgspec.msgpack.decode(record.value, type=Annotated).samples):
                    writer.add(sample_entry(each, record.offset, index))
                writer.record(record.offset, record.time)
            writer.publish()
            done = batch[-1].offset + 1
    return store


def write_tar(path: Path, keys: Iterable[str], members: Callable[[str], Mapping[str, bytes]] | None = None) -> Path:
    """A WebDataset tar, made by `tarfile`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".part")
    with tarfile.open(staged, "w") as tar:
        for each in keys:
            held = members(each) if members else {"json": json.dumps({"key": each}).encode()}
            for extension, content in held.items():
                info = tarfile.TarInfo(f"{each}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    staged.rename(path)
    return path


def json_copy(state: Any) -> Any:
    """What a checkpoint makes of a state."""
    return msgspec.json.decode(msgspec.json.encode(state))


@dataclass
class Reading:
    """A reader with the books that a mixture would keep for it."""

    workers: ClassVar[int] = 0
    """How many load ahead, in this process."""

    source: Source
    share: Share = field(default_factory=Share)
    consumed: Consumed = field(default_factory=Consumed)
    state: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.reader: SourceReader = self.source.open(self.share, self.consumed.of("it"), self.state)
        if self.workers and isinstance(self.source, LoadingSource) and isinstance(self.reader, PlanningReader):
            pool: Any = InlinePool({"it": self.source}, self.workers)
            self.reader = AheadReader("it", self.reader, pool, 1 << 20)

    def read(self, count: int) -> list[str]:
        """The keys of up to `count` items; each is consumed at once."""
        keys: list[str] = []
        misses = 0  # a reader may say that it has nothing now while much is passed over, or on its way
        while len(keys) < count and misses < 20 and not (misses and self.reader.exhausted()):
            item = self.reader.poll()
            misses = misses + 1 if item is None else 0
            if item is not None:
                self.book(item)
                keys.append(item.sample["key"])
        return keys

    def book(self, item: Item) -> None:
        self.consumed.add("it", item.span)
        if item.jumped is not None:
            self.consumed.add("it", item.jumped)

    def restored(self) -> Reading:
        """Another reader, from what a checkpoint would hold."""
        state, consumed = json_copy(self.reader.state()), Consumed.load(json_copy(self.consumed.dump()))
        self.reader.close()
        return Reading(self.source, self.share, consumed, state)


def step(mixture: InteractiveMixture, size: int) -> list[str]:
    """A whole training step of one batch: the keys that it used."""
    taken = mixture.take(size, idle=until_dry(mixture))
    if taken is None:
        return []
    items, receipt = taken
    mixture.complete([receipt])
    return [item.sample["key"] for item in items]


def until_dry(mixture: InteractiveMixture) -> Callable[[], bool]:
    """An idle hook that gives up where sources are dry, and waits while workers load, however slow the machine is."""

    def idle() -> bool:
        readers = mixture._reading.readers
        return readers is not None and any(readers.loading(name) for name in mixture.sources)

    return idle


class InlinePool:
    """Loads as a `Pool` does, in this process, when an answer is asked for: quick enough for thousands of schedules."""

    def __init__(self, sources: Mapping[str, Any], workers: int) -> None:
        self.workers, self.ahead_bytes = workers, 1 << 20
        self._sources, self._loaders = sources, {}
        self._tasks: dict[int, tuple[str, Sequence[Any]]] = {}
        self._next = 0

    def submit(self, source: str, whats: Sequence[Any], lane: int | None = None) -> int:
        self._next += 1
        self._tasks[self._next] = (source, whats)
        return self._next

    def answer(self, ticket: int) -> tuple[list[Any], int]:
        source, whats = self._tasks.pop(ticket)
        if source not in self._loaders:
            self._loaders[source] = self._sources[source].loader()
        data = bytearray(b"".join(packed([self._loaders[source](what) for what in whats])))
        return unpacked(data), len(data)

    def forget(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            self._tasks.pop(ticket, None)

    def close(self) -> None:
        assert not self._tasks


def with_inline_workers(data: InteractiveMixture, workers: int) -> InteractiveMixture:
    """The mixture, loading ahead as with so many workers."""
    data._reading.loading = Loading(workers)
    data._reading.pool = InlinePool(data.sources, workers) if workers else None  # type: ignore[assignment]
    return data


def keys_of(receipts: Iterable[Receipt], source: str) -> list[str]:
    """The keys of one source's rows."""
    return [each for receipt in receipts for each in receipt.keys_of(source)]
