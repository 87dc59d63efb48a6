"""The archiver: every record in exactly one shard, whoever writes, dies or wakes up late."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.archive_lane import ArchiveLane, ArchiverSettings, Rotation
from ingest.archiver import Archiver
from ingest.errors import ShardError
from ingest.log import Append, LogWriter
from ingest.memory import MemoryLog
from ingest.replacing import replace, retire
from ingest.shard_reader import Shard, ShardChain, archived_before
from ingest.shards import DirectoryStore, ShardStore, shard_name
from ingest.types import SAMPLES, STEPS, Annotated, Position, Sample, StepsAppended
from tests.ingest.schedules import Sleeper, fate_in_force
from tests.ingest.stores import KINDS, make_store
from tests.ingest.visits import append, random_visit, read, step, visit
from tests.waiting import until


def put(writer: LogWriter, samples: int, *, size: int = 10, session_id: str = "a") -> None:
    """Append one record of `samples` with so many samples."""
    made = tuple(Sample(session_id, _next(), index, 1.0, {"bin": bytes(size)}) for index in range(samples))
    value = msgspec.msgpack.encode(Annotated(session_id, (), made))
    writer.commit([Append(SAMPLES, 0, session_id, value, time.time())])


_count = iter(range(1 << 40))


def _next() -> int:
    return next(_count)


def in_log(log: MemoryLog) -> list[tuple[Position, Sample]]:
    return [
        (Position(SAMPLES, 0, record.offset, index), sample)
        for record in read(log.reader(), SAMPLES, 0)
        for index, sample in enumerate(msgspec.msgpack.decode(record.value, type=Annotated).samples)
    ]


def in_shards(store: ShardStore) -> list[tuple[Position, Sample]]:
    return list(ShardChain(store, SAMPLES, 0).samples())


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "archive")


def run_until(archiver: Archiver, condition: object) -> None:
    """Run an archiver until something holds, then stop it."""
    stop = threading.Event()
    thread = threading.Thread(target=archiver.run, args=(stop,))
    thread.start()
    try:
        until(condition)
    finally:
        stop.set()
        thread.join()


def test_steps_and_samples_of_all_partitions_are_archived_and_can_be_read_back(store: DirectoryStore) -> None:
    log = MemoryLog(2)
    gateway, annotator = log.writer("gateway"), log.writer("annotator")
    records = [record for number in range(6) for record in random_visit(f"s{number}", random.Random(number))]
    gateway.commit([append(record, 2) for record in records])
    put(annotator, 3)
    Archiver(log, store).run(_stopped())
    back = [record for partition in (0, 1) for _, record in ShardChain(store, STEPS, partition).records()]
    one_by_one = [
        single
        for record in records
        for single in (
            [StepsAppended(record.session_id, (each,)) for each in record.steps]
            if isinstance(record, StepsAppended)
            else [record]
        )
    ]
    assert sorted(back, key=repr) == sorted(one_by_one, key=repr)
    for key in {record.session_id for record in records}:
        assert [r for r in back if r.session_id == key] == [r for r in one_by_one if r.session_id == key]
    assert in_shards(store) == in_log(log)


def _stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


@pytest.mark.parametrize(
    ("chosen", "count"),
    [(ArchiverSettings(max_bytes=12_000), 3), (ArchiverSettings(max_count=4), 3), (ArchiverSettings(), 1)],
    ids=["bytes", "count", "shutdown"],
)
def test_a_shard_is_closed_when_it_is_full_or_the_archiver_stops(
    store: DirectoryStore, chosen: ArchiverSettings, count: int
) -> None:
    log = MemoryLog()
    writer = log.writer("annotator")
    for _ in range(6):
        put(writer, 2, size=3000)
    Archiver(log, store, chosen).run(_stopped())
    assert len(store.names("samples/0")) == count
    assert in_shards(store) == in_log(log)


def test_a_small_shard_is_published_when_it_has_waited_long_enough(store: DirectoryStore) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    archiver = Archiver(log, store, ArchiverSettings(max_age=0.05, poll_interval=0.01))
    run_until(archiver, lambda: store.names("samples/0"))
    assert in_shards(store) == in_log(log)


def test_its_health_tells_what_is_not_in_a_published_shard(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    archiver = Archiver(log, store, ArchiverSettings(poll_interval=0.01))
    monkeypatch.setattr("ingest.archiver._LOOK_EVERY", 0.0)
    seen = []

    def behind() -> bool:
        seen.append(archiver.health)
        return archiver.health.lag_offsets == 1 and archiver.health.lag_seconds > 0

    run_until(archiver, behind)
    assert (archiver.health.lag_offsets, archiver.health.lag_seconds) == (0, 0.0)
    assert (archiver.health.shards, archiver.health.entries) == (1, 1)


def test_the_archive_of_another_log_is_refused(store: DirectoryStore) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    Archiver(log, store).run(_stopped())
    with pytest.raises(ShardError, match="of another log"):
        Archiver(MemoryLog(), store).run(_stopped())


def test_a_log_that_was_trimmed_before_it_had_an_archive_is_archived_from_its_start(store: DirectoryStore) -> None:
    log = MemoryLog()
    writer = log.writer("annotator")
    for _ in range(5):
        put(writer, 1)
    writer.trim(SAMPLES, 0, 3)
    Archiver(log, store).run(_stopped())
    assert ShardChain(store, SAMPLES, 0).first_offset == 3
    assert in_shards(store) == in_log(log)


def test_an_archiver_that_slept_gives_way_and_goes_on_behind_the_other(store: DirectoryStore) -> None:
    log = MemoryLog()
    writer = log.writer("annotator")
    put(writer, 1)
    chosen = ArchiverSettings()
    sleeper = ArchiveLane(store, log.reader(), SAMPLES, 0, chosen)
    sleeper.advance()
    other = ArchiveLane(store, log.reader(), SAMPLES, 0, chosen)
    put(writer, 2)
    other.advance()
    assert other.rotate(Rotation.AGE)
    assert not sleeper.rotate(Rotation.AGE)
    assert (sleeper.conflicts, sleeper.published) == (1, 2)
    put(writer, 1)
    sleeper.advance()
    assert sleeper.rotate(Rotation.AGE)
    assert in_shards(store) == in_log(log)
    assert [path.name for path in (store.root / "samples/0").glob(".*")] == []


def test_one_that_gives_way_amid_a_read_goes_on_where_the_other_ended(store: DirectoryStore) -> None:
    log = MemoryLog()
    writer = log.writer("annotator")
    put(writer, 1)
    sleeper = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings(max_count=2))
    sleeper.advance()
    other = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    other.advance()
    other.rotate(Rotation.AGE)  # offset 0 only: shorter than what the sleeper will want to publish
    for _ in range(5):
        put(writer, 1)
    while sleeper.advance():
        pass
    sleeper.rotate(Rotation.SHUTDOWN)
    assert sleeper.conflicts == 1
    assert in_shards(store) == in_log(log)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_slept_right_before_it_published_harms_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    log = MemoryLog()
    store = make_store(kind, request, tmp_path, log)
    writer = log.writer("annotator")
    put(writer, 1)
    lane = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    lane.advance()
    with fate_in_force():
        sleeper = Sleeper(lane)
        put(writer, 2)
        put(writer, 1)
        other = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
        other.advance()
        while not other.rotate(Rotation.AGE):  # where claims decide, it publishes what the sleeper wanted to
            other.advance()
        other.advance()
        other.rotate(Rotation.AGE)
        assert in_shards(store) == in_log(log)
        ends = [
            shard.summary.next_offset
            for shard in map(ShardChain(store, SAMPLES, 0).shard, range(len(store.names("samples/0"))))
        ]
        assert ends == ([1, 3] if kind == "juicefs" else [3])
        put(writer, 1)
        late = sleeper.wake()
        assert in_shards(store) == in_log(log)[:-1]
        for _ in range(2):
            late.advance()
            late.rotate(Rotation.AGE)
        assert in_shards(store) == in_log(log)
    assert (late.conflicts, other.conflicts) == (1, 1 if kind == "juicefs" else 0)


def test_one_that_slept_until_its_shard_was_replaced_and_removed_goes_on_at_the_end(store: DirectoryStore) -> None:
    log = MemoryLog()
    writer = log.writer("annotator")
    for _ in range(2):
        put(writer, 1)
    chosen = ArchiverSettings(max_count=1)
    sleeper = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    sleeper.advance()
    other = ArchiveLane(store, log.reader(), SAMPLES, 0, chosen)
    put(writer, 1)
    other.advance()
    chain = ShardChain(store, SAMPLES, 0)
    assert replace(store, [chain.shard(0), chain.shard(1)]) is not None
    retire(store, SAMPLES, 0, pause=0.0)
    assert not sleeper.rotate(Rotation.AGE), "its name was free, but it is off the chain"
    assert (sleeper.conflicts, sleeper.published) == (1, 3)
    put(writer, 1)
    sleeper.advance()
    assert sleeper.rotate(Rotation.AGE)
    assert in_shards(store) == in_log(log)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["put", "gap"]), st.integers(1, 2)),
        st.tuples(st.sampled_from(["advance", "advance", "rotate", "crash", "stop"]), st.integers(0, 1)),
    ),
    min_size=10,
    max_size=40,
)


@given(operations, st.sampled_from([1, 3, 1000]))
@settings(max_examples=200, deadline=None)
def test_over_any_schedule_of_archivers_each_sample_is_in_exactly_one_shard(
    script: list[tuple[str, int]], max_count: int
) -> None:
    log = MemoryLog()
    writer, reader = log.writer("annotator"), log.reader()
    chosen = ArchiverSettings(max_count=max_count)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)  # the order of calls is tested with the shards
        store = DirectoryStore(folder)
        lanes: dict[int, ArchiveLane] = {}
        forgotten = []  # dead, but their files stay as a kill leaves them
        for name, number in script:
            if name == "put":
                put(writer, number)
            elif name == "gap":
                log.skip(SAMPLES, 0, number)
            elif name == "crash":
                forgotten.append(lanes.pop(number, None))
            else:
                lane = lanes.get(number) or ArchiveLane(store, reader, SAMPLES, 0, chosen)
                lanes[number] = lane
                if name == "advance":
                    lane.advance()
                else:
                    lane.rotate(Rotation.AGE)
                if name == "stop":
                    lanes.pop(number).discard()
        check_chain(store, in_log(log))
        last = ArchiveLane(store, reader, SAMPLES, 0, chosen)
        last.advance()
        last.rotate(Rotation.SHUTDOWN)
        assert in_shards(store) == in_log(log)
        if in_log(log):
            assert archived_before(store, SAMPLES, 0) > in_log(log)[-1][0].offset


def check_chain(store: DirectoryStore, everything: Iterable[tuple[Position, Sample]]) -> None:
    """What is archived is a beginning of the log, without gap or overlap."""
    expected_first = 0
    for name in store.names("samples/0"):
        summary = Shard(store, name).summary
        assert name == shard_name(SAMPLES, 0, expected_first)
        expected_first = summary.next_offset
    assert in_shards(store) == [item for item in everything if item[0].offset < expected_first]


def test_steps_shards_are_of_the_same_bytes_when_written_again(tmp_path: Path) -> None:
    log = MemoryLog()
    log.writer("gateway").commit([append(record, 1) for record in visit("a", [step("a", seq, 1) for seq in range(9)])])
    contents = []
    for name in ("one", "two"):
        store = DirectoryStore(tmp_path / name)
        Archiver(log, store).run(_stopped())
        contents.append((store.root / shard_name(STEPS, 0, 0)).read_bytes())
    assert contents[0] == contents[1]
