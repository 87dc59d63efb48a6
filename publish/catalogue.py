"""What a hub holds, as a publisher knows it: which weights became which version, and who descends from whom."""

from __future__ import annotations

import hashlib
import logging

from publish.errors import Unreadable, Untrusted
from publish.hub import Hub
from publish.manifest import Manifest, decode_manifest
from publish.outbox import Ticket
from publish.signing import PublicKey, TrustedKeys

logger = logging.getLogger(__name__)

Origin = tuple[str, str, int, bool]


class Catalogue:
    """The manifests of every number ever committed, each read once, since none changes.

    Those that another key signed, or that cannot be read, hold their number and say nothing.
    """

    def __init__(self, hub: Hub, key: PublicKey) -> None:
        self._hub = hub
        self._trusted = TrustedKeys([key])
        self._read: set[int] = set()
        self._by_origin: dict[Origin, Manifest] = {}
        self._by_number: dict[int, tuple[Manifest, str]] = {}

    def find(self, origin: Origin) -> Manifest | None:
        """The version of these weights (run, segment, step, EMA), if there is one."""
        self._refresh()
        return self._by_origin.get(origin)

    def parent(self, ticket: Ticket) -> int | None:
        """The newest version before the ticket along its chain of segments."""
        chain = [(ticket.segment, ticket.step - 1), *((a.segment, a.step) for a in ticket.ancestors)]
        for segment, step in chain:
            before = [
                manifest
                for (run, name, at, _), manifest in self._by_origin.items()
                if (run, name) == (ticket.run, segment) and at <= step
            ]
            if before:
                return max(before, key=lambda manifest: (manifest.step, manifest.version)).version
        return None

    def next_number(self) -> int:
        """The lowest number above all that were ever committed."""
        self._refresh()
        return max(self._read, default=0) + 1

    def digest(self, version: int) -> str:
        """SHA-256 of a version's stored manifest. Raises VersionMissing, Unreadable or Untrusted."""
        stored = self._hub.manifest(version)
        self._trusted.verify(decode_manifest(stored, f"version {version:06d}"))
        return hashlib.sha256(stored).hexdigest()

    def add(self, manifest: Manifest) -> None:
        """Know a version that was committed just now."""
        self._read.add(manifest.version)
        self._by_origin[manifest.run, manifest.segment, manifest.step, manifest.ema] = manifest

    def _refresh(self) -> None:
        for number in self._hub.numbers():
            if number in self._read:
                continue
            try:
                manifest = decode_manifest(self._hub.manifest(number), f"version {number:06d}")
                self._trusted.verify(manifest)
            except (Unreadable, Untrusted) as error:
                logger.warning("version %06d is left aside: %s", number, error)
                self._read.add(number)
                continue
            self.add(manifest)
