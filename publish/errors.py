"""The errors of this room.

PublishError
├── KeyFileInvalid         a signing or public key that is not one of ours
├── VerificationError      what was read must not be used
│   ├── Untrusted          no key of the reader's configuration made this signature
│   ├── DigestMismatch     a file is not the one that was signed
│   ├── Replayed           an older state of a channel was shown again
│   └── FileNotAllowed     a name that no version may hold
├── HubError
│   ├── HubUnavailable     the hub cannot be reached now; later may be better
│   ├── VersionTaken       another publisher was first with this number
│   ├── VersionMissing     no such version, or its files were retired
│   ├── ChannelMoved       another one moved the channel in between
│   └── Unreadable         a stored manifest or pointer of no known form
├── HubAddressTaken        the embedded hub cannot listen where it should
├── OutboxError
│   └── OutboxLocked       another publisher serves this outbox
├── CacheLocked            another follower uses this cache
├── WeightsMismatch        names, shapes or dtypes are not those that are served
└── NotServing             neither a version nor a packaged base is loaded
"""

from __future__ import annotations


class PublishError(Exception):
    """Anything that goes wrong between a checkpoint and the process that serves it."""


class KeyFileInvalid(PublishError):
    """A signing or public key that is not one of ours."""


class VerificationError(PublishError):
    """What was read must not be used; the version that is served stays."""


class Untrusted(VerificationError):
    """No key of the reader's configuration made this signature."""


class DigestMismatch(VerificationError):
    """A file is not the one that was signed."""


class Replayed(VerificationError):
    """An older state of a channel was shown again."""


class FileNotAllowed(VerificationError):
    """A name that no version may hold."""


class HubError(PublishError):
    """Anything that goes wrong at a hub."""


class HubUnavailable(HubError):
    """The hub cannot be reached now; later may be better. `retry_after` is the seconds that it asks to be left alone."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class VersionTaken(HubError):
    """Another publisher was first with this number; sign for the next one."""


class VersionMissing(HubError):
    """No such version, or its files were retired."""


class ChannelMoved(HubError):
    """Another one moved the channel in between; read it and decide again."""


class Unreadable(HubError):
    """A stored manifest or pointer of no form that is known here."""


class HubAddressTaken(PublishError):
    """The embedded hub cannot listen where it should."""


class OutboxError(PublishError):
    """Anything that goes wrong in the outbox."""


class OutboxLocked(OutboxError):
    """Another publisher serves this outbox; stop it, or give this one an outbox of its own."""


class CacheLocked(PublishError):
    """Another follower uses this cache; give each serving process its own."""


class WeightsMismatch(PublishError):
    """Names, shapes or dtypes of the new weights are not those that are served."""


class NotServing(PublishError):
    """Neither a version nor a packaged base is loaded."""
