"""`stovetop up` on Apache Kafka, from a visitor's click to the weights that are served."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Kafka
from tests.system.conftest import MakeService
from tests.system.crowd import Crowd
from tests.system.service import Service, on_kafka
from tests.system.serving import Server
from tests.system.test_kill import Trial, balance
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.kafka]
ACKED = 60


@pytest.fixture
def service(make_service: MakeService, kafka_broker: Kafka) -> Iterator[Service]:
    quick = {"STOVETOP_LOG__KAFKA__LEASE_SECONDS": "1", "STOVETOP_LOG__KAFKA__SESSION_SECONDS": "2"}
    service = make_service(on_kafka(kafka_broker.servers, "whole") | quick)
    yield service
    service.close()


@pytest.mark.timeout(400)
def test_every_step_is_annotated_archived_trained_and_served(service: Service, tmp_path: Path) -> None:
    trial = Trial(service, random.Random())
    service.up()
    doors = service.doors
    follower = (Path(doors.hub), doors.channel, doors.public_key, tmp_path / "cache", service.root / "base")
    until(lambda: service.at_work("gateway"), "the gateway has its shares")
    with Server(*follower) as server, Crowd(doors.gateway, service.token, 2, 7) as crowd:
        until(lambda: crowd.acked >= ACKED, "the visitors get on")
        crowd.__exit__(None, None, None)
        crowd.all_is_well()
        trial.settle(crowd)
        until(lambda: server.version == service.hub.numbers()[-1], "the newest version is served")
    balance(service, crowd, server)
