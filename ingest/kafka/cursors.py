"""One consumer and what it fetched ahead: for each partition the records that come next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from ingest.errors import LogUnavailable
from ingest.kafka import compat
from ingest.kafka_options import KafkaOptions
from ingest.log import Fetch, Record

AHEAD_BYTES = 8 << 20
"""Records that are held for one partition; with more, fetching pauses."""
POLL_RECORDS = 500


class _Place:
    """Where one partition stands: the offset that is taken next, and the records held from there on."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.records: deque[Any] = deque()
        self.size = 0
        self.paused = False


class Cursors:
    """Committed records only. What raises, raises kafka-python's errors; `reader` tells what they mean.

    A broker holds a fetch back for `linger` seconds while it has nothing new for any place; as long, a fetch of another
    place waits behind it. With `undecided`, records whose transactions are not complete count too, for who wants to know
    of `ends` alone.
    """

    def __init__(
        self, servers: str, options: KafkaOptions, fetch_bytes: int, *, linger: float = 0.1, undecided: bool = False
    ) -> None:
        compat.check_library()
        self._timeout = int(options.request_seconds * 1000)
        shared: dict[str, Any] = {
            **options.connection(),
            "bootstrap_servers": servers,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "allow_auto_create_topics": False,
            "check_crcs": True,
            "fetch_max_wait_ms": int(linger * 1000),
            "max_partition_fetch_bytes": fetch_bytes,
            "fetch_max_bytes": max(fetch_bytes, 32 << 20),
            "max_poll_records": POLL_RECORDS,
            "metrics_enabled": False,
            "request_timeout_ms": max(self._timeout, 1_000),
        }
        try:
            isolation = "read_uncommitted" if undecided else "read_committed"
            self._consumer = compat.new_consumer(**shared, isolation_level=isolation)
        except KafkaError as error:
            raise LogUnavailable(
                f"no broker answers at {servers} ({error!r}); is it up, and are the ports open?"
            ) from error
        self._places: dict[TopicPartition, _Place] = {}
        self._news = False

    def stands_at(self, where: TopicPartition, offset: int) -> bool:
        """Whether reading goes on there without a jump."""
        place = self._places.get(where)
        return place is not None and place.offset == offset

    def go_to(self, where: TopicPartition, offset: int) -> None:
        """Jump to an offset; what was fetched ahead of the place before is forgotten."""
        if where not in self._places:
            self._consumer.assign([*self._places, where])
        place = self._places.get(where)
        if place is not None and place.paused:
            self._consumer.resume(where)
        self._places[where] = _Place(offset)
        self._consumer.seek(where, offset)

    def holds(self, where: TopicPartition) -> bool:
        """Whether there is a record to take."""
        return bool(self._places[where].records)

    def position(self, where: TopicPartition) -> int:
        """The offset that is fetched next, past all gaps that were met."""
        return int(self._consumer.position(where, timeout_ms=self._timeout))

    def pump(self, timeout: float) -> Mapping[TopicPartition, int]:
        """Take in what has come, waiting for it up to `timeout` seconds; gives the places that were trimmed away."""
        if not self._places:
            time.sleep(min(timeout, 0.05))
            return {}
        try:
            batches = self._consumer.poll(timeout_ms=int(timeout * 1000))
        except OffsetOutOfRangeError as error:
            lost = dict(error.args[0]) if error.args and isinstance(error.args[0], dict) else {}
            for where in lost:
                self._places.pop(where, None)
            self._consumer.assign(list(self._places))
            self._news = True  # whoever waits has to learn of it
            return lost
        for where, records in batches.items():
            place = self._places.get(where)
            if place is None:
                continue
            self._news = True
            place.records.extend(records)
            place.size += sum(len(record.value or b"") for record in records)
            if place.size > AHEAD_BYTES and not place.paused:
                self._consumer.pause(where)
                place.paused = True
        return {}

    def take(self, where: TopicPartition, topic: str, max_bytes: int) -> Fetch:
        """The records held, up to `max_bytes`, and where to go on."""
        place = self._places.get(where)
        if place is None:
            return Fetch((), 0)
        taken: list[Record] = []
        size = 0
        while place.records:
            record = place.records[0]
            size += len(record.value or b"")
            if taken and size > max_bytes:
                place.offset = record.offset
                return Fetch(tuple(taken), place.offset)
            place.records.popleft()
            place.size -= len(record.value or b"")
            key = "" if record.key is None else record.key.decode()
            time_ = record.timestamp / 1000
            taken.append(Record(topic, where.partition, record.offset, key, record.value or b"", time_))
        place.offset = max(place.offset, self.position(where))
        if place.paused:
            self._consumer.resume(where)
            place.paused = False
        return Fetch(tuple(taken), place.offset)

    def ends(self, places: Sequence[TopicPartition], timeout: float) -> list[int]:
        """The offsets after the last records, in one request; by the isolation that was asked for."""
        found = self._consumer.end_offsets(list(places), timeout_ms=int(timeout * 1000))
        return [int(found[where]) for where in places]

    def take_news(self) -> bool:
        """Whether records came since the last call."""
        news, self._news = self._news, False
        return news

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    @staticmethod
    def tell(servers: str, options: KafkaOptions, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit a group's offsets without joining it."""
        timeout = int(options.request_seconds * 1000)
        consumer = compat.new_consumer(
            **options.connection(), bootstrap_servers=servers, group_id=group, enable_auto_commit=False
        )
        try:
            consumer.assign(list(offsets))
            wanted = {where: OffsetAndMetadata(offset, "", -1) for where, offset in offsets.items()}
            consumer.commit(wanted, timeout_ms=timeout)
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)
