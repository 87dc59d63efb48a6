"""Where a version comes from: the versions before it along its chain, and what each was trained on beyond the last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from publish.errors import Unreadable
from publish.manifest import Manifest, decode_manifest
from publish.signing import TrustedKeys

Point = tuple[int, int]
START: Point = (0, 0)


class Manifests(Protocol):
    """The part of a hub that is asked."""

    def manifest(self, version: int) -> bytes:
        """The stored manifest, also of a retired version. Raises VersionMissing."""


@dataclass(frozen=True)
class Stretch:
    """What one partition of a source gave between two versions: positions from `begin` up to, not including, `end`, each
    an offset and an index in the record there.

    `end` is a watermark: below it everything was trained on, beyond it some may have been (`Manifest.consumed` tells)."""

    source: str
    partition: str
    begin: Point
    end: Point


@dataclass(frozen=True)
class Link:
    """One version of a lineage, the SHA-256 of its manifest, and what it was trained on since its parent."""

    manifest: Manifest
    digest: str
    stretches: tuple[Stretch, ...]


def lineage(hub: Manifests, version: int, keys: TrustedKeys) -> Iterator[Link]:
    """The version, its parent, and so on to the first. Raises VersionMissing, Untrusted or Unreadable."""
    manifest, digest = read_manifest(hub, version, keys)
    while True:
        if manifest.parent is None:
            yield Link(manifest, digest, tuple(_stretches({}, manifest.watermark)))
            return
        if manifest.parent >= manifest.version:
            raise Unreadable(f"version {manifest.label}: its parent would be {manifest.parent:06d}, which came later")
        parent, above = read_manifest(hub, manifest.parent, keys)
        yield Link(manifest, digest, tuple(_stretches(parent.watermark, manifest.watermark)))
        manifest, digest = parent, above


def trained_on(hub: Manifests, version: int, source: str, partition: str, point: Point, keys: TrustedKeys) -> bool:
    """Whether a version was trained on everything up to and with this position. Raises what `lineage` does."""
    manifest, _ = read_manifest(hub, version, keys)
    return point < manifest.watermark.get(source, {}).get(partition, START)


def read_manifest(hub: Manifests, version: int, keys: TrustedKeys) -> tuple[Manifest, str]:
    """A verified manifest, and the SHA-256 of its stored bytes. Raises VersionMissing, Untrusted or Unreadable."""
    stored = hub.manifest(version)
    manifest = decode_manifest(stored, f"version {version:06d}")
    keys.verify(manifest)
    if manifest.version != version:
        raise Unreadable(f"version {version:06d}: its manifest is that of version {manifest.label}")
    return manifest, hashlib.sha256(stored).hexdigest()


def _stretches(
    before: Mapping[str, Mapping[str, Point]], after: Mapping[str, Mapping[str, Point]]
) -> Iterator[Stretch]:
    for source, partitions in sorted(after.items()):
        for partition, end in sorted(partitions.items()):
            begin = before.get(source, {}).get(partition, START)
            if begin != end:
                yield Stretch(source, partition, begin, end)
