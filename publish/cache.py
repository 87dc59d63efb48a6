"""The follower's own copy of versions: nothing is in it that was not verified, and nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from publish import durable
from publish.chain import chain
from publish.delta import apply_delta
from publish.errors import CacheLocked, DigestMismatch, HubUnavailable, PublishError, Unreadable
from publish.hub import ReadableHub
from publish.manifest import MANIFEST, Base, FileDigest, Manifest, check_names, decode_manifest
from publish.pointer import Pointer
from publish.signing import TrustedKeys

FORMAT = 1

logger = logging.getLogger(__name__)


NO_FILE = FileDigest("no file", 0)


class State(msgspec.Struct, frozen=True):
    """What the follower remembers over a restart: the last generation it obeyed, what it served then and before,
    and the manifest that this server's own alarms sent away."""

    format: int
    hub: str
    channel: str
    generation: int = 0
    version: int = 0
    digest: str = ""
    previous: str = ""
    refused: str = ""


_decode_state = msgspec.json.Decoder(State).decode


@dataclass(frozen=True)
class Obtained:
    """A verified version in the cache. `received` is the bytes of files and deltas that were fetched for it, and `links`
    the number of deltas that it was rebuilt from (0: it was here already, or was fetched in full)."""

    manifest: Manifest
    folder: Path
    received: int = 0
    links: int = 0


class Cache:
    """A folder of verified versions, named by the digest of their manifest, and the follower's state."""

    def __init__(self, root: Path, keys: TrustedKeys) -> None:
        self._root = root
        self._keys = keys
        durable.make_folder(root / "versions")

    @contextmanager
    def used(self) -> Iterator[None]:
        """Be the only follower of this cache. Raises CacheLocked where another is."""
        try:
            with durable.locked(self._root / "lock", wait=False):
                durable.sweep(self._root / "staging")
                yield
        except BlockingIOError as error:
            raise CacheLocked(
                f"{self._root}: another follower uses this cache; give each serving process its own"
            ) from error

    def obtain(self, hub: ReadableHub, pointer: Pointer) -> Obtained:
        """The version that a verified pointer names, fetched and verified; at once where it is here already.

        It is rebuilt from a version that is here where the deltas are fewer bytes, else fetched in full. Raises
        DigestMismatch, Untrusted, Unreadable or HubError; then nothing of it stays.
        """
        folder = self._folder(pointer.manifest_sha256)
        if folder.is_dir():
            try:
                return Obtained(*self.verified(pointer.manifest_sha256))
            except (DigestMismatch, Unreadable):
                durable.remove_tree(folder)
        stored = hub.manifest(pointer.version)
        manifest = self._check(stored, pointer.manifest_sha256)
        if manifest.version != pointer.version:
            raise DigestMismatch(f"version {pointer.version:06d}: its manifest is that of version {manifest.label}")
        with durable.staging(self._root / "staging") as staged:
            links = self._chain(hub, manifest)
            if not links or (version := self._rebuild(hub, links, staged)) is None:
                links, version = (), staged / "version"
                self._fetch(hub, manifest, version)
            (version / MANIFEST).write_bytes(stored)
            os.rename(version, folder)  # not synced: everything is verified again when it is read after a crash
        received = sum(link.base.file.size for link in links if isinstance(link.base, Base))
        return Obtained(manifest, folder, received or manifest.size, len(links))

    def _fetch(self, hub: ReadableHub, manifest: Manifest, folder: Path) -> None:
        folder.mkdir()
        for name, expected in manifest.files.items():
            with hub.open(manifest.version, name) as source:
                _take(source, name, expected, folder / name)

    def _chain(self, hub: ReadableHub, manifest: Manifest) -> Sequence[Manifest]:
        def read(base: Base) -> Manifest:
            return self._check(hub.manifest(base.version), base.manifest_sha256)

        try:
            return chain(manifest, lambda digest: self._folder(digest).is_dir(), read)
        except HubUnavailable:
            raise
        except PublishError as error:  # there is still the full version
            logger.warning("version %s is not rebuilt from deltas: %s", manifest.label, error)
            return ()

    def _rebuild(self, hub: ReadableHub, links: Sequence[Manifest], scratch: Path) -> Path | None:
        """A folder with the files of the last link, each verified; None where a delta or the base was not as signed."""
        folder: Path | None = None
        try:
            for link in links:
                assert isinstance(link.base, Base), "a chain is made of versions with a base"
                standing = folder or self._folder(link.base.manifest_sha256)
                delta, folder = scratch / f"{link.label}.delta", scratch / link.label
                folder.mkdir()
                with hub.open_delta(link.version) as source:
                    _take(source, f"the delta of version {link.label}", link.base.file, delta)
                made = dict(apply_delta(delta, standing, folder))
                for name in {*made, *link.files}:
                    _same(name, link.files.get(name, NO_FILE), made.get(name, NO_FILE))
                delta.unlink()
        except HubUnavailable:
            raise
        except (PublishError, OSError) as error:  # what is wrong may be ours: the full version will tell
            logger.warning("version %s is not rebuilt from deltas: %s", links[-1].label, error)
            return None
        return folder

    def verified(self, digest: str) -> tuple[Manifest, Path]:
        """A version of the cache, every byte checked again. Raises Unreadable where it is not whole."""
        folder = self._folder(digest)
        try:
            manifest = self._check((folder / MANIFEST).read_bytes(), digest)
            for name, expected in manifest.files.items():
                _same(name, expected, durable.digest_of(folder / name))
        except OSError as error:
            raise Unreadable(f"{folder}: the cached version is not whole ({error})") from error
        return manifest, folder

    def standing(self, digest: str) -> tuple[Manifest, Path]:
        """A version that was put here just now: its manifest is the one of this digest, which whoever asks has from a
        verified pointer; its signature and its files were verified by `obtain`."""
        folder = self._folder(digest)
        return _read((folder / MANIFEST).read_bytes(), digest), folder

    def prune(self, keep: Iterable[str]) -> None:
        """Delete every version but these digests."""
        kept = set(keep)
        for folder in (self._root / "versions").iterdir():
            if folder.name not in kept:
                durable.remove_tree(folder)

    def load_state(self, hub: str, channel: str) -> State:
        """The state for this hub and channel; a fresh one where there is none, or it is another's or unreadable."""
        fresh = State(FORMAT, hub, channel)
        try:
            state = _decode_state((self._root / "state.json").read_bytes())
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return fresh
        if state.format != FORMAT:
            return fresh
        if (state.hub, state.channel) != (hub, channel):
            return msgspec.structs.replace(fresh, digest=state.digest, previous=state.previous)
        return state

    def save_state(self, state: State) -> None:
        """Remember, durably."""
        durable.replace_file(self._root / "state.json", msgspec.json.encode(state), alone=True)

    def _check(self, stored: bytes, digest: str) -> Manifest:
        manifest = _read(stored, digest)
        self._keys.verify(manifest)
        check_names(manifest.files)
        return manifest

    def _folder(self, digest: str) -> Path:
        return self._root / "versions" / digest


def _read(stored: bytes, digest: str) -> Manifest:
    actual = hashlib.sha256(stored).hexdigest()
    if actual != digest:
        raise DigestMismatch(f"manifest: its SHA-256 is {actual}, the pointer was signed for {digest}")
    return decode_manifest(stored, "manifest")


def _take(source: BinaryIO, name: str, expected: FileDigest, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _same(name, expected, durable.copy_and_digest(source, target, expected.size))


def _same(name: str, expected: FileDigest, actual: FileDigest) -> None:
    if actual != expected:
        raise DigestMismatch(
            f"{name}: {actual.size} bytes with SHA-256 {actual.sha256}, "
            f"signed were {expected.size} with {expected.sha256}"
        )
