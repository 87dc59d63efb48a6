"""What the gateway remembers of deleted sessions and subjects, for ever: a late retry must not bring them back.

Its state keys, committed with the records of the deletion:

    deleted/{session id}                   `Tombstone`
    subject/{pseudonym}/{session id}       the app: a session that the subject has, until it is deleted
    blocked/{pseudonym}                    `SubjectTombstone`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from ingest.errors import LogCorrupt, SessionGone, SubjectGone

DELETED = "deleted/"
SUBJECT = "subject/"
BLOCKED = "blocked/"

T = TypeVar("T")


class Tombstone(msgspec.Struct, frozen=True):
    """A deleted session. `deletion` names the request that deleted it, `key` its opening's idempotency key."""

    session_id: str
    deletion: str
    time: float
    app: str | None = None
    opened_at: float | None = None
    key: str | None = None


class SubjectTombstone(msgspec.Struct, frozen=True):
    """A deleted subject, by its pseudonym, and the sessions that it had."""

    subject: str
    deletion: str
    time: float
    sessions: tuple[str, ...]


_tombstones, _subjects = msgspec.msgpack.Decoder(Tombstone), msgspec.msgpack.Decoder(SubjectTombstone)


def together(parts: Sequence[SubjectTombstone]) -> SubjectTombstone:
    """The tombstone of a subject whose sessions lie in several shares of the log, from that of each share."""
    first = min(parts, key=lambda each: each.time)
    return msgspec.structs.replace(first, sessions=tuple(sorted({each for part in parts for each in part.sessions})))


def session_deletion(session_id: str) -> str:
    """The name of the deletion of a session."""
    return f"session.{session_id}"


def subject_deletion(subject: str) -> str:
    """The name of the deletion of a subject, by its pseudonym."""
    return f"subject.{subject}"


def subject_key(subject: str, session_id: str = "") -> str:
    """The state key of a subject's session; without one the prefix of all."""
    return f"{SUBJECT}{subject}/{session_id}"


class Tombstones:
    """The committed ones. `state` reads the writer's state by prefix; it is called from the committing thread only."""

    def __init__(self, state: Callable[[str], Mapping[str, bytes]] = lambda prefix: {}) -> None:
        self._state = state
        self._sessions: dict[str, Tombstone] = {}
        self._subjects: dict[str, SubjectTombstone] = {}
        self._keys: dict[str, str] = {}
        self.put(
            {key: _decoded(key, value, _tombstones) for key, value in state(DELETED).items()}
            | {key: _decoded(key, value, _subjects) for key, value in state(BLOCKED).items()}
        )

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, session_id: str) -> Tombstone | None:
        """The tombstone of a session, if it was deleted."""
        return self._sessions.get(session_id)

    def subject(self, subject: str) -> SubjectTombstone | None:
        """The tombstone of a subject, if it was deleted."""
        return self._subjects.get(subject)

    def check(self, session_id: str) -> None:
        """Raise `SessionGone` for a session that was deleted."""
        if session_id in self._sessions:
            raise SessionGone(session_id)

    def check_opening(self, session_id: str | None, key: str | None, subject: str | None) -> None:
        """Raise where an opening would bring back what was deleted: by its id, by its key, or for its subject."""
        opened = session_id if session_id in self._sessions else self._keys.get(key or "")
        if opened is not None:
            raise SessionGone(opened)
        if subject in self._subjects:
            raise SubjectGone

    def sessions_of(self, subject: str) -> dict[str, str]:
        """The sessions that a subject has, committed ones, open, ended and forgotten, each with its app."""
        prefix = subject_key(subject)
        return {key.removeprefix(prefix): app.decode() for key, app in self._state(prefix).items()}

    def retried(self, key: str) -> bool:
        """Whether the dead letter of this state key was retried before."""
        return key in self._state(key)

    def put(self, tombstones: Mapping[str, Tombstone | SubjectTombstone]) -> None:
        """Take in what was committed."""
        for each in tombstones.values():
            if isinstance(each, SubjectTombstone):
                self._subjects[each.subject] = each
                continue
            self._sessions[each.session_id] = each
            if each.key is not None:
                self._keys[each.key] = each.session_id


def _decoded(key: str, value: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(value)
    except msgspec.DecodeError as error:
        raise LogCorrupt(
            f"the gateway's state {key!r} cannot be read ({error}); restore the log from a copy"
        ) from error
