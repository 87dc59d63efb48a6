"""Ends transactions that a broker forgot to end.

A broker that is killed between a transaction's decision and its markers may, once it is up again, call the transaction
complete without having written the markers of every partition. Nobody who reads committed records gets past that place
then, for ever; Kafka knows such transactions as hanging (KIP-664, KIP-890) and has a tool to abort them by hand. Here
the markers are written before a writer begins: of the kind that was decided, so that an acknowledged commit stands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.admin import TransactionState
from kafka.errors import KafkaError, TransactionalIdNotFoundError, UnsupportedVersionError

from ingest.kafka import compat

DECIDED = 5.0
"""Seconds to wait for a transaction that is being completed."""

_UNFINISHED = (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT, TransactionState.PREPARE_EPOCH_FENCE)

logger = logging.getLogger(__name__)


def mend(admin: Any, transactional_id: str, places: Sequence[TopicPartition], *, begun: bool) -> int:
    """Write the markers that are missing in `places` of the last transaction of an id; gives how many there were.

    `begun` says that the id's new producer has begun, so that whatever is still open was to be aborted.
    """
    state = _state(admin, transactional_id)
    if state is None or state.state is TransactionState.ONGOING:
        return 0  # the next producer of this id ends it
    open_now = _open(admin, places, state.producer_id)
    if not open_now:
        return 0
    known = _state(admin, transactional_id)
    if known is None or known.state is not state.state:
        return 0
    still = _open(admin, places, state.producer_id)
    committed = known.state is TransactionState.COMPLETE_COMMIT and not begun
    mended = 0
    for where, producer in open_now.items():
        if where not in still or still[where].current_transaction_start_offset != _start(producer):
            continue
        logger.warning(
            "%s: a broker left a transaction open at %s/%d, offset %d; it is %s now",
            transactional_id,
            where.topic,
            where.partition,
            _start(producer),
            "committed" if committed else "aborted",
        )
        compat.write_marker(admin, where, producer, committed=committed)
        mended += 1
    return mended


def _state(admin: Any, transactional_id: str) -> Any:
    """The last transaction of an id, when it is not just being completed; None where there is none."""
    deadline = time.monotonic() + DECIDED
    while True:
        try:
            state = admin.describe_transactions([transactional_id])[transactional_id]
        except (TransactionalIdNotFoundError, UnsupportedVersionError):
            return None
        if state.state not in _UNFINISHED or time.monotonic() > deadline:
            return state
        time.sleep(0.02)


def _open(admin: Any, places: Sequence[TopicPartition], producer_id: int) -> Mapping[TopicPartition, Any]:
    found: dict[TopicPartition, Any] = {}
    try:
        described = admin.describe_producers(list(places))
    except UnsupportedVersionError:
        return found
    for where, state in described.items():
        for producer in state.active_producers:
            if producer.producer_id == producer_id and _start(producer) >= 0:
                found[where] = producer
    return found


def _start(producer: Any) -> int:
    return int(producer.current_transaction_start_offset)


def mended_where_possible(admin: Any, transactional_id: str, places: Sequence[TopicPartition], *, begun: bool) -> int:
    """The same, on brokers that know nothing of it (Tansu) nothing."""
    try:
        return mend(admin, transactional_id, places, begun=begun)
    except KafkaError as error:
        logger.debug("%s: cannot be looked at for open transactions: %r", transactional_id, error)
        return 0
