"""Claims in a topic of their own: the first record of a name, in the order of its one partition, stands."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from ingest.errors import LogUnavailable
from ingest.kafka import compat
from ingest.kafka.layout import KafkaLayout
from ingest.kafka.topics import open_admin
from ingest.kafka_options import KafkaOptions

TOPIC = "claims"


class KafkaClaims:
    """Implements `ingest.claims.Claims`. A record a claim, some 100 bytes, kept for ever."""

    def __init__(self, servers: str, layout: KafkaLayout, options: KafkaOptions) -> None:
        self._where = TopicPartition(layout.topic(TOPIC), 0)
        self._servers, self._seconds = servers, options.request_seconds
        self._standing: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._provide(options)
        try:
            self._producer = compat.new_producer(
                bootstrap_servers=servers, acks="all", enable_idempotence=True, **options.connection()
            )
            self._consumer = compat.new_consumer(
                bootstrap_servers=servers,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                **options.connection(),
            )
        except KafkaError as error:
            raise LogUnavailable(f"no broker answers at {servers} ({error!r})") from error
        self._consumer.assign([self._where])
        self._consumer.seek_to_beginning(self._where)

    def claim(self, name: str, value: bytes) -> bytes:
        """See `Claims.claim`. Raises `LogUnavailable` where no broker answers; then it may have been claimed or not."""
        with self._lock:
            if name not in self._standing:
                try:
                    sent = self._producer.send(self._where.topic, key=name.encode(), value=value, partition=0)
                    self._read_to(sent.get(self._seconds).offset)
                except KafkaError as error:
                    raise LogUnavailable(f"{self._servers}: {name} cannot be claimed ({error!r})") from error
            return self._standing[name]

    def close(self) -> None:
        """Close the connections."""
        compat.drop(self._producer)
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def _read_to(self, offset: int) -> None:
        deadline = time.monotonic() + self._seconds
        while int(self._consumer.position(self._where, timeout_ms=int(self._seconds * 1000))) <= offset:
            for record in self._consumer.poll(timeout_ms=100).get(self._where, ()):
                deadline = time.monotonic() + self._seconds
                self._standing.setdefault(record.key.decode(), record.value)
            if time.monotonic() > deadline:
                raise LogUnavailable(f"{self._servers}: {self._where.topic} was not read to offset {offset} in time")

    def _provide(self, options: KafkaOptions) -> None:
        admin: Any = open_admin(self._servers, options)
        settings = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
        if options.min_insync_replicas is not None:
            settings["min.insync.replicas"] = str(options.min_insync_replicas)
        replication = -1 if options.replication is None else options.replication
        try:
            if options.create_topics:
                with contextlib.suppress(TopicAlreadyExistsError):
                    admin.create_topics([NewTopic(self._where.topic, 1, replication, topic_configs=settings)])
                admin.wait_for_topics([self._where.topic], timeout_ms=int(options.request_seconds * 1000))
        except KafkaError as error:
            raise LogUnavailable(
                f"{self._servers}: the topic {self._where.topic} cannot be made ({error!r})"
            ) from error
        finally:
            admin.close()
