"""What is committed of sessions, and how long each has been silent."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingest.errors import LogCorrupt, SessionUnknown
from ingest.forgotten import PREFIX, Forgotten
from ingest.sessions.draft import Draft
from ingest.sessions.session import FORMAT, Session, SessionRules, stored_session
from ingest.sessions.silence import GRACE, SilenceClock
from ingest.tombstones import Tombstones

MAX_EXPIRED = 500
"""Sessions that one look ends or forgets; the rest waits for the next one."""


class SessionIndex:
    """The committed sessions, open and ended. Changed by one thread, in `adopt`; others may look."""

    def __init__(
        self, rules: SessionRules, state: Mapping[str, bytes] | None = None, tombstones: Tombstones | None = None
    ) -> None:
        """Load a writer's `state(STATE_PREFIX)`. Silences begin anew, for clients could not post meanwhile."""
        self.rules = rules
        self.tombstones = tombstones if tombstones is not None else Tombstones()
        self._open: dict[str, Session] = {}
        self._ended: dict[str, Session] = {}  # in the order in which they ended
        self._keys: dict[str, str] = {}
        self._touched: dict[str, float] = {}
        self.silence = SilenceClock(min(GRACE, rules.idle_seconds))
        self.forgotten = Forgotten(state or {})
        self._put(_decoded(state or {}), self.silence.now())

    def __len__(self) -> int:
        return len(self._open)

    def get(self, session_id: str) -> Session | None:
        """The session as it was last committed."""
        return self._open.get(session_id) or self._ended.get(session_id)

    def require(self, session_id: str) -> Session:
        """The same; raises `SessionGone` where it was deleted and `SessionUnknown` where there is none."""
        session = self.get(session_id)
        if session is None:
            self.tombstones.check(session_id)
            raise SessionUnknown(session_id)
        return session

    def expires_in(self, session_id: str) -> float | None:
        """Seconds until an open session is ended for its silence."""
        touched = self._touched.get(session_id)
        return None if touched is None else max(0.0, touched + self.rules.idle_seconds - self.silence.now())

    def draft(self) -> Draft:
        """A plan for the next commit."""
        return Draft(self)

    def adopt(self, draft: Draft) -> None:
        """The draft was committed (or changed nothing): it is what is known now."""
        now = self.silence.now()
        for session_id in draft.touched & self._touched.keys():
            self._touched[session_id] = now
        for session_id, session in draft.changed.items():
            gone = self.get(session_id) if session is None else None
            if gone is not None:
                self._ended.pop(session_id, None)
                self._open.pop(session_id, None)
                self._touched.pop(session_id, None)
                if gone.key is not None:
                    self._keys.pop(gone.key, None)
        if draft.forgotten is not None:
            self.forgotten.add(*draft.forgotten)
        self.tombstones.put(draft.tombstones)
        self._put([session for session in draft.changed.values() if session is not None], now)

    def _put(self, sessions: list[Session], now: float) -> None:
        for session in sessions:
            if session.key is not None:
                self._keys[session.key] = session.session_id
            if session.ended is None:
                self._open[session.session_id] = session
                self._touched.setdefault(session.session_id, now)
            else:
                self._ended[session.session_id] = session
                self._open.pop(session.session_id, None)
                self._touched.pop(session.session_id, None)

    def by_key(self, key: str) -> str | None:
        """The session that was opened with this idempotency key."""
        return self._keys.get(key)

    def idle(self) -> list[Session]:
        """Open sessions that were silent for too long."""
        before = self.silence.now() - self.rules.idle_seconds
        late = [session_id for session_id, touched in self._touched.items() if touched < before]
        return [self._open[session_id] for session_id in late[:MAX_EXPIRED]]

    def forgettable(self, now: float) -> list[str]:
        """Sessions that ended so long ago that they need not be remembered."""
        found: list[str] = []
        for session_id, session in self._ended.items():
            if (session.ended_at or 0.0) > now - self.rules.ended_seconds or len(found) == MAX_EXPIRED:
                break
            found.append(session_id)
        return found


def _decoded(state: Mapping[str, bytes]) -> list[Session]:
    sessions: list[Session] = []
    for key, value in state.items():
        if key.startswith(PREFIX):
            continue
        try:
            session = stored_session(value)
        except msgspec.DecodeError as error:
            raise LogCorrupt(
                f"the gateway's state {key!r} cannot be read ({error}); restore the log from a copy"
            ) from error
        if session.format != FORMAT:
            raise LogCorrupt(f"the gateway's state {key!r} has format {session.format}; only {FORMAT} is known here")
        sessions.append(session)
    return sorted(sessions, key=lambda session: session.ended_at or 0.0)
