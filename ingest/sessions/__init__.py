"""What the gateway knows of sessions, and the one place that decides what is taken: once, in order, unchanged.

`SessionIndex` holds what is committed. A `Draft` is a plan upon it: every request of a commit is applied to the draft
in turn, which collects the log's records and the changed state; after the commit the index adopts the draft, or the
draft is forgotten with everything in it. So nothing that is not durable is ever told to a client, nor built upon.

Identity is `(session_id, seq)`. A step that comes again is a duplicate if its content is the same; that is known of
the last `REMEMBERED` steps of a session, and believed of older ones. The id of a session that was forgotten stays taken.
"""

from ingest.sessions.draft import REMEMBERED, REMEMBERED_ENDED, RETRIED_PREFIX, Allow, Draft
from ingest.sessions.index import MAX_EXPIRED, SessionIndex
from ingest.sessions.session import (
    DIGEST_BYTES,
    FORMAT,
    STATE_PREFIX,
    Appended,
    Batch,
    Opening,
    Session,
    SessionRules,
    digest_of,
    new_session_id,
    stored_session,
)
from ingest.sessions.silence import SilenceClock

__all__ = [
    "DIGEST_BYTES",
    "FORMAT",
    "MAX_EXPIRED",
    "REMEMBERED",
    "REMEMBERED_ENDED",
    "RETRIED_PREFIX",
    "STATE_PREFIX",
    "Allow",
    "Appended",
    "Batch",
    "Draft",
    "Opening",
    "Session",
    "SessionIndex",
    "SessionRules",
    "SilenceClock",
    "digest_of",
    "new_session_id",
    "stored_session",
]
