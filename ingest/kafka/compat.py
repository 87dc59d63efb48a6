"""Private parts of kafka-python 3.0 that cannot be avoided, and what it needs beside it.

`commit_transaction` and `abort_transaction` wait without a limit, and `close` waits for records that no broker will
ever take; a gateway that promises an answer cannot. tests/ingest/kafka/test_compat.py fails when these move.
"""

from __future__ import annotations

import contextlib
from typing import Any

import kafka
from kafka.record import util as record_util

from ingest.errors import LogError


def check_library() -> None:
    """Refuse a kafka-python that computes checksums in pure Python."""
    if getattr(record_util, "crc32c_c", None) is None:
        raise LogError(
            "kafka-python finds no crc32c package and would compute checksums in Python, 5 to 30 times slower: "
            "pip install crc32c"
        )


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


def new_producer(**settings: Any) -> Any:
    """A KafkaProducer."""
    return kafka.KafkaProducer(**settings)


def new_consumer(**settings: Any) -> Any:
    """A KafkaConsumer."""
    return kafka.KafkaConsumer(**settings)


def new_admin(**settings: Any) -> Any:
    """A KafkaAdminClient."""
    return kafka.KafkaAdminClient(**settings)
