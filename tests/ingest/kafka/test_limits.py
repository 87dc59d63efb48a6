"""What brokers do to a log: they die, they are slow, they run full, they forget, they refuse."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from ingest.errors import LayoutMismatch, LogError, LogLocked, LogUnavailable, OffsetOutOfRange
from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions, KafkaWriter, compat
from ingest.kafka.patience import patiently
from ingest.kafka.state import LEASE, NUMBER, Lease, Sight, StateReader
from ingest.log import Append
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore
from tests.brokers import Kafka, kafka_home
from tests.conftest import KafkaLogs, log_on, quick_options
from tests.ingest.keeping import process, sessions_in
from tests.ingest.visits import annotated, step, visit
from tests.ingest.visits import append as record_append
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.kafka


def append(value: bytes, partition: int = 0) -> Append:
    return Append("steps", partition, "session1", value, round(time.time(), 3))


def values(log: KafkaLog, partition: int = 0) -> list[bytes]:
    reader = log.reader()
    found: list[bytes] = []
    offset = reader.bounds("steps", partition).start
    while (fetched := reader.fetch("steps", partition, offset)).records:
        found += [record.value for record in fetched.records]
        offset = fetched.next_offset
    reader.close()
    return found


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker to be killed, that forgets soon."""
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    settings = {"log_retention_check_interval_ms": "300", "log_segment_delete_delay_ms": "0"}
    broker = Kafka(tmp_path_factory.mktemp("kafka"), **settings, log_initial_task_delay_ms="300")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def test_a_commit_without_a_broker_fails_in_time_and_its_fate_is_known_afterwards(own_broker: Kafka) -> None:
    log = log_on(own_broker, partitions=1, patience_seconds=1.0)
    writer = log.writer("gateway")
    reader = log.reader()
    writer.commit([append(b"before")], {"count": b"1"})
    known = reader.bounds("steps", 0)
    assert not reader.silent
    own_broker.kill()
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        writer.commit([append(b"lost?")], {"count": b"2"})
    with pytest.raises(LogUnavailable, match="recover first"):
        writer.commit([append(b"lost?")], {"count": b"2"})
    assert time.monotonic() - began < 30
    assert reader.fetch("steps", 0, 5).records == (), "a reader waits"
    assert reader.bounds("steps", 0) == known, "it tells what it knew"
    assert reader.silent, "and says that nobody answers"
    own_broker.start()
    until(lambda: reader.bounds("steps", 0) == known and not reader.silent, "it is answered again")
    writer.recover()
    taken = writer.state()["count"] == b"2"
    writer.commit([append(b"after")], {"count": b"3"})
    assert values(log) == [b"before", *([b"lost?"] if taken else []), b"after"]
    writer.close()
    reader.close()


def test_a_reader_that_is_opened_while_the_broker_comes_up_waits_for_it(own_broker: Kafka) -> None:
    log = log_on(own_broker, partitions=4, patience_seconds=PATIENCE)
    writer = log.writer("gateway")
    for partition in range(4):
        writer.commit([append(b"kept", partition)])
    writer.close()
    own_broker.kill()
    found: list[list[bytes]] = []
    reading = threading.Thread(target=lambda: found.extend(values(log, partition) for partition in range(4)))
    reading.start()
    own_broker.start()
    reading.join()
    assert found == [[b"kept"]] * 4


def test_a_writer_that_was_replaced_can_commit_nothing_more(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=1, lease_seconds=60.0)
    zombie = log.writer("gateway")
    zombie.commit([append(b"first")], {"next": b"1"})
    heir = log.writer("gateway", force=True)
    assert heir.state() == {"next": b"1"}
    with pytest.raises(LogLocked):
        zombie.commit([append(b"from the grave")], {"next": b"9"})
    with pytest.raises(LogLocked):
        zombie.recover()
    heir.commit([append(b"second")], {"next": b"2"})
    assert values(log) == [b"first", b"second"]
    assert log.writer_state("gateway") == {"next": b"2"}
    heir.close()


def test_a_writer_that_wakes_up_where_another_has_the_share_leaves_that_one_alone(own_broker: Kafka) -> None:
    log = log_on(own_broker, partitions=1, patience_seconds=1.0)
    sleeper = log.writer("gateway")
    own_broker.pause()
    with pytest.raises(LogUnavailable):
        sleeper.commit([append(b"unheard")], {"next": b"9"})
    own_broker.resume()
    heir = log.writer("gateway", force=True)
    heir.commit([append(b"first")], {"next": b"1"})
    with pytest.raises(LogLocked):
        sleeper.recover()
    heir.commit([append(b"second")], {"next": b"2"})
    assert values(log)[-2:] == [b"first", b"second"]
    assert log.writer_state("gateway") == {"next": b"2"}
    heir.close()


def test_a_writer_that_has_nothing_to_commit_learns_that_it_was_replaced(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=1, lease_seconds=1.0)
    idle = log.writer("gateway")
    idle.tidy()
    heir = log.writer("gateway", force=True)

    def told() -> bool:
        try:
            idle.tidy()
        except LogLocked:
            return True
        return False

    until(told, "its sign of life is refused")
    heir.close()


def test_a_writer_whose_first_commit_cannot_be_seen_yet_is_respected(
    kafka_logs: KafkaLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kafka_logs(partitions=1, lease_seconds=30.0)
    log.provide()
    other = KafkaProducer(bootstrap_servers=log.servers, transactional_id="another", enable_idempotence=True)
    other.init_transactions()
    lease = msgspec.json.encode(Lease("token", "somebody", 30.0))

    def begin() -> None:
        other.begin_transaction()
        for key, value in ((LEASE, lease), (NUMBER, b"1")):
            other.send(log.layout.state_topic("gateway"), value, key.encode(), partition=0).get(20)

    begin()
    found = StateReader(log.servers, log.options, TopicPartition(log.layout.state_topic("gateway"), 0))
    sight = found.look()
    assert (sight.undecided, sight.lease) == (True, None)
    other.abort_transaction()
    sight = found.look()
    assert (sight.undecided, sight.lease, sight.commits) == (False, None, 0)
    found.close()
    begin()
    look = StateReader.look

    def look_before_it_is_through(reader: StateReader) -> Sight:
        sight = look(reader)
        monkeypatch.undo()
        other.commit_transaction()
        return sight

    monkeypatch.setattr(StateReader, "look", look_before_it_is_through)
    with pytest.raises(LogLocked, match="is being written by"):
        log.writer("gateway")
    other.close()


def test_shares_are_written_side_by_side_each_with_its_state(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=4, shares=2)
    even, odd = log.writer("gateway", 0), log.writer("gateway", 1)
    even.commit([append(b"0", 0), append(b"2", 2)], {"mine": b"even"})
    odd.commit([append(b"1", 1), append(b"3", 3)], {"yours": b"odd"})
    with pytest.raises(LogError, match="steps/1 belongs to share 1 of gateway"):
        even.commit([append(b"x", 1)])
    with pytest.raises(LogError, match="has the shares 0 to 1, but 2"):
        log.writer("gateway", 2)
    assert even.state() == {"mine": b"even"}
    assert log.writer_state("gateway") == {"mine": b"even", "yours": b"odd"}
    assert [values(log, partition) for partition in range(4)] == [[b"0"], [b"1"], [b"2"], [b"3"]]
    even.close()
    odd.close()


def test_an_oversized_record_is_refused_before_anything_is_written(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=1, max_record_bytes=200_000, batch_bytes=100_000)
    writer = log.writer("gateway")
    with pytest.raises(LogError, match="above the limit"):
        writer.commit([append(b"small"), append(bytes(200_000))])
    writer.commit([append(bytes(writer.max_record_bytes - 100))])
    assert [len(value) for value in values(log)] == [writer.max_record_bytes - 100]
    writer.close()


def test_a_record_that_a_broker_refuses_for_its_size_leaves_nothing_behind(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=1)
    writer = log.writer("gateway")
    writer.commit([append(b"before")], {"count": b"1"})
    _set(log, "max.message.bytes", 20_000)  # by somebody, while it runs
    with pytest.raises(LogError, match="refuses a record for its size; nothing was written"):
        writer.commit([append(b"small"), append(bytes(100_000))], {"count": b"2"})
    assert writer.state() == {"count": b"1"}
    writer.commit([append(b"after")], {"count": b"2"})
    assert values(log) == [b"before", b"after"]
    writer.close()


def test_a_commit_of_many_bytes_is_sent_bit_by_bit(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=1, inflight_bytes=1 << 20)
    writer = log.writer("gateway")
    offsets = writer.commit([append(bytes(400_000)) for _ in range(12)])
    assert offsets == list(range(offsets[0], offsets[0] + 12))
    assert len(values(log)) == 12
    writer.close()


def test_other_partitions_or_a_smaller_limit_are_refused_with_the_way_out(kafka_logs: KafkaLogs) -> None:
    log = kafka_logs(partitions=2)
    log.provide()
    other = KafkaLog(log.servers, KafkaLayout(log.layout.prefix, 3, 1), log.options)
    with pytest.raises(LayoutMismatch, match=r"has 2 partitions, but 3 were asked for; set log\.partitions"):
        other.reader()
    larger = KafkaLog(log.servers, log.layout, quick_options(topic_prefix=log.layout.prefix, max_record_bytes=4 << 20))
    with pytest.raises(LayoutMismatch, match=r"raise the topic's max.message.bytes"):
        larger.reader()
    nowhere = KafkaLog(log.servers, KafkaLayout("nowhere", 1, 1), quick_options(create_topics=False))
    with pytest.raises(LayoutMismatch, match="create_topics is off"):
        nowhere.reader()


def test_no_broker_at_the_start_is_said_with_its_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = KafkaLog(address, KafkaLayout("any", 1, 1), quick_options(patience_seconds=0.5))
    with pytest.raises(LogUnavailable, match=f"no broker answers at {address}"):
        log.reader()


def test_without_crc32c_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.record_util, "crc32c_c", None)
    log = KafkaLog("127.0.0.1:1", KafkaLayout("any", 1, 1), KafkaOptions())
    with pytest.raises(LogError, match="pip install crc32c"):
        log.reader()


def test_retention_that_passes_a_reader_tells_it_where_to_go_on(own_broker: Kafka) -> None:
    log = log_on(own_broker, partitions=1, retention_bytes=2_000_000, max_record_bytes=1 << 20, batch_bytes=500_000)
    log.provide()
    _set(log, "segment.bytes", 1 << 20)
    writer, reader = log.writer("gateway"), log.reader()
    writer.commit([append(b"first")])
    assert len(reader.fetch("steps", 0, 0).records) == 1
    late = log.reader()
    for _ in range(6):
        writer.commit([append(bytes(900_000)) for _ in range(2)])
    deadline = time.monotonic() + 60
    while (start := reader.bounds("steps", 0).start) == 0:
        assert time.monotonic() < deadline, "nothing was forgotten"
        time.sleep(0.2)
    with pytest.raises(OffsetOutOfRange) as raised:
        late.fetch("steps", 0, 0)
    assert raised.value.start >= start
    assert late.fetch("steps", 0, raised.value.start).records
    writer.close()


def test_annotator_and_archiver_go_on_where_a_hard_limit_has_passed_them_and_say_what_is_lost(
    kafka_logs: KafkaLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, store = kafka_logs(partitions=1), DirectoryStore(tmp_path)
    writer = log.writer("gateway")

    def post(name: str) -> int:
        steps = [step(name, seq, 1) for seq in range(3)]
        return writer.commit([record_append(record, 1) for record in visit(name, steps)])[0]

    post("visit-1")
    process(log, store)
    post("visit-2")
    writer.trim("steps", 0, post("visit-3"))  # what the brokers do by themselves: nobody has seen the second one
    process(log, store)
    assert caplog.text.count("before it was annotated, and is lost") == 1
    assert caplog.text.count("before it was archived, and is lost") == 1
    assert sorted({each.session_id for each in annotated(log) if each.outcomes}) == ["visit-1", "visit-3"]
    for topic in ("steps", "samples"):
        assert sessions_in(store, topic, 1) == {"visit-1", "visit-3"}
        chain = ShardChain(store, topic, 0)
        assert [each.summary.first_offset for each in map(chain.shard, range(1, len(chain.names)))] == [
            each.summary.next_offset for each in map(chain.shard, range(len(chain.names) - 1))
        ], "the chain has no gap"
    writer.close()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, Throttle]]:
    """A broker that is reached through a proxy only, as it names that as its own address."""
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    with Throttle() as proxy:
        address = f"PLAINTEXT://127.0.0.1:{proxy.port}"
        broker = Kafka(tmp_path_factory.mktemp("kafka"), advertised_listeners=address)
        proxy.target = broker.port
        try:
            broker.start()
            yield broker, proxy
        finally:
            broker.kill()


def test_a_slow_broker_delays_commits_and_loses_none(slow: tuple[Kafka, Throttle]) -> None:
    broker, proxy = slow
    log = log_on(broker, partitions=1, patience_seconds=30.0)
    log.provide()
    proxy.delay = 0.03
    writer, passed = log.writer("gateway"), proxy.passed
    for number in range(5):
        writer.commit([append(b"%d" % number)], {"count": b"%d" % number})
    assert proxy.passed > passed, "its answers come through the proxy"
    assert values(log) == [b"%d" % number for number in range(5)]
    proxy.delay = 0.0
    writer.close()


def test_a_broker_that_is_slower_than_the_patience_is_as_one_that_is_away(slow: tuple[Kafka, Throttle]) -> None:
    broker, proxy = slow
    log = log_on(broker, partitions=1, patience_seconds=1.0)
    writer = log.writer("gateway")
    writer.commit([append(b"before")], {"count": b"1"})
    proxy.delay = 3.0
    with pytest.raises(LogUnavailable):
        writer.commit([append(b"late?")], {"count": b"2"})
    proxy.delay = 0.0
    patiently(writer.recover, LogUnavailable, PATIENCE)
    taken = writer.state()["count"] == b"2"
    writer.commit([append(b"after")], {"count": b"3"})
    assert values(log) == [b"before", *([b"late?"] if taken else []), b"after"]
    writer.close()


def test_a_full_disk_ends_in_an_error_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("a small disk cannot be mounted here")
    broker = Kafka(disk, log_index_size_max_bytes="65536", log_segment_bytes="4194304")
    try:
        broker.start()
        log = log_on(broker, partitions=1, patience_seconds=2.0)
        writer = log.writer("gateway")
        acked = _fill(writer)
        assert 10 < acked < 100
        broker.kill()
        larger = subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], capture_output=True, check=False)
        assert larger.returncode == 0
        broker.start()
        found = [int(value[:6]) for value in values(log)]
        assert found[:acked] == list(range(acked))
        assert len(found) <= acked + 1
    finally:
        broker.kill()
        subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)
        shutil.rmtree(disk, ignore_errors=True)


def _fill(writer: KafkaWriter) -> int:
    """Commit until that fails; gives how many commits were acknowledged."""
    for number in range(200):
        try:
            writer.commit([append(b"%06d" % number + bytes(500_000))], {"count": b"%d" % number})
        except LogError:
            return number
    pytest.fail("the disk did not run full")


def _set(log: KafkaLog, name: str, value: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=log.servers)
    resource = ConfigResource(ConfigResourceType.TOPIC, log.layout.topic("steps"), {name: str(value)})
    admin.alter_configs([resource])
    admin.close()


class Throttle:
    """A TCP proxy to the port `target` that holds every piece of an answer back for `delay` seconds."""

    def __init__(self) -> None:
        self.target, self.delay = 0, 0.0
        self.passed = 0
        """Pieces of answers so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()

    def __enter__(self) -> Throttle:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                continue  # it is over, or the broker is not up yet
            for source, sink, answers in ((client, broker, False), (broker, client, True)):
                threading.Thread(target=self._pass_on, args=(source, sink, answers), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                if answers:
                    time.sleep(self.delay)
                    self.passed += 1
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, sink):
                each.close()
