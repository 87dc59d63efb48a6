"""How the gateway outlives an outage of the brokers: it commits to its spool, and drains it in order afterwards.

Once a commit found no broker, all commits go to the spool until the log has everything that is in there; so a session
never has steps in the log that came after steps in the spool. What became of the very commit that failed is not known
then: draining leaves out what the log has already, told by the sessions that it holds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

import msgspec

from ingest.errors import LogError, LogUnavailable
from ingest.forgotten import PREFIX as FORGOTTEN
from ingest.forgotten import together
from ingest.gateway.spool import Spool, Spooled
from ingest.log import Append, LogWriter
from ingest.sessions import STATE_PREFIX, Session, stored_session
from ingest.types import STEPS, SessionEnded, SessionOpened, SessionRecord, StepsAppended

DRAIN_BYTES = 4 << 20
PAUSE = 0.25
"""Seconds between two tries to reach a broker."""

logger = logging.getLogger(__name__)

_records: msgspec.msgpack.Decoder[SessionRecord] = msgspec.msgpack.Decoder(SessionRecord)


class OutageProof:
    """Commits to the log, or to the spool while that is not possible. Use from one thread."""

    def __init__(self, writer: LogWriter, spool: Spool) -> None:
        self._writer, self._spool = writer, spool
        self._reconnecting: _Reconnecting | None = None
        self.spooling = False

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait in the spool."""
        return self._spool.bytes

    @property
    def nearly_full(self) -> bool:
        """Whether the spool has little room left."""
        return self._spool.nearly_full

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None]) -> None:
        """Make a commit durable, here or there. Raises `SpoolFull`, and what the log raises otherwise."""
        if not self.spooling:
            try:
                self._writer.commit(appends, state)
                return
            except LogUnavailable as error:
                logger.warning("no broker answers (%s): commits go to the spool", error)
                self.spooling = True
        self._spool.put(appends, state)

    def drain(self) -> None:
        """Bring some of the spool to the log, if it can be reached; at the end commits go there directly again."""
        if not self.spooling or not self._connected():
            return
        try:
            self.drain_some()
        except LogUnavailable as error:
            logger.warning("no broker answers again (%s)", error)
            self._reconnecting = None
            return
        if not len(self._spool):
            logger.info("the spool is drained: commits go to the log again")
            self.spooling, self._reconnecting = False, None

    def drain_some(self) -> None:
        """Bring the oldest entries to the log, in one commit."""
        entries = self._spool.first(DRAIN_BYTES)
        if not entries:
            return
        appends: list[Append] = []
        state: dict[str, bytes | None] = {}
        for _, entry in entries:
            state |= missing(entry, {**self._writer.state(STATE_PREFIX), **state}, appends)
        if appends or state:
            self._writer.commit(appends, state)
        self._spool.forget(entries[-1][0])

    def close(self) -> None:
        """Stop trying; what is spooled stays on disk."""
        if self._reconnecting is not None:
            self._reconnecting.over.set()

    def _connected(self) -> bool:
        if self._reconnecting is None:
            self._reconnecting = _Reconnecting(self._writer)
            self._reconnecting.start()
        if self._reconnecting.error is not None:
            raise self._reconnecting.error
        return self._reconnecting.done.is_set()


def missing(entry: Spooled, committed: Mapping[str, bytes | None], appends: list[Append]) -> Mapping[str, bytes | None]:
    """Add to `appends` what the log lacks of an entry, and give the state that it lacks."""
    for append in entry.appends:
        stored = committed.get(STATE_PREFIX + append.key)
        session = None if stored is None else stored_session(stored)
        kept = append if session is None or append.topic != STEPS else _lacking(append, session)
        if kept is not None:
            appends.append(kept)
    state: dict[str, bytes | None] = {}
    for key, value in entry.state.items():
        before = committed.get(key)
        if key.startswith(FORGOTTEN) and value is not None and before is not None:
            state[key] = together(before, value)
            continue
        if key.startswith(STATE_PREFIX) and value is not None and before is not None and _ahead(before, value):
            continue
        state[key] = value
    return state


def _lacking(append: Append, session: Session) -> Append | None:
    """The record without what its session has in the log already; None where nothing is left."""
    record = _records.decode(append.value)
    if isinstance(record, SessionOpened):
        return None
    if isinstance(record, SessionEnded):
        return append if session.ended is None else None
    if not isinstance(record, StepsAppended):
        return append
    steps = tuple(step for step in record.steps if step.seq >= session.next_seq)
    if not steps:
        return None
    if len(steps) == len(record.steps):
        return append
    value = msgspec.msgpack.encode(msgspec.structs.replace(record, steps=steps))
    return msgspec.structs.replace(append, value=value)


def _ahead(committed: bytes, spooled: bytes) -> bool:
    """Whether the log knows as much of a session as the spool, or more."""
    known = stored_session(committed)
    kept = stored_session(spooled)
    return known.next_seq >= kept.next_seq and (kept.ended is None or known.ended is not None)


class _Reconnecting(threading.Thread):
    """Tries to reach a broker, where nobody waits for it."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(name="reconnecting", daemon=True)
        self._writer = writer
        self.done, self.over = threading.Event(), threading.Event()
        self.error: LogError | None = None

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._writer.recover()
            except LogUnavailable:
                self.over.wait(PAUSE)
            except LogError as error:
                self.error = error
                return
            else:
                self.done.set()
                return
