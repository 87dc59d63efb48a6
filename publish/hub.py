"""Where versions are kept: what every hub can do, and no more than a directory, S3 and the Hugging Face Hub all can.

A hub stores and orders; it is trusted with nothing. Signatures are made by the publisher and checked by the follower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from publish.manifest import Manifest
from publish.pointer import Pointer


class ReadableHub(Protocol):
    """What a follower needs of a hub. Every method raises HubUnavailable where the hub cannot be reached."""

    @property
    def name(self) -> str:
        """Which hub this is, the same in every process: an address."""

    def manifest(self, version: int) -> bytes:
        """The stored manifest, byte by byte, also of a retired version. Raises VersionMissing."""

    def open(self, version: int, name: str) -> AbstractContextManager[BinaryIO]:
        """One file of a version, to read from the start. Raises VersionMissing."""

    def open_delta(self, version: int) -> AbstractContextManager[BinaryIO]:
        """The delta that the manifest's `base` tells of, to read from the start. Raises VersionMissing."""

    def channel(self, channel: str) -> Pointer | None:
        """Where a channel stands, not verified; None where it was never set."""

    def watch(self, channel: str, seen: int, timeout: float) -> Pointer | None:
        """Wait until the channel's generation is not `seen` and return its pointer; None after `timeout` seconds."""


class Hub(ReadableHub, Protocol):
    """Immutable, numbered versions, and channels that name one of them.

    Every method raises HubUnavailable where the hub cannot be reached.
    """

    def numbers(self) -> Sequence[int]:
        """Every number that was ever committed, ascending; none is used again."""

    def versions(self) -> Sequence[int]:
        """The numbers whose files are still there, ascending."""

    def commit(self, manifest: Manifest, files: Mapping[str, Path], delta: Path | None = None) -> None:
        """Store a signed version, and the delta that lies beside it: durable and whole on return, absent on failure.

        Files may be linked, so nobody changes them afterwards. Raises VersionTaken unless the number is above
        every one that was committed before.
        """

    def move(self, pointer: Pointer) -> None:
        """Replace the channel's pointer by this signed one if its generation is exactly the next, durably.

        Raises ChannelMoved where it is not, VersionMissing where the version's files are gone.
        """

    def retire(self, keep: int) -> Sequence[int]:
        """Delete the files of all but the newest `keep` versions, and return the numbers retired now.

        What a channel points at or may roll back to stays, and so do all manifests, and the deltas that lead from the
        oldest of those newest versions to the last.
        """
