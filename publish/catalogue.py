"""What a hub holds, as a publisher knows it: which weights became which version, and who descends from whom."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from publish import durable
from publish.errors import Unreadable, Untrusted
from publish.hub import Hub, ReadableHub
from publish.manifest import Manifest, decode_manifest
from publish.outbox import Ticket
from publish.signing import TrustedKeys

logger = logging.getLogger(__name__)

Origin = tuple[str, str, int, bool]
ORIGIN = (0, 0)


@dataclass(frozen=True)
class Known:
    """A verified manifest and the SHA-256 of its stored bytes, which pointers are signed for."""

    manifest: Manifest
    digest: str


def fetch(hub: ReadableHub, known: Known, folder: Path) -> dict[str, Path]:
    """The version's files into an empty folder, by name. Raises Unreadable for one that is not what was signed."""
    found: dict[str, Path] = {}
    for name, expected in known.manifest.files.items():
        found[name] = target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with hub.open(known.manifest.version, name) as source:
            if durable.copy_and_digest(source, target, expected.size) != expected:
                raise Unreadable(f"version {known.manifest.label}: {name} is not the file that was signed")
    return found


class Catalogue:
    """The manifests of every number ever committed, each read once, since none changes.

    Those that another key signed, or that cannot be read, hold their number and say nothing.
    """

    def __init__(self, hub: Hub, keys: TrustedKeys) -> None:
        self._hub = hub
        self._trusted = keys
        self._numbers: set[int] = set()
        self._by_origin: dict[Origin, Known] = {}

    def find(self, origin: Origin) -> Known | None:
        """The version of these weights (run, segment, step, EMA), if there is one."""
        self._refresh()
        return self._by_origin.get(origin)

    def parent(self, ticket: Ticket) -> int | None:
        """The newest version before the ticket along its chain of segments."""
        chain = [(ticket.segment, ticket.step - 1), *((a.segment, a.step) for a in ticket.ancestors)]
        for segment, step in chain:
            before = [
                known.manifest
                for (run, name, at, _), known in self._by_origin.items()
                if (run, name) == (ticket.run, segment) and at <= step
            ]
            if before:
                return max(before, key=lambda manifest: (manifest.step, manifest.version)).version
        return None

    def rewound_by(self, ticket: Ticket) -> int | None:
        """The run's newest version, if it was trained on samples beyond the ticket's watermark, as after a load."""
        latest = max(
            (known.manifest for (run, *_), known in self._by_origin.items() if run == ticket.run),
            key=lambda manifest: manifest.version,
            default=None,
        )
        if latest is None:
            return None
        for source, partitions in latest.watermark.items():
            reached = ticket.watermark.get(source, {})
            if any(point > reached.get(partition, ORIGIN) for partition, point in partitions.items()):
                return latest.version
        return None

    def next_number(self) -> int:
        """The lowest number above all that were ever committed."""
        self._refresh()
        return max(self._numbers, default=0) + 1

    def read(self, version: int) -> Known:
        """One version as the hub has it now, verified. Raises VersionMissing, Unreadable or Untrusted."""
        stored = self._hub.manifest(version)
        where = f"version {version:06d} of {self._hub.name}"
        manifest = decode_manifest(stored, where)
        self._trusted.verify(manifest)
        if manifest.version != version:
            raise Unreadable(f"{where}: its manifest is that of version {manifest.label}")
        return Known(manifest, hashlib.sha256(stored).hexdigest())

    def add(self, manifest: Manifest) -> Known:
        """Know a version that was committed just now."""
        known = Known(manifest, hashlib.sha256(manifest.encode()).hexdigest())
        self._learn(known)
        return known

    def _learn(self, known: Known) -> None:
        manifest = known.manifest
        self._numbers.add(manifest.version)
        self._by_origin[manifest.run, manifest.segment, manifest.step, manifest.ema] = known

    def _refresh(self) -> None:
        for number in self._hub.numbers():
            if number in self._numbers:
                continue
            try:
                self._learn(self.read(number))
            except (Unreadable, Untrusted) as error:
                logger.warning("version %06d is left aside: %s", number, error)
                self._numbers.add(number)
