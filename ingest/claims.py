"""Claims: what a log decides for a store that cannot refuse to overwrite.

The first value that is claimed under a name stands for ever; whoever claims later is told it. An archiver claims where
its shard ends before it uploads it. So all who ever upload under that name, also one that was asleep for an hour,
upload the same records, and the chain has no gap and no overlap (docs/decisions/0002).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Claims(Protocol):
    """Decides, once for each name. Used from any thread and any process; opened after a fork."""

    def claim(self, name: str, value: bytes) -> bytes:
        """The value that was claimed first under `name`, durable when this returns: `value`, or another's."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ClaimingLog(Protocol):
    """A log that can decide. Only configuration, so it can be pickled."""

    def claims(self) -> Claims:
        """Open its claims."""
        ...
