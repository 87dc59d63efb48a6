"""The one writer of a share: transactions over its partitions' records and its state."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
)

from ingest.errors import LogError, LogForked, LogLocked, LogUnavailable
from ingest.kafka import compat
from ingest.kafka.layout import KafkaLayout
from ingest.kafka.offsets import Offsets
from ingest.kafka.state import HIDDEN, LEASE, NUMBER, Lease, StateReader, lease_of
from ingest.kafka.topics import too_large
from ingest.kafka_options import KafkaOptions
from ingest.log import Append

RECORD_OVERHEAD = 200
"""Bytes of a record beside its key and value, and of its batch; more than there ever are."""
LARGEST_REQUEST = 96 << 20
"""Bytes; brokers take 100 MiB unless told otherwise (socket.request.max.bytes)."""
BATCHES = 4
"""The largest batches that a request to a broker holds at most: those of several partitions, and of the state."""
SUSPICIOUS = 0.5
"""Seconds after which the end of a transaction is looked into."""
BEATS = 4
"""Signs of life within a lease."""

logger = logging.getLogger(__name__)


class KafkaWriter:
    """Implements `ingest.log.LogWriter` for the partitions of one share. Use from one thread at a time.

    Opening waits for a writer before to close or to be silent for its lease, unless `force` is given; that one's
    commits fail with `LogLocked` from then on.
    """

    def __init__(
        self,
        servers: str,
        layout: KafkaLayout,
        options: KafkaOptions,
        name: str,
        share: int = 0,
        *,
        force: bool = False,
    ) -> None:
        compat.check_library()
        self._servers, self._layout, self._options = servers, layout, options
        self._name, self._share, self._topics = name, share, layout.topics(name)
        shares = layout.shares_of(name)
        if not 0 <= share < shares:
            raise LogError(f"{name} has the shares 0 to {shares - 1}, but {share} was asked for")
        self._partitions = tuple(range(share, layout.partitions, shares))
        self._place = TopicPartition(layout.state_topic(name), share)
        self._id = layout.transactional_id(name, share)
        self._pid = os.getpid()
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._producer: Any = None
        self._offsets: Offsets | None = None
        self._lost: str | None = None
        self._state: dict[str, bytes] = {}
        self._number = 0
        self._last_commit = 0.0
        if not force:
            self._await_lease()
        self._connect()
        try:
            self._commit((), {LEASE: self._lease()})
        except BaseException:
            compat.drop(self._producer)
            raise
        pause = options.lease_seconds / BEATS
        arguments = (weakref.ref(self), self._closing, pause)
        threading.Thread(target=_beat, args=arguments, name=f"lease of {self._id}", daemon=True).start()

    @property
    def max_record_bytes(self) -> int:
        """The largest value of a record."""
        return self._options.max_record_bytes - RECORD_OVERHEAD - 64

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        """See `LogWriter.commit`.

        Raises `LogUnavailable` when no broker answered for `patience_seconds`: what became of the commit is known only
        after `recover`. Raises `LogLocked` when another writer has taken the share over; nothing was written then.
        """
        self._check_usable()
        for append in appends:
            self._check(append)
        with self._lock:
            if self._producer is None:
                raise LogUnavailable(f"{self._servers}: {self._id} is cut off; recover first")
            return self._commit(appends, state or {})

    def recover(self) -> None:
        """Connect anew after `LogUnavailable`; `state` then tells what the log holds, the last commit or not."""
        self._check_usable()
        with self._lock:
            if self._producer is None:
                self._make_way()
                self._connect()
                self._check_lease()

    def state(self, prefix: str = "") -> dict[str, bytes]:
        """See `LogWriter.state`."""
        self._check_usable()
        return {
            key: value for key, value in self._state.items() if key.startswith(prefix) and not key.startswith(HIDDEN)
        }

    def trim(self, topic: str, partition: int, before: int) -> int:
        """See `LogWriter.trim`; gives the number of offsets that went, gaps among them."""
        self._check_usable()
        self._check_owned(topic, partition)
        where = TopicPartition(self._layout.topic(topic), partition)
        try:
            if self._offsets is None:
                self._offsets = Offsets(self._servers, self._options)
            start = self._offsets.start(where)
            before = min(before, self._offsets.end(where))
            if before <= start:
                return 0
            self._offsets.forget(where, before)
        except KafkaError as error:
            raise LogUnavailable(f"{where.topic}/{partition} cannot be trimmed now ({error!r})") from error
        return before - start

    def skip(self, topic: str, partition: int, count: int) -> None:
        """Leave a gap of `count` offsets (at least 2) by a transaction that is aborted. For tests of readers."""
        self._check_usable()
        with self._lock:
            self._producer.begin_transaction()
            sent = [
                self._producer.send(self._layout.topic(topic), b"aborted", b"", partition=partition)
                for _ in range(max(1, count - 1))
            ]
            for future in sent:
                future.get(self._options.request_seconds)
            compat.end_transaction(self._producer, self._options.request_seconds, commit=False)

    def tidy(self) -> None:
        """See `LogWriter.tidy`: the brokers do it. Raises `LogLocked` once a sign of life was refused."""
        self._check_usable()

    def close(self) -> None:
        """Give the share back and let the next writer in. A second call does nothing."""
        if os.getpid() != self._pid or self._closing.is_set():
            return
        self._closing.set()
        with self._lock:
            if self._producer is not None and self._lost is None:
                with suppress(LogError):
                    self._commit((), {LEASE: None})
            self._let_go()
            self._lost = "this writer is closed; open another one"
        if self._offsets is not None:
            with suppress(KafkaError):
                self._offsets.close()

    def _commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None]) -> list[int]:
        """One transaction, tried until `patience_seconds` are over; called with the lock held."""
        number = self._number + 1
        numbered = {**state, NUMBER: b"%d" % number}
        deadline = time.monotonic() + self._options.patience_seconds
        while True:
            offsets: list[int] = []
            try:
                committed = self._attempt(appends, numbered, offsets, deadline)
            except (ProducerFencedError, InvalidProducerEpochError) as error:
                raise self._taken() from error
            except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
                self._let_go()
                self._connect()
                raise LogError(f"{self._id}: a broker refuses a record for its size; nothing was written") from error
            except KafkaError as error:
                logger.warning("%s: a commit failed (%r); it is looked into", self._id, error)
                committed = False
            if not committed:
                committed = self._look_into(number, deadline)
            if committed:
                self._number, self._last_commit = number, time.monotonic()
                for key, value in numbered.items():
                    if value is None:
                        self._state.pop(key, None)
                    else:
                        self._state[key] = value
                return offsets

    def _attempt(
        self, appends: Sequence[Append], state: Mapping[str, bytes | None], offsets: list[int], deadline: float
    ) -> bool:
        """Fills `offsets`; False when the outcome is not known."""
        producer = self._producer
        producer.begin_transaction()
        topics = {append.topic: self._layout.topic(append.topic) for append in appends}
        places = {TopicPartition(topics[append.topic], append.partition) for append in appends}
        compat.enlist(producer, [self._place, *places])
        told = [
            producer.send(self._place.topic, value, key.encode(), None, self._share) for key, value in state.items()
        ]  # first, so that it goes along with the first records
        sent: list[Any] = []
        flying = landed = 0
        for append in appends:
            milliseconds = round(append.time * 1000)
            topic = topics[append.topic]
            headers = None if append.traceparent is None else [("traceparent", append.traceparent.encode())]
            sent.append(
                producer.send(topic, append.value, append.key.encode(), headers, append.partition, milliseconds)
            )
            flying += len(append.value)
            while flying > self._options.inflight_bytes and landed < len(sent) - 1:
                offsets.append(_landed(sent[landed], deadline))
                flying -= len(appends[landed].value)
                landed += 1
        offsets += [_landed(future, deadline) for future in sent[landed:]]
        for future in told:
            _landed(future, deadline)
        ending = time.monotonic()
        if not compat.end_transaction(producer, max(0.05, deadline - ending), commit=True):
            return False
        if time.monotonic() - ending > SUSPICIOUS:
            with suppress(KafkaError, LogError):  # the commit stands; whoever opens the share next looks again
                self._mend(begun=False)  # the coordinator may have died meanwhile, and come back with less than it knew
        return True

    def _look_into(self, number: int, deadline: float) -> bool:
        """Connect anew and see whether the commit `number` is there. Raises `LogUnavailable` after the deadline."""
        self._let_go()
        while True:
            try:
                self._connect()
            except LogUnavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
                continue
            if number > 1 or LEASE in self._state:  # else it is the very first one, which writes the lease
                self._check_lease(absent=number)
            return self._number == number

    def _connect(self) -> None:
        """A producer that owns the transactional id, and the state that the log has. Raises `LogUnavailable`."""
        options = self._options
        patience = int(options.patience_seconds * 1000)
        producer = reader = None
        try:
            producer = compat.new_producer(
                **options.connection()
                | {
                    "bootstrap_servers": self._servers,
                    "transactional_id": self._id,
                    "enable_idempotence": True,
                    "acks": "all",
                    "batch_size": options.largest_batch,
                    "linger_ms": int(options.linger * 1000),
                    "max_request_size": min(BATCHES * options.max_record_bytes, LARGEST_REQUEST),
                    "compression_type": options.compression,
                    "transaction_timeout_ms": int(options.transaction_seconds * 1000),
                    "request_timeout_ms": patience,
                    "delivery_timeout_ms": patience + 100,
                    "max_block_ms": patience,
                    "allow_auto_create_topics": False,
                    "metrics_enabled": False,
                }
            )
            self._mend(begun=False)
            producer.init_transactions()
            self._mend(begun=True)
            reader = StateReader(self._servers, options, self._place)
            self._state = reader.load(settled=True)
        except (KafkaError, LogUnavailable) as error:
            if producer is not None:
                compat.drop(producer)
            if isinstance(error, LogUnavailable):
                raise
            raise LogUnavailable(f"{self._servers}: {self._id} cannot be opened now ({error!r})") from error
        finally:
            if reader is not None:
                with suppress(KafkaError):
                    reader.close()
        self._producer = producer
        self._number = int(self._state.get(NUMBER, b"0"))

    def _mend(self, *, begun: bool) -> None:
        """See `mending`: of a broker that was killed, at the places that are written here."""
        places = [
            TopicPartition(self._layout.topic(topic), partition)
            for topic in self._topics
            for partition in self._partitions
        ]
        offsets = Offsets(self._servers, self._options)
        try:
            offsets.mend(self._id, [self._place, *places], begun=begun)
        finally:
            offsets.close()

    def _await_lease(self) -> None:
        """Return when nobody writes this share. Raises `LogLocked` as soon as somebody is seen to."""
        reader = StateReader(self._servers, self._options, self._place)
        try:
            first = now = reader.look()
            silence = self._options.lease_seconds if first.lease is None else first.lease.seconds
            deadline = time.monotonic() + silence
            while now.undecided or now.lease is not None:
                if now.latest > first.latest and (now.undecided or now.commits > first.commits):
                    owner = "another writer" if now.lease is None else now.lease.owner
                    raise LogLocked(f"{self._id} is being written by {owner}; stop that one first")
                if time.monotonic() >= deadline:
                    return
                time.sleep(min(0.05, silence / 20))
                if now.undecided or reader.latest() > now.latest:
                    now = reader.look()
        except KafkaError as error:
            raise LogUnavailable(f"{self._servers}: {self._id} cannot be looked at ({error!r})") from error
        finally:
            reader.close()

    def _make_way(self) -> None:
        """Raise `LogLocked` where another writer has the share by now: connecting would fence it, for nothing."""
        reader = StateReader(self._servers, self._options, self._place)
        try:
            lease = reader.look().lease
        except KafkaError as error:
            raise LogUnavailable(f"{self._servers}: {self._id} cannot be looked at ({error!r})") from error
        finally:
            reader.close()
        if lease is not None and lease.token != self._token:
            raise self._taken()

    def _check_lease(self, absent: int | None = None) -> None:
        lease = lease_of(self._state)
        if lease is not None and lease.token == self._token:
            return
        if lease is None and absent is not None and absent == self._number and self._closing.is_set():
            return  # it was the closing commit
        raise self._taken()

    def _taken(self) -> LogLocked:
        self._let_go()
        self._lost = f"{self._id} was taken over by another writer; nothing more can be committed here"
        return LogLocked(self._lost)

    def _let_go(self) -> None:
        if self._producer is not None:
            compat.drop(self._producer)
            self._producer = None

    def beat(self, pause: float) -> bool:
        """Give a sign of life if nothing was committed lately; False when there is no more need to."""
        with self._lock:
            if self._closing.is_set() or self._lost is not None:
                return False
            if self._producer is not None and time.monotonic() - self._last_commit >= pause / 2:
                try:
                    self._commit((), {LEASE: self._lease()})
                except LogError as error:
                    logger.warning("%s", error)
            return True

    def _lease(self) -> bytes:
        owner = f"process {os.getpid()} of {socket.gethostname()}"
        return msgspec.json.encode(Lease(self._token, owner, self._options.lease_seconds))

    def _check(self, append: Append) -> None:
        self._check_owned(append.topic, append.partition)
        if not isinstance(append.value, bytes):
            raise LogError(f"{append.topic}: a value is bytes, not {type(append.value).__name__}")
        if len(append.value) + len(append.key) > self.max_record_bytes:
            raise too_large(append.topic, len(append.value), self.max_record_bytes)

    def _check_owned(self, topic: str, partition: int) -> None:
        if topic not in self._topics:
            raise LogError(f"the writer {self._name!r} owns {', '.join(self._topics)}, not {topic!r}")
        self._layout.check(topic, partition)
        if partition not in self._partitions:
            raise LogError(
                f"{topic}/{partition} belongs to share {self._layout.share_of(self._name, partition)} of {self._name}, "
                f"and this is the writer of share {self._share}"
            )

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise LogForked(f"{self._id}: opened by process {self._pid}, used by {os.getpid()}; open it after the fork")
        if self._lost is not None:
            raise LogLocked(self._lost)


def _beat(owner: weakref.ref[KafkaWriter], closing: threading.Event, pause: float) -> None:
    """Signs of life while nothing is committed; a writer that was replaced learns of it here at the latest."""
    while not closing.wait(pause):
        writer = owner()
        if writer is None or not writer.beat(pause):
            return
        del writer


def _landed(future: Any, deadline: float) -> int:
    return int(future.get(max(0.05, deadline - time.monotonic())).offset)
