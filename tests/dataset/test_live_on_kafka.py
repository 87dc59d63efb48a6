"""The live source on Apache Kafka: what every source must pass, and the archive and history at the same offsets."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from dataset import HistorySource, LiveSource, Source
from ingest import SAMPLES, DirectoryStore, ShardChain
from ingest.archiver import ArchiveLane, ArchiverSettings, Rotation
from ingest.kafka import KafkaLog
from tests.brokers import Kafka
from tests.conftest import log_on
from tests.dataset.streams import Reading, annotated, decode, key
from tests.dataset.test_sources import (  # noqa: F401  (collected here, on the fixtures of this module)
    SIZE,
    test_a_change_of_the_number_of_shares_loses_and_repeats_nothing,
    test_a_reader_can_be_restored_after_every_item_and_twice_in_a_row,
    test_a_restored_reader_goes_on_where_the_first_would_have,
    test_a_source_is_configuration_that_can_be_pickled,
    test_a_state_taken_later_serves_an_earlier_position,
    test_every_item_covers_a_stretch_that_begins_where_the_last_one_ended,
    test_everything_is_read_once,
    test_restoring_goes_back_as_well_as_on,
    test_shares_together_read_everything_once,
    test_what_was_polled_and_not_consumed_comes_again,
)

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def log(kafka_broker: Kafka) -> KafkaLog:
    """24 samples over two partitions; markers of transactions, also of aborted ones, leave gaps."""
    log = log_on(kafka_broker, partitions=2)
    writer = log.writer("annotator")
    for number in range(0, SIZE, 3):
        keys = [key(number), key(number + 1)]
        writer.commit([annotated(number % 2, keys, float(number)), annotated(number % 2, [])])
        writer.skip(SAMPLES, number % 2, 3)
        writer.commit([annotated(number % 2, [key(number + 2)], number + 0.5)])
    writer.close()
    return log


@pytest.fixture
def source(log: KafkaLog) -> Source:
    return LiveSource(log, decode=decode)


@pytest.fixture
def counted(source: Source) -> Source:
    return source


def archived(log: KafkaLog, folder: Path) -> DirectoryStore:
    store = DirectoryStore(folder)
    for partition in range(2):
        lane = ArchiveLane(store, log.reader(), SAMPLES, partition, ArchiverSettings(max_count=5))
        while lane.advance():
            pass
        lane.rotate(Rotation.SHUTDOWN)
    return store


def until_read(reading: Reading, count: int) -> list[str]:
    found: list[str] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += reading.read(count - len(found))
    return found


def test_below_the_logs_start_the_archive_goes_on_at_the_same_offsets(kafka_broker: Kafka, tmp_path: Path) -> None:
    log = log_on(kafka_broker, partitions=2)
    writer = log.writer("annotator")
    for number in range(20):
        writer.commit([annotated(number % 2, [key(number)], float(number))])
    store = archived(log, tmp_path)
    whole = until_read(Reading(LiveSource(log, decode=decode)), 20)
    for partition, before in ((0, 7), (1, 12)):
        writer.trim(SAMPLES, partition, before)
    reading = Reading(LiveSource(log, decode=decode, archive=store))
    assert sorted(until_read(reading, 20)) == sorted(whole)
    assert reading.reader.stats().jumped == 0
    history = Reading(HistorySource(store, follows=None, partitions=2, decode=decode))
    assert set(history.read(20)) <= set(whole)
    with closing(log.reader()) as reader:
        for partition in range(2):
            start = reader.bounds(SAMPLES, partition).start
            logged = {record.offset for record in reader.fetch(SAMPLES, partition, start).records}
            shelved = {position.offset for position, _ in ShardChain(store, SAMPLES, partition).samples()}
            assert len(shelved) == 10
            assert {offset for offset in shelved if offset >= start} == logged


def test_a_late_reader_jumps_forward_and_says_so(log: KafkaLog) -> None:
    reading = Reading(LiveSource(log, decode=decode, max_lag=10))
    found = until_read(reading, 2)
    assert len(found) > 0
    assert reading.reader.stats().jumped > 0


def test_news_reach_a_reader_that_waits(kafka_broker: Kafka) -> None:
    log = log_on(kafka_broker, partitions=2)
    reading = Reading(LiveSource(log, decode=decode))
    assert reading.read(1) == []
    writer = log.writer("annotator")
    for number in range(5):
        writer.commit([annotated(number % 2, [key(number)], float(number))])
        assert until_read(reading, 1) == [key(number)]
    writer.close()
