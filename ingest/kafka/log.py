"""Where a log lives, as configuration that can be pickled into any process."""

from __future__ import annotations

from contextlib import closing

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from ingest.errors import LogUnavailable
from ingest.kafka.claims import KafkaClaims
from ingest.kafka.layout import KafkaLayout
from ingest.kafka.membership import Membership
from ingest.kafka.patience import patiently
from ingest.kafka.reader import KafkaReader
from ingest.kafka.state import HIDDEN, StateReader
from ingest.kafka.topics import provide_topics
from ingest.kafka.writer import KafkaWriter
from ingest.kafka_options import KafkaOptions

_provided: list[KafkaLog] = []
"""Logs whose topics this process has found right; they are looked at once."""


class KafkaLog(msgspec.Struct, frozen=True):
    """Implements `ingest.log.Log` on the brokers at `servers` (`host:port`, several with commas between them)."""

    servers: str
    layout: KafkaLayout = msgspec.field(default_factory=KafkaLayout)
    options: KafkaOptions = msgspec.field(default_factory=KafkaOptions)

    @property
    def shares(self) -> int:
        """See `Log.shares`."""
        return self.layout.shares

    def partitions_of(self, share: int) -> tuple[int, ...]:
        """See `Log.partitions_of`."""
        return self.layout.partitions_of(share)

    def provide(self) -> None:
        """Make the topics that are missing, and check those that are there; opening a reader or a writer does it."""
        if self not in _provided:
            provide_topics(self.servers, self.layout, self.options)
            _provided.append(self)

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> KafkaWriter:
        """See `Log.writer`. Waits up to a lease for a writer that has died; `force` replaces one that has not."""
        self.layout.topics(name)
        self.provide()
        return KafkaWriter(self.servers, self.layout, self.options, name, share, force=force)

    def reader(self) -> KafkaReader:
        """Open a reader. Raises `LogUnavailable` where that could not be done for `patience_seconds`."""

        def open_now() -> KafkaReader:
            self.provide()
            return KafkaReader(self.servers, self.layout, self.options)

        return patiently(open_now, LogUnavailable, self.options.patience_seconds)

    def claims(self) -> KafkaClaims:
        """Open what decides for stores of shards that cannot (see `ingest.claims`)."""
        return KafkaClaims(self.servers, self.layout, self.options)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        """See `Log.writer_state`: that of all shares."""
        self.layout.topics(name)
        self.provide()
        found: dict[str, bytes] = {}
        for share in range(self.layout.shares_of(name)):
            where = TopicPartition(self.layout.state_topic(name), share)
            try:
                with closing(StateReader(self.servers, self.options, where)) as reader:
                    found |= reader.load(settled=False)
            except KafkaError as error:
                raise LogUnavailable(f"{self.servers}: {where.topic} cannot be read ({error!r})") from error
        return {key: value for key, value in found.items() if key.startswith(prefix) and not key.startswith(HIDDEN)}

    def join(self, name: str, address: str = "") -> Membership:
        """Become one of those who divide the work of `name` among themselves; see `Membership`."""
        self.provide()
        return Membership(self.servers, self.layout, self.options, name, address)
