"""What every log promises, whatever its backend: `conftest.LogFactory` is all that a further one has to bring."""

from __future__ import annotations

import os
import pickle
import random
import signal
import statistics
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import LogError, LogForked, LogLocked, OffsetOutOfRange
from ingest.log import Append, Bounds, LogReader, Record, next_record
from tests.ingest.conftest import LogFactory, Run
from tests.waiting import until


def append(value: bytes, partition: int = 0, topic: str = "steps", key: str = "session1") -> Append:
    return Append(topic, partition, key, value, round(time.time(), 3))


def read_all(reader: LogReader, topic: str = "steps", partition: int = 0, offset: int = 0) -> list[Record]:
    records: list[Record] = []
    while True:
        fetch = reader.fetch(topic, partition, offset, max_bytes=50)
        if not fetch.records:
            return records
        records.extend(fetch.records)
        assert fetch.next_offset > offset
        offset = fetch.next_offset


def bounds_of(log_factory: LogFactory, reader: LogReader, partition: int = 0) -> Bounds:
    """The bounds, whose size must be 0 where a backend cannot tell it."""
    bounds = reader.bounds("steps", partition)
    assert log_factory.sized or bounds.size == 0
    return bounds


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


def test_records_come_back_as_they_were_written_and_in_order(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    sent = [append(b"%d" % number, key=f"s{number}") for number in range(40)]
    offsets = writer.commit(sent[:15]) + writer.commit(sent[15:])
    records = read_all(reader)
    assert offsets == sorted(set(offsets)) == [record.offset for record in records]
    assert records == [
        Record(each.topic, each.partition, offset, each.key, each.value, each.time)
        for each, offset in zip(sent, offsets, strict=True)
    ]


def test_partitions_and_topics_are_independent(log_factory: LogFactory) -> None:
    log = log_factory.make()
    gateway, annotator, reader = log.writer("gateway"), log.writer("annotator"), log.reader()
    gateway.commit([append(b"a", 0), append(b"b", 3), append(b"c", 0)])
    annotator.commit([append(b"d", 3, "samples"), append(b"e", 3, "dead")])
    assert values(read_all(reader, "steps", 0)) == [b"a", b"c"]
    assert values(read_all(reader, "steps", 3)) == [b"b"]
    assert values(read_all(reader, "samples", 3)) == [b"d"]
    assert values(read_all(reader, "dead", 3)) == [b"e"]
    assert read_all(reader, "steps", 1) == []
    assert reader.partitions("steps") == reader.partitions("dead") == 4


def test_the_ends_tell_of_every_commit_at_once_and_of_nothing_else(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    before = reader.ends("steps")
    assert list(before) == [0] * 4
    for number in range(5):
        (offset,) = writer.commit([append(f"value {number}".encode(), 2)])
        after = reader.ends("steps")
        assert after[2] > offset
        assert [after[partition] for partition in (0, 1, 3)] == [0, 0, 0]
    assert list(reader.ends("deletions")) == [0] * 4
    until(lambda: next_record(reader, "steps", 2, offset + 1) >= after[2], "between last record and end lies nothing")
    assert next_record(reader, "steps", 2, offset) == offset
    writer.close()


def test_a_writer_refuses_what_is_not_its_own(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    for topic, partition in (("samples", 0), ("nothing", 0), ("steps", 4), ("steps", -1)):
        with pytest.raises(LogError):
            writer.commit([append(b"good"), append(b"bad", partition, topic)], {"key": b"value"})
    assert read_all(reader) == []
    assert writer.state() == {}


def test_records_and_state_are_committed_together_or_not_at_all(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    writer.commit([append(b"a")], {"position/0": b"1", "position/1": b"1", "other": b"x"})
    writer.commit([], {"position/0": b"2", "position/1": None})
    assert writer.state("position/") == {"position/0": b"2"}
    assert log.writer_state("gateway") == {"position/0": b"2", "other": b"x"}

    unwritable = Append("steps", 0, "session1", 7, time.time())  # type: ignore[arg-type]
    with pytest.raises((LogError, TypeError)):
        writer.commit([append(b"b"), unwritable], {"other": b"y"})
    assert log.writer_state("gateway", "other") == {"other": b"x"}
    writer.commit([append(b"c")])
    assert values(read_all(reader)) == [b"a", b"c"]


def test_a_fetch_is_bounded_by_bytes_but_never_empty_while_there_is_a_record(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    writer.commit([append(bytes(1000)) for _ in range(10)])
    assert len(reader.fetch("steps", 0, 0, max_bytes=3500).records) == 3
    assert len(reader.fetch("steps", 0, 0, max_bytes=1).records) == 1
    assert len(reader.fetch("steps", 0, 0).records) == 10
    assert reader.fetch("steps", 0, 10).records == ()
    assert len(reader.fetch("steps", 0, 2, max_bytes=3500).records) == 3


def test_a_reader_passes_over_gaps(log_factory: LogFactory) -> None:
    if not log_factory.aborts:
        pytest.skip("this broker shows aborted records to everybody")
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    log_factory.leave_gap(writer, "steps", 0, 3)
    (first,) = writer.commit([append(b"a")])
    log_factory.leave_gap(writer, "steps", 0, 7)
    second, third = writer.commit([append(b"b"), append(b"c")])
    log_factory.leave_gap(writer, "steps", 0, 2)
    assert first == 3
    assert third == second + 1
    assert second >= first + 8
    if log_factory.dense:
        assert second == 11
    assert values(read_all(reader)) == [b"a", b"b", b"c"]
    assert values(read_all(reader, offset=first + 1)) == [b"b", b"c"]
    assert values(read_all(reader, offset=first + 5)) == [b"b", b"c"], "begun within a gap"
    at_end = reader.fetch("steps", 0, third + 1)
    assert at_end.records == ()
    assert at_end.next_offset == reader.bounds("steps", 0).end >= third + 3


def test_trimmed_records_are_gone_and_asking_for_them_says_so(log_factory: LogFactory) -> None:
    if not log_factory.trims:
        pytest.skip("this broker cannot delete records")
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    writer.commit([append(b"12345") for _ in range(10)])
    end = reader.bounds("steps", 0).end
    assert end == 10 or not log_factory.dense
    assert bounds_of(log_factory, reader) == Bounds(0, end, 50 if log_factory.sized else 0)
    assert writer.trim("steps", 0, 4) == 4
    assert writer.trim("steps", 0, 2) == 0
    assert bounds_of(log_factory, reader) == Bounds(4, end, 30 if log_factory.sized else 0)
    with pytest.raises(OffsetOutOfRange, match="starts at 4") as raised:
        reader.fetch("steps", 0, 3)
    assert raised.value.start == 4
    assert [record.offset for record in read_all(reader, offset=4)] == list(range(4, 10))


def test_offsets_are_never_used_again_after_everything_was_trimmed(log_factory: LogFactory) -> None:
    if not log_factory.trims:
        pytest.skip("this broker cannot delete records")
    log = log_factory.make()
    writer = log.writer("gateway")
    writer.commit([append(b"x") for _ in range(5)])
    end = log.reader().bounds("steps", 0).end
    assert writer.trim("steps", 0, 1_000) == end
    writer.close()
    writer, reader = log.writer("gateway"), log.reader()
    assert reader.bounds("steps", 0) == Bounds(end, end, 0)
    assert writer.commit([append(b"y")]) == [end]
    assert values(read_all(reader, offset=end)) == [b"y"]


def test_a_second_writer_is_refused_until_the_first_one_closes(log_factory: LogFactory, run_program: Run) -> None:
    log = log_factory.make()
    process = run_program("append_forever", log)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    with pytest.raises(LogLocked):
        log.writer("gateway")
    log.writer("annotator").close()
    process.send_signal(signal.SIGKILL)
    process.wait()
    writer = log.writer("gateway")
    with pytest.raises(LogLocked):
        log.writer("gateway")
    writer.close()
    log.writer("gateway").close()


def test_a_log_that_nobody_has_written_yet_is_empty_and_its_first_record_is_noticed(log_factory: LogFactory) -> None:
    log = log_factory.make()
    reader = log.reader()
    assert reader.bounds("samples", 1) == Bounds(0, 0)
    assert reader.fetch("samples", 1, 0).records == ()
    assert reader.fetch("samples", 1, 7).next_offset == 7
    assert reader.partitions("samples") == 4
    assert log.writer_state("annotator") == {}
    assert not reader.wait(0.01)

    def write() -> None:
        writer = log.writer("annotator")
        writer.commit([append(b"first", 1, "samples")])
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 10
    while not reader.fetch("samples", 1, 0).records:
        assert reader.wait(10), "the first record was not noticed"
        assert time.monotonic() < deadline
    thread.join()
    assert values(read_all(reader, "samples", 1)) == [b"first"]


def test_news_since_the_last_wait_are_not_missed(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    while reader.wait(0):
        pass
    writer.commit([append(b"a")])
    assert values(read_all(reader)) == [b"a"]
    assert reader.wait(0), "a commit between two waits was forgotten because a fetch came in between"
    assert not reader.wait(0.02)


def test_a_reader_in_another_process_wakes_up_within_milliseconds(log_factory: LogFactory, run_program: Run) -> None:
    log = log_factory.make()
    writer = log.writer("gateway")
    process = run_program("follow", log, 100)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in range(100):
        writer.commit([append(b"%d" % number)])
        time.sleep(0.01)  # the pace of the load, not a wait for something
    output, _ = process.communicate(timeout=30)
    lags = [float(line.split()[1]) for line in output.splitlines()]
    assert len(lags) == 100
    assert statistics.quantiles(lags, n=10)[0] < log_factory.prompt, "a tenth, for the machine may be busy"


def test_many_readers_hold_nothing_back(log_factory: LogFactory, run_program: Run) -> None:
    log = log_factory.make()
    writer = log.writer("gateway")
    processes = [run_program("follow", log, 100) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for number in range(100):
        writer.commit([append(b"%d" % number * 1000)])
        writer.tidy()
    if log_factory.trims:
        writer.trim("steps", 1, 10)
    for process in processes:
        output, _ = process.communicate(timeout=30)
        offsets = [int(line.split()[0]) for line in output.splitlines()]
        assert len(set(offsets)) == 100
        assert offsets == sorted(offsets)


def test_what_was_committed_survives_kill_9_once_and_in_order(log_factory: LogFactory, run_program: Run) -> None:
    log = log_factory.make()
    acked, rounds = 0, 4 if log_factory.dense else 2
    watcher = log.reader()
    for _ in range(rounds):
        process = run_program("append_forever", log)
        assert process.stdout is not None
        started = int(process.stdout.readline())
        assert started >= acked, "an acknowledged commit was lost"
        for _ in range(random.randint(1, 60)):
            acked = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().splitlines()
        process.wait()
        acked = max([acked, *(int(line) for line in rest)])
        read_all(watcher)
    count = int(log.writer_state("gateway")["count"])
    assert count >= acked
    for reader in (watcher, log.reader()):
        for partition in (0, 1):
            found = [int(record.value) for record in read_all(reader, partition=partition)]
            assert found == list(range(partition, count, 2))


def test_use_after_a_fork_is_refused(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (lambda: writer.commit([append(b"x")]), lambda: reader.fetch("steps", 0, 0), lambda: reader.wait(0)):
            try:
                use()
            except LogForked:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    writer.commit([append(b"still here")])
    assert values(read_all(reader)) == [b"still here"]


def test_a_fork_does_not_keep_the_lock(log_factory: LogFactory) -> None:
    log = log_factory.make()
    writer = log.writer("gateway")
    to_child, from_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_child[1])
        os.write(from_child[1], b"!")
        os.read(to_child[0], 1)  # until the parent closes its end
        os._exit(0)
    try:
        os.read(from_child[0], 1)
        writer.close()
        log.writer("gateway").close()
    finally:
        os.close(to_child[1])
        os.waitpid(child, 0)


def test_a_log_is_only_configuration(log_factory: LogFactory) -> None:
    log = log_factory.make()
    log.writer("gateway").commit([append(b"a")])
    assert values(read_all(pickle.loads(pickle.dumps(log)).reader())) == [b"a"]


Operation = tuple[str, int, int]
operations = st.lists(
    st.tuples(st.sampled_from(["commit", "gap", "trim", "reopen"]), st.integers(0, 3), st.integers(0, 6)), max_size=25
)


ON_BROKERS = [pytest.param("kafka", marks=pytest.mark.kafka), "tansu"]
LONGEST_ON_BROKERS = 10


@pytest.mark.parametrize("log_factory", ["sqlite"], indirect=True)
@given(operations)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_behaves_like_a_list_with_holes(log_factory: LogFactory, script: list[Operation]) -> None:
    follow_script(log_factory, script)


@pytest.mark.parametrize("log_factory", ON_BROKERS, indirect=True)
@given(operations)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_on_a_broker_behaves_so_too(log_factory: LogFactory, script: list[Operation]) -> None:
    follow_script(log_factory, script[:LONGEST_ON_BROKERS])


def follow_script(log_factory: LogFactory, script: list[Operation]) -> None:
    log = log_factory.make()
    writer, reader = log.writer("gateway"), log.reader()
    model: dict[int, dict[int, bytes]] = {partition: {} for partition in range(4)}
    start, after = dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 0)
    for name, partition, number in script:
        if name == "commit":
            sent = [append(os.urandom(number), partition) for _ in range(number)]
            offsets = writer.commit(sent, {"last": b"%d" % number})
            assert all(offset >= after[partition] for offset in offsets)
            assert not log_factory.dense or offsets == list(range(after[partition], after[partition] + number))
            model[partition].update(zip(offsets, (each.value for each in sent), strict=True))
        elif name == "gap" and number and log_factory.aborts:
            log_factory.leave_gap(writer, "steps", partition, number)
        elif name == "trim" and log_factory.trims:
            before = min(number * 2, after[partition])
            gone = [offset for offset in model[partition] if offset < before]
            count = writer.trim("steps", partition, number * 2)
            assert count == (len(gone) if log_factory.sized else max(0, before - start[partition]))
            for offset in gone:
                del model[partition][offset]
            start[partition] = max(start[partition], before)
        elif name == "reopen":
            writer.close()
            writer = log.writer("gateway")
        read_all(reader, "steps", partition, start[partition])  # what was in flight has come
        end = reader.bounds("steps", partition).end
        assert end == after[partition] + (number if name in ("commit", "gap") else 0) or not log_factory.dense
        after[partition] = end
    for partition, records in model.items():
        found = {record.offset: record.value for record in read_all(reader, "steps", partition, start[partition])}
        assert found == records
        size = sum(map(len, records.values())) if log_factory.sized else 0
        assert reader.bounds("steps", partition) == Bounds(start[partition], after[partition], size)
    writer.close()
    reader.close()
