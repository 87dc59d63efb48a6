"""What is planned upon the committed sessions: every request of a commit in turn, each taken whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import is_
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ingest.errors import (
    KeyReused,
    SequenceGap,
    SessionClosed,
    SessionExists,
    SessionGone,
    SessionUnknown,
    SessionUsed,
    StepConflict,
    SubjectGone,
    TooManySessions,
)
from ingest.keyboard import Keep, reduced
from ingest.log import Append, partition_of
from ingest.sessions.session import (
    DIGEST_BYTES,
    STATE_PREFIX,
    Appended,
    Batch,
    Opening,
    Session,
    digest_of,
)
from ingest.tombstones import (
    BLOCKED,
    DELETED,
    SubjectTombstone,
    Tombstone,
    session_deletion,
    subject_deletion,
    subject_key,
)
from ingest.types import (
    DELETIONS,
    STEPS,
    DeadLetter,
    EndReason,
    Position,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    Step,
    StepRetried,
    StepsAppended,
)

if TYPE_CHECKING:
    from ingest.sessions.index import SessionIndex

REMEMBERED = 256
"""Of how many of a session's last steps the content is known."""
REMEMBERED_ENDED = 32
"""The same once it has ended: for its last requests to be sent again."""
RETRIED_PREFIX = "retried/"

Allow: TypeAlias = Callable[[str | None], None]
"""Raises where something of this app must not be deleted."""

_encoder = msgspec.msgpack.Encoder()


class Draft:
    """Changes upon an index that are not committed yet. A request that raises (`SessionError`) changes nothing."""

    def __init__(self, index: SessionIndex) -> None:
        self._index, self._rules = index, index.rules
        self._now = time.time()
        self._opened = 0
        self._keys: dict[str, str] = {}
        self._members: dict[str, bytes | None] = {}
        self.changed: dict[str, Session | None] = {}
        self.forgotten: tuple[str, bytes] | None = None
        self.tombstones: dict[str, Tombstone | SubjectTombstone] = {}
        self.touched: set[str] = set()
        self.appends: list[Append] = []
        self.ended: list[EndReason] = []

    def state(self) -> dict[str, bytes | None]:
        """The writer's state to be committed with `appends`."""
        sessions = {
            STATE_PREFIX + session_id: None if session is None else _encoder.encode(session)
            for session_id, session in self.changed.items()
        }
        forgotten = {} if self.forgotten is None else dict([self.forgotten])
        tombstones = {key: _encoder.encode(each) for key, each in self.tombstones.items()}
        return sessions | self._members | forgotten | tombstones

    def open(self, opening: Opening) -> tuple[Session, bool]:
        """Open a session, or find the one that this very request has opened before; says whether it is new."""
        self._index.tombstones.check_opening(opening.session_id, opening.key, opening.subject)
        self._check_tombstones(opening)
        known = self._opened_by(opening)
        if known is not None:
            return known, False
        if opening.session_id is not None and opening.session_id in self._index.forgotten:
            raise SessionUsed(opening.session_id)
        if len(self._index) + self._opened >= self._rules.max_open:
            raise TooManySessions(self._rules.max_open)
        session_id = opening.session_id or self._rules.new_session_id(self._now)
        session = Session(
            session_id,
            opening.app,
            self._now,
            opening.digest(),
            opening.key,
            subject=opening.subject,
            schema=opening.schema,
        )
        if opening.subject is not None:
            self._members[subject_key(opening.subject, session_id)] = opening.app.encode()
        self._opened += 1
        if opening.key is not None:
            self._keys[opening.key] = session_id
        opened = SessionOpened(session_id, opening.app, self._now, opening.metadata, opening.subject, opening.consent)
        self._record(opened)
        self._change(session)
        return session, True

    def append(self, batch: Batch) -> Appended:
        """Take the steps of `batch` that are new; all of it, or nothing."""
        session = self._session(batch.session_id)
        batch = _reduced(batch, self._rules.keyboard.of(session.app))
        first, end = batch.first_seq, batch.first_seq + len(batch.steps)
        if session.ended is not None and end > session.next_seq:
            raise SessionClosed(session.session_id, session.next_seq, session.ended)
        if first > session.next_seq:
            raise SequenceGap(session.session_id, first, session.next_seq)
        for seq in range(first, min(end, session.next_seq)):
            known = session.digest(seq)
            if known is not None and known != batch.digests[seq - first]:
                raise StepConflict(session.session_id, seq, session.next_seq)
        duplicates = min(session.next_seq - first, len(batch.steps))
        self.touched.add(session.session_id)
        if duplicates < len(batch.steps):
            session = self._extend(session, batch, duplicates)
        return Appended(session, first, duplicates, len(batch.steps) - duplicates)

    def end(self, session_id: str, next_seq: int | None, reason: EndReason = EndReason.CLIENT) -> Session:
        """End a session that has `next_seq` steps (None: however many); one that has ended stays as it is."""
        session = self._session(session_id)
        if next_seq is not None and next_seq != session.next_seq:
            raise SequenceGap(session_id, next_seq, session.next_seq)
        if session.ended is not None:
            return session
        digests = session.digests[-REMEMBERED_ENDED * DIGEST_BYTES :]
        session = msgspec.structs.replace(session, ended=reason, ended_at=self._now, digests=digests)
        self.ended.append(reason)
        self._record(SessionEnded(session_id, session.next_seq, reason, self._now))
        self._change(session)
        return session

    def delete(self, session_id: str, allow: Allow = lambda app: None) -> Tombstone:
        """Delete a session, also one that is not known (any more); one that was deleted stays as it is.

        `allow` is given the app that it is of (None: not known), and raises where that must not be.
        """
        session, known = self._find(session_id), self._tombstone(session_id)
        allow(session.app if session is not None else known.app if known is not None else None)
        return self._delete(session_id, session_deletion(session_id))

    def delete_subject(self, subject: str, allow: Allow = lambda app: None) -> SubjectTombstone:
        """Delete all sessions of a subject, by its pseudonym, and open none for it again."""
        known = self.tombstones.get(BLOCKED + subject) or self._index.tombstones.subject(subject)
        if known is not None:
            assert isinstance(known, SubjectTombstone)
            return known
        apps = dict(self._index.tombstones.sessions_of(subject))
        apps |= {each.session_id: each.app for each in self.changed.values() if each and each.subject == subject}
        for app in {*apps.values()}:
            allow(app)
        sessions, deletion = tuple(sorted(apps)), subject_deletion(subject)
        for session_id in sessions:
            self._delete(session_id, deletion)
            self._members[subject_key(subject, session_id)] = None
        tombstone = SubjectTombstone(subject, deletion, self._now, sessions)
        self.tombstones[BLOCKED + subject] = tombstone
        return tombstone

    def retry(self, place: Position, letter: DeadLetter) -> None:
        """Let a dead letter be annotated again, once; a second time does nothing."""
        self._check_deleted(letter.step.session_id)
        key = f"{RETRIED_PREFIX}{place.partition}/{place.offset}"
        if key not in self._members and not self._index.tombstones.retried(key):
            self._members[key] = b""
            self._record(StepRetried(letter.step.session_id, place, letter, self._now))

    def expire(self) -> int:
        """End sessions that were silent for too long, forget those that ended long ago; returns how many of these."""
        idle = [session for session in self._index.idle() if session.session_id not in self.touched]
        for session in idle:
            self.end(session.session_id, None, EndReason.TIMEOUT)
        forgotten = [session_id for session_id in self._index.forgettable(self._now) if session_id not in self.touched]
        self.changed.update(dict.fromkeys(forgotten, None))
        if forgotten:
            self.forgotten = self._index.forgotten.chunk(forgotten)
        return len(forgotten)

    def _delete(self, session_id: str, deletion: str) -> Tombstone:
        known = self._tombstone(session_id)
        if known is not None:
            return known
        session = self._find(session_id)
        if session is None:
            tombstone = Tombstone(session_id, deletion, self._now)
        else:
            opened, key = session.opened_at, session.key
            tombstone = Tombstone(session_id, deletion, self._now, session.app, opened, key)
            self._opened -= session_id in self.changed and self._index.get(session_id) is None
            if session.subject is not None:
                self._members[subject_key(session.subject, session_id)] = None
        self.tombstones[DELETED + session_id] = tombstone
        self.changed[session_id] = None
        self.touched.add(session_id)
        record = SessionDeleted(session_id, deletion, self._now, tombstone.opened_at)
        for topic in (STEPS, DELETIONS):
            self._record(record, topic=topic)
        return tombstone

    def _tombstone(self, session_id: str) -> Tombstone | None:
        drafted = self.tombstones.get(DELETED + session_id)
        assert drafted is None or isinstance(drafted, Tombstone)
        return drafted or self._index.tombstones.session(session_id)

    def _check_deleted(self, session_id: str) -> None:
        if self._tombstone(session_id) is not None:
            raise SessionGone(session_id)

    def _check_tombstones(self, opening: Opening) -> None:
        """The same as of those that are committed, for those that are in this very draft."""
        if not self.tombstones:
            return
        for each in self.tombstones.values():
            if isinstance(each, SubjectTombstone):
                if each.subject == opening.subject:
                    raise SubjectGone
            elif each.session_id == opening.session_id or (each.key is not None and each.key == opening.key):
                raise SessionGone(each.session_id)

    def _extend(self, session: Session, batch: Batch, duplicates: int) -> Session:
        for steps in _packed(batch, duplicates, self._rules.record_bytes):
            self._record(StepsAppended(session.session_id, steps, batch.traceparent), batch.traceparent)
        digests = session.digests + b"".join(batch.digests[duplicates:])
        session = msgspec.structs.replace(
            session,
            next_seq=batch.first_seq + len(batch.steps),
            digests=digests[-REMEMBERED * DIGEST_BYTES :],
        )
        self._change(session)
        return self.end(session.session_id, None, EndReason.EOS) if batch.steps[-1].is_eos else session

    def _opened_by(self, opening: Opening) -> Session | None:
        if opening.key is not None:
            session_id = self._keys.get(opening.key) or self._index.by_key(opening.key)
            session = self._find(session_id) if session_id is not None else None
            if session is not None:
                if session.opening != opening.digest() or opening.session_id not in (None, session.session_id):
                    raise KeyReused(opening.key)
                return session
        session = self._find(opening.session_id) if opening.session_id is not None else None
        if session is not None and session.opening != opening.digest():
            raise SessionExists(session.session_id)
        return session

    def _find(self, session_id: str) -> Session | None:
        return self.changed[session_id] if session_id in self.changed else self._index.get(session_id)

    def _session(self, session_id: str) -> Session:
        session = self._find(session_id)
        if session is None:
            self._check_deleted(session_id)
            raise SessionUnknown(session_id)
        return session

    def _change(self, session: Session) -> None:
        self.changed[session.session_id] = session
        self.touched.add(session.session_id)

    def _record(self, record: SessionRecord, traceparent: str | None = None, *, topic: str = STEPS) -> None:
        session_id = record.session_id
        partition = partition_of(session_id, self._rules.partitions)
        self.appends.append(Append(topic, partition, session_id, _encoder.encode(record), self._now, traceparent))


def _reduced(batch: Batch, keep: Keep) -> Batch:
    """The batch as it may be stored: its digests tell nothing either of what is left out."""
    steps = tuple(reduced(step, keep) for step in batch.steps)
    if all(map(is_, steps, batch.steps)):
        return batch
    digests = tuple(
        digest if step is sent else digest_of(step)
        for step, sent, digest in zip(steps, batch.steps, batch.digests, strict=True)
    )
    return msgspec.structs.replace(batch, steps=steps, digests=digests)


def _packed(batch: Batch, start: int, record_bytes: int) -> list[tuple[Step, ...]]:
    """The steps from `start` on, in runs of about `record_bytes` (a longer step stands alone)."""
    runs: list[tuple[Step, ...]] = []
    first, size = start, 0
    for place in range(start, len(batch.steps)):
        if place > first and size + batch.sizes[place] > record_bytes:
            runs.append(batch.steps[first:place])
            first, size = place, 0
        size += batch.sizes[place]
    runs.append(batch.steps[first:])
    return runs
