"""Where partitions begin and end, asked over a connection of its own: a fetch that waits for news would hold it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import UnknownBrokerIdError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec

from ingest.kafka.mending import mend
from ingest.kafka.patience import patiently
from ingest.kafka.topics import open_admin
from ingest.kafka_options import KafkaOptions


class Offsets:
    """Asks the brokers. What raises, raises kafka-python's errors; opening raises `LogUnavailable`."""

    def __init__(self, servers: str, options: KafkaOptions) -> None:
        self._timeout = int(options.request_seconds * 1000)
        self._patience = options.patience_seconds
        self._admin = open_admin(servers, options)

    def start(self, where: TopicPartition) -> int:
        """The first offset that is retained."""
        return self._ask(where, OffsetSpec.EARLIEST, IsolationLevel.READ_COMMITTED)

    def end(self, where: TopicPartition) -> int:
        """The offset up to which every transaction was committed or aborted."""
        return self._ask(where, OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED)

    def latest(self, where: TopicPartition) -> int:
        """The offset after the last record, also one whose transaction is not complete."""
        return self._ask(where, OffsetSpec.LATEST, IsolationLevel.READ_UNCOMMITTED)

    def forget(self, where: TopicPartition, before: int) -> None:
        """Delete what lies below an offset."""
        self._admin.delete_records({where: before}, timeout_ms=self._timeout)

    def mend(self, transactional_id: str, places: Sequence[TopicPartition], *, begun: bool) -> int:
        """End what a broker forgot to end; see `mending`."""
        return mend(self._admin, transactional_id, places, begun=begun)

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def _ask(self, where: TopicPartition, spec: Any, isolation: Any) -> int:
        def ask() -> int:
            found = self._admin.list_partition_offsets({where: spec}, isolation, timeout_ms=self._timeout)
            return int(found[where].offset)

        return patiently(ask, UnknownBrokerIdError, self._patience)  # the partition has no leader yet: broker -1
