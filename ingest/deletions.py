"""Which sessions were deleted, as every process can learn from the log: whoever gives samples out asks here first.

The gateway answers a deletion only after `SETTLE` seconds; whoever asks knows every deletion that is `STALE` seconds
old. So what was told to be deleted is given to nobody from then on, though no reader asks the log for every sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from ingest.entries import session_of
from ingest.errors import LogUnavailable
from ingest.log import Log, LogReader
from ingest.records import session_deleted
from ingest.types import DELETIONS, SessionDeleted

STALE = 0.05
SETTLE = 0.15
"""In seconds. Between the two lies the time that a look takes: on Kafka one request, where nothing was deleted."""
PASSING = 1.0
"""The same as `STALE`, for those who only pass on to others that look themselves: annotators and archivers."""


class Deletions(msgspec.Struct, frozen=True):
    """Where deletions are looked up. Only configuration, so it can be pickled."""

    log: Log

    def open(self, stale: float = STALE) -> DeletedSessions:
        """A view of them, in the calling process and thread, which knows all that are `stale` seconds old.

        Raises `LogUnavailable` where the log cannot be reached, for then it would know of none.
        """
        return DeletedSessions(self.log.reader(), stale)


class DeletedSessions:
    """The sessions that were deleted, by now. Used from one thread; it looks for news by itself."""

    def __init__(self, reader: LogReader, stale: float = STALE) -> None:
        self._reader, self._stale = reader, stale
        self._offsets = [0] * reader.partitions(DELETIONS)
        self._known = [0] * len(self._offsets)  # the ends up to which nothing is missing
        self._deleted: dict[str, SessionDeleted] = {}
        self._next_look = time.monotonic() + stale
        self._look()

    def __len__(self) -> int:
        self._refresh()
        return len(self._deleted)

    def __contains__(self, session_id: object) -> bool:
        self._refresh()
        return session_id in self._deleted

    def __iter__(self) -> Iterator[SessionDeleted]:
        """All of them, oldest first as far as one partition goes."""
        self._refresh()
        return iter(tuple(self._deleted.values()))

    def holds(self, key: str) -> bool:
        """Whether the sample or step of this key (`{session}/{seq}…`) is one of a deleted session."""
        self._refresh()
        return bool(self._deleted) and "/" in key and session_of(key) in self._deleted

    def close(self) -> None:
        """Close the log's reader."""
        self._reader.close()

    def _refresh(self) -> None:
        began = time.monotonic()
        if began < self._next_look:
            return
        try:
            self._look()
        except LogUnavailable:
            # Nothing is deleted while no broker answers; at most a fifth of the time is spent on waiting for one.
            now = time.monotonic()
            self._next_look = now + max(self._stale, 4 * (now - began))
        else:
            self._next_look = began + self._stale

    def _look(self) -> None:
        for partition, end in enumerate(self._reader.ends(DELETIONS)):
            if end <= self._known[partition]:
                continue
            offset = self._offsets[partition]
            while (fetched := self._reader.fetch(DELETIONS, partition, offset)).records:
                for record in fetched.records:
                    deleted = session_deleted(record)
                    self._deleted.setdefault(deleted.session_id, deleted)
                offset = fetched.next_offset
            self._offsets[partition] = offset = max(offset, fetched.next_offset)
            if offset >= end:  # else the last of it cannot be read yet
                self._known[partition] = end
