"""The errors of this room.

IngestError
├── LogError
│   ├── LogLocked          another process writes this log
│   ├── OffsetOutOfRange   the records were trimmed
│   ├── LogCorrupt         the file is not a log of a format that is known here
│   ├── LayoutMismatch     the file has other topics or partitions than were asked for
│   ├── LogFull            no space is left; nothing was written
│   ├── LogBroken          a commit failed half-way; only a restart of the writer helps
│   ├── LogUnavailable     no broker answers; what became of a commit is known after `recover`
│   ├── SpoolFull          no broker answers, and the gateway's spool has taken all that it may
│   └── LogForked          opened before a fork and used after it
├── ShareElsewhere         another gateway has the share of the log that a session belongs to
├── SessionError           a session cannot do what was asked (see `ingest.sessions`)
│   ├── SessionUnknown     no such session is known (any more)
│   ├── SessionClosed      the session has ended
│   ├── SessionGone        the session was deleted
│   ├── SubjectGone        the subject was deleted
│   ├── SubjectsUnkeyed    no key is set to make pseudonyms with
│   ├── SessionExists      the id is taken by a session that was opened otherwise
│   │   └── SessionUsed    … by one that ended long ago
│   ├── SequenceGap        steps are missing before the first one sent
│   ├── StepConflict       a step was sent before with other content
│   ├── KeyReused          an idempotency key came with another request
│   └── TooManySessions    no more sessions can be open at once
├── InvalidBody            a request's body is not what the gateway takes, with a pointer to where
│   └── SchemaViolation    it is well-formed, but a step in it has a wrong shape
├── GatewayError           the gateway cannot be started
├── ClientError            what `SessionClient` raises
│   ├── BufferFull         the gateway takes steps slower than they are posted
│   ├── StepTooLarge       the gateway would refuse a step of this size
│   ├── NotDurable         `open`, `flush` or `end` ran out of time; sending goes on
│   ├── Refused            the gateway said no, for good
│   └── SessionLost        the gateway forgot steps that it had acknowledged
├── ShardError             a shard that is torn, foreign or not what its header says
│   ├── ShardGone          there is no such shard (any more)
│   ├── ShardClaimed       another writer has decided how far the shard of this name goes
│   └── SampleRemoved      the sample was deleted; its place in the archive stays
├── StoreError             the store of shards cannot do what was asked
│   ├── StoreUnavailable   it cannot be reached, or has no room; trying again may help
│   └── StoreRefused       it says no: address, credentials, rights, or what it cannot promise
├── PluginError            an app's plug-in, named `module:name`, that cannot be loaded
├── SchemaError            an app's session schema that cannot be used
├── StepRejected           the gateway found that a step breaks a rule
└── AnnotatorError         an app's annotator that broke its contract
"""

from __future__ import annotations


class IngestError(Exception):
    """Anything that goes wrong in ingest."""


class LogError(IngestError):
    """Anything that goes wrong in the log."""


class LogLocked(LogError):
    """Another process writes this log; stop it, or give this one a folder of its own."""


class OffsetOutOfRange(LogError):
    """The records asked for were trimmed; `start` is the first that is left (older ones are in the archive)."""

    def __init__(self, topic: str, partition: int, offset: int, start: int) -> None:
        super().__init__(
            f"{topic}/{partition}: offset {offset} was trimmed, the log starts at {start}; "
            "read older ones from the archive"
        )
        self.topic, self.partition, self.offset, self.start = topic, partition, offset, start


class LogCorrupt(LogError):
    """The file is not a log of a format that is known here."""


class LayoutMismatch(LogError):
    """The file has other topics or partitions than were asked for; they are fixed when it is made."""


class LogFull(LogError):
    """No space is left; nothing of the commit was written, and a later one may succeed."""


class LogBroken(LogError):
    """A commit failed half-way, so what is on disk is not known until the writer is opened anew."""


class LogUnavailable(LogError):
    """No broker answers now. Whether a commit went through is known only when the writer was recovered."""


class SpoolFull(LogError):
    """No broker answers, and the gateway's spool has taken all that it may."""


class ShareElsewhere(IngestError):
    """Another gateway has the share of the log that a session belongs to; `address` is where, if it is known."""

    def __init__(self, what: str, address: str | None) -> None:
        place = "another gateway" if address is None else f"the gateway at {address}"
        super().__init__(f"{what} belongs to {place}; send it there, or try again in a moment")
        self.address = address


class LogForked(LogError):
    """A reader or writer was opened before a fork and used after it; open it in the child."""


class SessionError(IngestError):
    """A session cannot do what was asked."""


class SessionUnknown(SessionError):
    """No such session is known: it was never opened, or it ended so long ago that it was forgotten."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is not known here; open a new one")


class SessionClosed(SessionError):
    """The session has ended, so it takes no further steps; open a new one."""

    def __init__(self, session_id: str, next_seq: int, reason: str) -> None:
        super().__init__(f"session {session_id!r} ended ({reason}) after {next_seq} steps; open a new one")
        self.next_seq = next_seq


class SessionGone(SessionError):
    """The session was deleted: nothing of it is kept, and its id is never taken again."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} was deleted; open a new one, under another id")


class SubjectGone(SessionError):
    """The subject was deleted, so no session is opened for it; who consents anew gets another subject id."""

    def __init__(self) -> None:
        super().__init__("this subject was deleted; if the person has consented anew, give them another subject id")


class SubjectsUnkeyed(SessionError):
    """A subject was named, but the gateway has no key to make a pseudonym with."""

    def __init__(self) -> None:
        super().__init__("a subject was named, but no key is set (gateway.subject_key); leave it out, or set one")


class SessionExists(SessionError):
    """The chosen id belongs to a session that was opened with another app or other metadata."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} was opened before, otherwise; choose another id")


class SessionUsed(SessionExists):
    """The chosen id is that of a session that ended so long ago that nothing else of it is known."""

    def __init__(self, session_id: str) -> None:
        SessionError.__init__(self, f"session {session_id!r} ended long ago; an id is used once: choose another")


class SequenceGap(SessionError):
    """Steps are missing before the ones that were sent; go on from `expected_seq`."""

    def __init__(self, session_id: str, seq: int, expected_seq: int) -> None:
        super().__init__(f"session {session_id!r} goes on at seq {expected_seq}, but {seq} was sent")
        self.expected_seq = expected_seq


class StepConflict(SessionError):
    """The step `seq` was taken before with other content; a step never changes."""

    def __init__(self, session_id: str, seq: int, expected_seq: int) -> None:
        super().__init__(f"step {seq} of session {session_id!r} was taken before, with other content")
        self.seq, self.expected_seq = seq, expected_seq


class KeyReused(SessionError):
    """An idempotency key came again with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used for another request; make a new one")


class TooManySessions(SessionError):
    """No more sessions can be open at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sessions are open, which is the limit; try again when some have ended")
        self.limit = limit


class InvalidBody(IngestError):
    """A body that is not what the gateway takes; `pointer` says where (a JSON pointer, its head the line or member)."""

    def __init__(self, pointer: str, code: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer, self.code, self.detail = pointer, code, detail


class SchemaViolation(InvalidBody):
    """A body that is well-formed, but something in it has a wrong shape."""


class GatewayError(IngestError):
    """The gateway cannot be started."""


class ClientError(IngestError):
    """What `SessionClient` raises."""


class BufferFull(ClientError):
    """The gateway takes steps slower than they are posted; the step was not taken, and its seq is still free."""


class StepTooLarge(ClientError):
    """The gateway would refuse a step of this size."""


class NotDurable(ClientError):
    """`open`, `flush` or `end` ran out of time before the gateway had answered; sending goes on."""


class Refused(ClientError):
    """The gateway said no, for good: `status` is HTTP's, `problem` the slug of its problem type."""

    def __init__(self, status: int, problem: str, detail: str) -> None:
        super().__init__(f"the gateway refused ({status} {problem}): {detail}")
        self.status, self.problem, self.detail = status, problem, detail


class SessionLost(ClientError):
    """The gateway forgot steps that it had acknowledged (its data were replaced); open a new session."""


class ShardError(IngestError):
    """A shard that is torn, foreign or not what its header says."""


class ShardGone(ShardError):
    """There is no shard of this name (any more): it was replaced and removed, or never published."""


class ShardClaimed(ShardError):
    """Another writer has claimed this name for a shard that ends at `end`, and has not published it (yet)."""

    def __init__(self, name: str, end: int) -> None:
        super().__init__(f"{name}: another writer has claimed this name, for a shard that ends at {end}")
        self.name, self.end = name, end


class StoreError(IngestError):
    """The store of shards cannot do what was asked."""


class StoreUnavailable(StoreError):
    """It cannot be reached, or has no room: trying again later may help."""


class StoreRefused(StoreError):
    """It says no: a wrong address, credentials, rights, or a promise that it cannot keep."""


class SampleRemoved(ShardError):
    """The sample or step was deleted from the archive; its number stays, so that all others keep theirs."""


class PluginError(IngestError):
    """An app's plug-in, named `module:name`, that cannot be loaded: a mistake in the settings, or in its module."""


class SchemaError(IngestError):
    """An app's session schema that is none, or of no known version."""


class StepRejected(IngestError):
    """The gateway found that a step breaks a rule, so no annotator is given it."""

    def __init__(self, reason: str, pointer: str, detail: str) -> None:
        super().__init__(f"{reason} at {pointer or '/'}: {detail}")


class AnnotatorError(IngestError):
    """An app's annotator that broke its contract."""
