"""Which deltas lead from a version that is here to one that is wanted, and whether they are worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from publish.manifest import Base, Manifest

LONGEST = 32
"""Links, at most: each is a pass over the whole model on the follower's machine."""


def chain(wanted: Manifest, here: Callable[[str], bool], read: Callable[[Base], Manifest]) -> Sequence[Manifest]:
    """The versions to rebuild one after the other; the first one's base is here.

    Empty where there is no such way, or where it is longer than `LONGEST` or costs as many bytes as the full version.
    `here` is asked by the digest of a manifest, and `read` fetches and verifies one.
    """
    links: list[Manifest] = []
    cost, manifest = 0, wanted
    while isinstance(base := manifest.base, Base):
        links.append(manifest)
        cost += base.file.size
        if cost >= wanted.size or len(links) > LONGEST:
            break
        if here(base.manifest_sha256):
            return links[::-1]
        manifest = read(base)
    return ()
