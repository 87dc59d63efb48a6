"""Private parts of kafka-python 3.0 that cannot be avoided, and what it needs beside it.

`commit_transaction` and `abort_transaction` wait without a limit, and `close` waits for records that no broker will
ever take; a gateway that promises an answer cannot. tests/ingest/kafka/test_compat.py fails when these move.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any

import kafka
from kafka import TopicPartition
from kafka.admin import AbortTransactionSpec
from kafka.record import util as record_util

from ingest.errors import LogError


def check_library() -> None:
    """Refuse a kafka-python that computes checksums in pure Python; keep it from logging what people typed."""
    log = logging.getLogger("kafka")  # at DEBUG it writes the keys and values of all records
    log.setLevel(max(log.level, logging.WARNING))
    if getattr(record_util, "crc32c_c", None) is None:
        raise LogError(
            "kafka-python finds no crc32c package and would compute checksums in Python, 5 to 30 times slower: "
            "pip install crc32c"
        )


def enlist(producer: Any, places: Iterable[TopicPartition]) -> None:
    """Let a transaction that has begun have all its partitions from the first: `send` would announce one after the other,
    each in a request of its own.
    """
    for place in places:
        producer._transaction_manager.maybe_add_partition_to_transaction(place)


def end_transaction(producer: Any, seconds: float, *, commit: bool) -> bool:
    """Commit or abort within `seconds`; False when the broker did not answer, and the outcome is not known."""
    manager = producer._transaction_manager
    result = manager.begin_commit() if commit else manager.begin_abort()
    producer._sender.wakeup()
    return bool(result.wait(timeout_ms=seconds * 1000))


def drop(producer: Any) -> None:
    """Let go of a producer that is of no more use, without waiting for anything."""
    with contextlib.suppress(Exception):
        producer._unregister_cleanup()
        producer._closed = True
        producer._sender.force_close()


def write_marker(admin: Any, where: Any, producer: Any, *, committed: bool) -> None:
    """End a transaction at one place. As `abort_transaction`, which can only abort."""
    spec = AbortTransactionSpec(
        where, producer.producer_id, producer.producer_epoch, max(0, producer.coordinator_epoch)
    )
    request = admin._abort_transaction_request(spec)
    for marker in request.markers:
        marker.transaction_result = committed

    async def send() -> None:
        leader = next(iter(await admin._async_get_leader_for_partitions([where])))
        response = await admin._manager.send(request, node_id=leader)
        admin._abort_transaction_process_response(response, spec)

    admin._manager.run(send)


def new_producer(**settings: Any) -> Any:
    """A KafkaProducer."""
    return kafka.KafkaProducer(**settings)


def new_consumer(**settings: Any) -> Any:
    """A KafkaConsumer."""
    return kafka.KafkaConsumer(**settings)


def insist_on_joining(consumer: Any) -> None:
    """Let a consumer that is joining its group go on until it has joined; said between two polls.

    kafka-python 3.0.12 forgets a join that began because metadata had changed and that outlasts a poll: the assignment
    on the way makes the change known, so that the next poll sees no need to join, and nobody takes what came of it. The
    member then stays between two generations for ever, without a heartbeat (kafka/coordinator/base.py,
    `ensure_active_group_async`, and `need_rejoin` in consumer.py).
    """
    consumer._coordinator.request_rejoin()


def new_admin(**settings: Any) -> Any:
    """A KafkaAdminClient."""
    return kafka.KafkaAdminClient(**settings)
