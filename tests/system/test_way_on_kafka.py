"""The way of one click on Apache Kafka: a broker that is killed turns the log red, until it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control.way import LinkName
from tests.brokers import Kafka, kafka_home
from tests.system.conftest import MakeService
from tests.system.crowd import one_visit
from tests.system.service import on_kafka
from tests.system.test_way import Trial, flowing

pytestmark = [pytest.mark.system, pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker to be killed."""
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no Java")
    started = Kafka(tmp_path / "kafka")
    started.start()
    try:
        yield started
    finally:
        started.kill()


@pytest.fixture
def trial(make_service: MakeService, broker: Kafka) -> Iterator[Trial]:
    service = make_service(on_kafka(broker.servers, "way") | {"STOVETOP_FOLLOW__FOLLOWER": "window"})
    with flowing(service) as made:
        yield made


def test_a_killed_broker_turns_the_log_red_with_what_to_do_and_green_when_it_is_back(
    trial: Trial, broker: Kafka, record_property: Callable[[str, object], None]
) -> None:
    doors, token = trial.service.doors, trial.service.token
    one_visit(doors.gateway, token, seed=1)
    broker.kill()
    trial.turns_red("broker", record_property, "killed")
    found = trial.way()[LinkName.LOG]
    assert f"Start the brokers at {broker.servers} again; nothing that was acknowledged is lost" in found.advice
    assert found.problem
    broker.start()
    trial.all_green()
    one_visit(doors.gateway, token, seed=2)  # it takes what visitors do, and goes on
    trial.all_green()
