"""A writer's state as the log holds it: the last record of each key of its share's partition."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from ingest.errors import LogUnavailable
from ingest.kafka import compat
from ingest.kafka.offsets import Offsets
from ingest.kafka_options import KafkaOptions

HIDDEN = "\0"
"""Begins the keys that are the writer's own."""
LEASE = HIDDEN + "lease"
NUMBER = HIDDEN + "commit"


class Lease(msgspec.Struct, frozen=True):
    """Who writes a share, for people and for those who wait for its death."""

    token: str
    owner: str
    seconds: float


_leases = msgspec.json.Decoder(Lease)


class Sight(msgspec.Struct, frozen=True):
    """A share, looked at from outside: `commits` so far, and up to the offset `latest` perhaps one that is `undecided`."""

    latest: int
    commits: int
    lease: Lease | None
    undecided: bool


class StateReader:
    """Reads one share's partition of a writer's state, over a connection of its own."""

    def __init__(self, servers: str, options: KafkaOptions, where: TopicPartition) -> None:
        self._where, self._servers = where, servers
        self._timeout = int(options.request_seconds * 1000)
        settings: dict[str, Any] = {
            **options.connection(),
            "bootstrap_servers": servers,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "allow_auto_create_topics": False,
            "max_partition_fetch_bytes": options.fetch_bytes,
            "metrics_enabled": False,
        }
        self._offsets = Offsets(servers, options)
        try:
            self._consumer = compat.new_consumer(**settings, isolation_level="read_committed")
        except KafkaError as error:
            self._offsets.close()
            raise LogUnavailable(f"no broker answers at {servers} ({error!r})") from error

    def latest(self) -> int:
        """The offset after the last record, committed or not: it grows while somebody writes."""
        return self._offsets.latest(self._where)

    def look(self) -> Sight:
        """Who writes, as far as it can be seen: a commit that was answered is `undecided` for a while."""
        latest = self.latest()
        end = self._offsets.end(self._where)
        state = self._read(end)
        return Sight(latest, int(state.get(NUMBER, b"0")), lease_of(state), end < latest)

    def load(self, *, settled: bool) -> dict[str, bytes]:
        """All keys, the hidden ones too. `settled` waits for every transaction that has begun, else for none."""
        return self._read(self.latest() if settled else self._offsets.end(self._where))

    def _read(self, end: int) -> dict[str, bytes]:
        self._consumer.assign([self._where])
        self._consumer.seek_to_beginning(self._where)
        found: dict[str, bytes] = {}
        deadline = time.monotonic() + self._timeout / 1000
        while int(self._consumer.position(self._where, timeout_ms=self._timeout)) < end:
            for record in self._consumer.poll(timeout_ms=100).get(self._where, ()):
                deadline = time.monotonic() + self._timeout / 1000
                if record.value is None:
                    found.pop(record.key.decode(), None)
                else:
                    found[record.key.decode()] = record.value
            if time.monotonic() > deadline:
                raise LogUnavailable(f"{self._servers}: {self._where} was not read to its end at {end} in time")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)
        self._offsets.close()


def lease_of(state: Mapping[str, bytes]) -> Lease | None:
    """The lease in a state; None when nobody writes."""
    stored = state.get(LEASE)
    return None if stored is None else _leases.decode(stored)
