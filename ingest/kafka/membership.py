"""Who does which part of the work: a consumer group, used for nothing but that.

The brokers deal the parts out evenly, and anew when a member comes, leaves, or was silent for `session_seconds`. What
is dealt out is advice: the lock of a share is its writer's transactional id, and of a shard its name. So two members
that believe in the same part for a moment cost time, never a record.

A member therefore keeps its parts until the brokers deal them to somebody else. While no broker answers nobody can take
them; and one that was put out of the group for its silence joins again, and mostly is dealt the same as before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import MemberState

from ingest.errors import LogUnavailable
from ingest.kafka import compat
from ingest.kafka.layout import KafkaLayout
from ingest.kafka.topics import open_admin
from ingest.kafka_options import KafkaOptions

POLL_MILLISECONDS = 100
"""Between two looks at the group; a consumer without records looks anew after each `retry_backoff_ms`."""
ADDRESSES_FOR = 2.0
"""Seconds for which the members' addresses are believed."""

logger = logging.getLogger(__name__)


class Membership:
    """A member of the group `{prefix}.{name}`; `name` is a writer's, or `archiver`.

    The parts are a writer's shares; an archiver's are the partitions. A thread keeps the membership alive;
    `mine` may be asked from any thread. `release(parts)` is called from that thread before parts go to others, and
    may take its time within reason. `address` is what the others are told of this member.
    """

    def __init__(
        self,
        servers: str,
        layout: KafkaLayout,
        options: KafkaOptions,
        name: str,
        address: str = "",
        release: Callable[[frozenset[int]], None] = lambda parts: None,
    ) -> None:
        compat.check_library()
        self.group = f"{layout.prefix}.{name}"
        writers = set(layout.owners.values())
        self._topic = layout.state_topic(name) if name in writers else layout.topic(next(iter(layout.owners)))
        self._servers, self._options = servers, options
        self.release = release
        self._address = address
        self._mine: frozenset[int] = frozenset()
        self.heeds = False
        """Whether what is taken from the present consumer is given up: not when it is only replaced by another."""
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._addresses: dict[int, str] = {}
        self._asked = 0.0
        self._admin: Any = None
        self._asking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"member of {self.group}", daemon=True)
        self._thread.start()

    @property
    def alone(self) -> bool:
        """See `Sharing.alone`."""
        return False

    @property
    def mine(self) -> frozenset[int]:
        """The parts that are this member's now."""
        return self._mine

    def wait(self, timeout: float) -> bool:
        """Until the parts change, at most `timeout` seconds; whether they did."""
        changed = self._changed.wait(timeout)
        self._changed.clear()
        return changed

    def address_of(self, part: int) -> str | None:
        """The address of the member that a part belongs to; None where nobody has it, or it did not tell."""
        with self._asking:
            if time.monotonic() - self._asked > ADDRESSES_FOR:
                self._asked = time.monotonic()
                try:
                    self._addresses = self._ask()
                except (KafkaError, LogUnavailable) as error:
                    logger.debug("%s cannot be asked: %r", self.group, error)
        return self._addresses.get(part)

    def close(self) -> None:
        """Leave, which gives the parts to the others at once."""
        self._stop.set()
        self._thread.join(self._options.session_seconds + 5.0)
        if self._admin is not None:
            with suppress(KafkaError):
                self._admin.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            consumer: Any = None
            try:
                consumer = self._join()
                self.heeds = True
                while not self._stop.is_set():
                    consumer.poll(timeout_ms=POLL_MILLISECONDS)
                    state = consumer.group_metadata().state
                    if state is MemberState.STABLE:
                        self._take(frozenset(where.partition for where in consumer.assignment()))
                    elif state is MemberState.REBALANCING:
                        compat.insist_on_joining(consumer)
            except KafkaError as error:
                logger.warning("%s: the group cannot be reached (%r); joining again", self.group, error)
                self._stop.wait(0.5)
            except Exception:
                logger.exception("%s: the membership met a bug; joining again", self.group)
                self._stop.wait(0.5)
            finally:
                self.heeds = False
                if self._stop.is_set():
                    self._take(frozenset())
                if consumer is not None:
                    with suppress(KafkaError):
                        consumer.close(autocommit=False, timeout_ms=2_000)

    def _join(self) -> Any:
        session = int(self._options.session_seconds * 1000)
        told = self._options.connection()
        if self._address:
            told["client_id"] = self._address
        consumer = compat.new_consumer(
            **told
            | {
                "bootstrap_servers": self._servers,
                "group_id": self.group,
                "enable_auto_commit": False,
                "auto_offset_reset": "latest",
                "session_timeout_ms": session,
                "heartbeat_interval_ms": max(50, session // 5),
                "max_poll_interval_ms": max(60_000, session),
                "request_timeout_ms": max(int(self._options.request_seconds * 1000), 1_000),
                "retry_backoff_ms": POLL_MILLISECONDS,
                "partition_assignment_strategy": (CooperativeStickyAssignor,),
                "metrics_enabled": False,
                "allow_auto_create_topics": False,
            }
        )
        consumer.subscribe([self._topic], listener=_Listener(self, consumer))
        return consumer

    def _take(self, parts: frozenset[int]) -> None:
        if parts == self._mine:
            return
        gone, self._mine = self._mine - parts, parts
        if gone:
            self.release(gone)
        self._changed.set()

    def give(self, parts: frozenset[int]) -> None:
        """Parts go to others."""
        if self.heeds:
            self._take(self._mine - parts)

    def _ask(self) -> dict[int, str]:
        if self._admin is None:
            self._admin = open_admin(self._servers, self._options)
        described: Mapping[str, Any] = self._admin.describe_groups([self.group])[self.group]
        found: dict[int, str] = {}
        for member in described["members"]:
            assigned = member["member_assignment"]
            if not isinstance(assigned, Mapping):
                continue
            for topic in assigned["assigned_partitions"]:
                found |= dict.fromkeys(topic["partitions"], str(member["client_id"]))
        return found


class _Listener(ConsumerRebalanceListener):
    def __init__(self, membership: Membership, consumer: Any) -> None:
        self._membership, self._consumer = membership, consumer

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        if assigned:
            self._consumer.pause(*assigned)  # nothing is ever fetched here

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self._membership.give(frozenset(where.partition for where in revoked))

    def on_partitions_lost(self, lost: list[TopicPartition]) -> None:
        """The member was silent for too long, which tells nothing of who has the parts now: joining again will."""
