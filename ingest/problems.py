"""What the gateway refuses, and why: one stable problem type (RFC 9457) for each reason.

The rule for clients is one line: send the same bytes again after 408, 429, 5xx and network errors, never after other
4xx. 409 `sequence-gap` names `expected_seq`, from where to go on.
"""

from __future__ import annotations

from auth.problems import INVALID_REQUEST, Json, Problem, ProblemType
from ingest.errors import (
    IngestError,
    InvalidBody,
    KeyReused,
    LogFull,
    SchemaViolation,
    SequenceGap,
    SessionClosed,
    SessionExists,
    SessionGone,
    SessionUnknown,
    ShareElsewhere,
    SpoolFull,
    StepConflict,
    SubjectGone,
    SubjectsUnkeyed,
    TooManySessions,
)

KEY_MISSING = ProblemType("idempotency-key-missing", 400, "An id or an Idempotency-Key is required")
MISSING_FIRST_SEQ = ProblemType("missing-first-seq", 400, "The header Ingest-First-Seq is required")
CONSENT_MISSING = ProblemType("consent-missing", 403, "A session needs its user's consent")
APP_NOT_ALLOWED = ProblemType("app-not-allowed", 403, "The token is for other apps")
FOREIGN_ORIGIN = ProblemType("foreign-origin", 403, "Pages of this origin may not post here")
SESSION_UNKNOWN = ProblemType("session-unknown", 404, "No such session is known")
BODY_STALLED = ProblemType("body-stalled", 408, "The body did not come in time", retryable=True)
SEQUENCE_GAP = ProblemType("sequence-gap", 409, "Steps are missing before those that were sent")
STEP_CONFLICT = ProblemType("step-conflict", 409, "A step came again with other content")
SESSION_EXISTS = ProblemType("session-exists", 409, "The session id is taken")
SESSION_CLOSED = ProblemType("session-closed", 410, "The session has ended")
SESSION_DELETED = ProblemType("session-deleted", 410, "The session was deleted")
SUBJECT_DELETED = ProblemType("subject-deleted", 410, "The subject was deleted")
DELETION_UNKNOWN = ProblemType("deletion-unknown", 404, "No such deletion is known")
DEAD_LETTER_UNKNOWN = ProblemType("dead-letter-unknown", 404, "No such dead letter is kept")
BODY_TOO_LARGE = ProblemType("body-too-large", 413, "The body is too large")
STEP_TOO_LARGE = ProblemType("step-too-large", 413, "A step is too large")
TOO_MANY_STEPS = ProblemType("too-many-steps", 413, "There are too many steps in one request")
UNSUPPORTED_MEDIA_TYPE = ProblemType("unsupported-media-type", 415, "The body is of a type that is not taken")
UNSUPPORTED_ENCODING = ProblemType("unsupported-encoding", 415, "The body is encoded in a way that is not taken")
SCHEMA_VIOLATION = ProblemType("schema-violation", 422, "Something in the body has a wrong shape")
SUBJECTS_UNKEYED = ProblemType("subjects-unkeyed", 422, "Subjects cannot be named here")
SCHEMA_UNKNOWN = ProblemType("schema-unknown", 422, "The app has no session schema of that version")
KEY_REUSED = ProblemType("idempotency-key-reused", 422, "The idempotency key was used for another request")
RATE_LIMITED = ProblemType("rate-limited", 429, "More is posted than this key or session may", retryable=True)
QUOTA_EXCEEDED = ProblemType("quota-exceeded", 429, "Too much of this key or session waits", retryable=True)
HEADERS_TOO_LARGE = ProblemType("headers-too-large", 431, "The request's headers are too large")
BACKPRESSURE = ProblemType("backpressure", 503, "More is coming in than can be stored", retryable=True)
TOO_MANY_SESSIONS = ProblemType("too-many-sessions", 503, "Too many sessions are open", retryable=True)
LOG_FULL = ProblemType("log-full", 503, "The disk of the log is full", retryable=True)
SPOOL_FULL = ProblemType("spool-full", 503, "No broker answers, and the spool is full", retryable=True)
ELSEWHERE = ProblemType("session-elsewhere", 503, "Another gateway has this session", retryable=True)
UNAVAILABLE = ProblemType("unavailable", 503, "The gateway cannot store anything now", retryable=True)

RETRY_AFTER = 1
RETRY_AFTER_SESSIONS = 5
RETRY_AFTER_FULL = 30
RETRY_AFTER_SPOOL = 5
"""Seconds that a client is asked to wait."""


def problem_of(error: IngestError) -> Problem:
    """How an error of this room is told to a client."""
    match error:
        case SessionUnknown():
            return Problem(SESSION_UNKNOWN, str(error))
        case SessionClosed():
            return Problem(SESSION_CLOSED, str(error), members={"next_seq": error.next_seq})
        case SessionGone():
            return Problem(SESSION_DELETED, str(error))
        case SubjectGone():
            return Problem(SUBJECT_DELETED, str(error))
        case SubjectsUnkeyed():
            return Problem(SUBJECTS_UNKEYED, str(error))
        case SessionExists():
            return Problem(SESSION_EXISTS, str(error))
        case SequenceGap():
            return Problem(SEQUENCE_GAP, str(error), members={"expected_seq": error.expected_seq})
        case StepConflict():
            return Problem(STEP_CONFLICT, str(error), members={"seq": error.seq, "expected_seq": error.expected_seq})
        case KeyReused():
            return Problem(KEY_REUSED, str(error))
        case TooManySessions():
            limit: dict[str, Json] = {"limit": error.limit}
            return Problem(TOO_MANY_SESSIONS, str(error), retry_after=RETRY_AFTER_SESSIONS, members=limit)
        case InvalidBody():
            kind = SCHEMA_VIOLATION if isinstance(error, SchemaViolation) else INVALID_REQUEST
            place: Json = {"pointer": error.pointer, "code": error.code, "detail": error.detail}
            return Problem(kind, str(error), members={"errors": [place]})
        case LogFull():
            return Problem(LOG_FULL, "try again when there is space", retry_after=RETRY_AFTER_FULL)
        case SpoolFull():
            return Problem(SPOOL_FULL, str(error), retry_after=RETRY_AFTER_SPOOL)
        case ShareElsewhere():
            known: dict[str, Json] = {} if error.address is None else {"gateway": error.address}
            return Problem(ELSEWHERE, str(error), retry_after=RETRY_AFTER, members=known)
        case _:
            return Problem(UNAVAILABLE, "the log does not take anything now", retry_after=RETRY_AFTER)


def too_large(kind: ProblemType, what: str, actual: int | None, limit: int, seq: int | None = None) -> Problem:
    """A 413, with the limit in the body; `actual` is None where reading stopped at the limit."""
    members: dict[str, Json] = {"limit": limit}
    if actual is not None:
        members["actual"] = actual
    if seq is not None:
        members["seq"] = seq
    stated = "more than" if actual is None else f"{actual}, more than"
    return Problem(kind, f"{what}: {stated} the limit of {limit}; send less at once", members=members)
