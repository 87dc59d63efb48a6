"""The service's own repository: every version is a commit, its label a tag, and every channel a branch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from publish.directory import DirectoryHub
from publish.errors import VersionMissing
from publish.manifest import MANIFEST, decode_manifest
from publish.server.repository import MAIN, Blob, Commit, Refs, blob_oid, pointer


class VersionsRepository:
    """Read-only. `main` is the channel `default`, so that who names no revision gets what is served, and never a version
    that no gate has let through."""

    def __init__(self, hub: DirectoryHub, default: str = "stable") -> None:
        self._hub = hub
        self._default = default
        self._known: dict[int, Commit] = {}
        self._numbers: dict[str, int] = {}

    def resolve(self, revision: str) -> Commit | None:
        """Channels first, then labels, then the first forty digits of a manifest's SHA-256."""
        version = self._standing().get(revision)
        if version is None and re.fullmatch(r"[0-9]{1,12}", revision):
            version = int(revision)
        if version is not None:
            return self._commit(version) if version in self._hub.versions() else None
        for number in reversed(self._hub.versions()):
            commit = self._commit(number)
            if commit is not None and commit.sha == revision:
                return commit
        return None

    def history(self, revision: str) -> Sequence[Commit]:
        """The versions up to this one whose files are still there."""
        wanted = self.resolve(revision)
        if wanted is None:
            return ()
        commits = [commit for number in reversed(self._hub.versions()) if (commit := self._commit(number))]
        return commits[commits.index(wanted) :]

    def refs(self) -> Refs:
        """Channels and labels."""
        branches = {name: commit.sha for name, version in self._standing().items() if (commit := self._commit(version))}
        tags = {f"{number:06d}": commit.sha for number in self._hub.versions() if (commit := self._commit(number))}
        return Refs(branches, tags)

    def path(self, commit: Commit, name: str) -> Path:
        """The file in the hub's directory."""
        return self._hub.path(self._numbers[commit.sha], name)

    def _standing(self) -> dict[str, int]:
        channels = {standing.channel: standing.version for standing in self._hub.channels()}
        if self._default in channels:
            channels[MAIN] = channels[self._default]
        return channels

    def _commit(self, version: int) -> Commit | None:
        if version not in self._known:
            try:
                stored = self._hub.manifest(version)
            except VersionMissing:  # retired in between
                return None
            manifest = decode_manifest(stored, f"version {version:06d}")
            digest = hashlib.sha256(stored).hexdigest()
            files = {
                name: Blob(file.size, file.sha256, blob_oid(pointer(file.sha256, file.size)))
                for name, file in manifest.files.items()
            }
            files[MANIFEST] = Blob(len(stored), digest, blob_oid(pointer(digest, len(stored))))
            self._known[version] = Commit(
                sha=digest[:40],
                title=f"version {version:06d}",
                message=f"run {manifest.run}, branch {manifest.branch}, segment {manifest.segment}, step {manifest.step}",
                date=manifest.created_at,
                author="publisher",
                files=files,
            )
            self._numbers[digest[:40]] = version
        return self._known[version]
