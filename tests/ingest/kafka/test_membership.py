"""A member of a group keeps trying to be one."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.kafka import Membership, compat, membership
from tests.brokers import Kafka
from tests.conftest import log_on
from tests.waiting import until

pytestmark = pytest.mark.kafka


def test_a_consumer_that_finds_no_way_into_the_group_is_replaced(
    kafka_broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one asks nobody, as a library's does that waits for an answer that never comes."""
    made: list[Any] = []
    new_consumer = compat.new_consumer

    def first_is_deaf(**settings: Any) -> Any:
        made.append(new_consumer(**settings))
        if len(made) == 1:
            made[0].poll = lambda timeout_ms: membership.time.sleep(timeout_ms / 1000)
        return made[-1]

    monkeypatch.setattr(compat, "new_consumer", first_is_deaf)
    monkeypatch.setattr(membership, "OUTSIDE_SECONDS", 0.5)
    log = log_on(kafka_broker, partitions=2, shares=2)
    log.provide()
    member = Membership(log.servers, log.layout, log.options, "gateway")
    try:
        until(lambda: member.mine == {0, 1}, "the second consumer is in the group")
    finally:
        member.close()
    assert len(made) == 2
