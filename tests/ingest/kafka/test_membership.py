"""A member of a group gets into it, however short its looks at it are."""

from __future__ import annotations

import pytest

from ingest.kafka import Membership, membership
from tests.brokers import Kafka
from tests.conftest import log_on
from tests.waiting import until

pytestmark = pytest.mark.kafka


def test_a_join_that_outlasts_a_look_at_the_group_is_not_forgotten(
    kafka_broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member joins before it has heard of its topic, and once more when it has."""
    monkeypatch.setattr(membership, "POLL_MILLISECONDS", 2)
    for _ in range(5):
        log = log_on(kafka_broker, partitions=2, shares=2)
        log.provide()
        member = Membership(log.servers, log.layout, log.options, "gateway")
        try:
            until(lambda: member.mine == {0, 1}, "the member has its parts", seconds=30)  # noqa: B023
        finally:
            member.close()
