"""A hub in a directory.

    hub.json                says that this is a hub, and of which format
    versions/000042/…       one folder a version, loadable as it is, with its manifest.json
    retired/000041.json     the manifests of versions whose files are gone
    deltas/000042           what turns the version before into this one, as its manifest tells
    channels/stable.json    signed pointers
    staging/ trash/ lock    what is being made, what is being deleted, and the lock that writers share

A version becomes visible by one rename of a synced folder; a pointer by one replace. Readers take no lock and write
nothing, so a follower may mount the hub read-only.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from publish import durable
from publish.errors import ChannelMoved, HubUnavailable, Unreadable, VersionMissing, VersionTaken
from publish.manifest import MANIFEST, Manifest, check_names
from publish.pointer import Pointer, check_channel, decode_pointer
from publish.settings import FollowSettings

FORMAT = 1
MARK = "hub.json"


class DirectoryHub:
    """The hub in `root`. `poll` is the seconds between two looks of a watcher.

    With `create` (a publisher's), it is made where there is none. Without, a folder that is no hub, such as the
    mount point of a disk that is away, is HubUnavailable, and never an empty hub whose numbers would start again.
    """

    def __init__(self, root: Path, *, create: bool = False, poll: float = 0.005) -> None:
        self._root = root
        self._poll = poll
        self._known = False
        if create:
            durable.make_folder(root)
            durable.sweep(root / "staging")
            with durable.locked(root / "lock"):
                if not (root / MARK).exists():
                    durable.replace_file(root / MARK, msgspec.json.encode({"format": FORMAT}), alone=True)

    @property
    def name(self) -> str:
        """The directory's address."""
        return self._root.resolve().as_uri()

    @property
    def place(self) -> FollowSettings:
        """What a follower in another process opens."""
        return FollowSettings(hub=self._root.absolute())

    def numbers(self) -> Sequence[int]:
        """Every number that was ever committed, ascending."""
        return sorted({*self.versions(), *(int(path.stem) for path in self._listed("retired"))})

    def versions(self) -> Sequence[int]:
        """The numbers whose files are still there, ascending."""
        return sorted(int(path.name) for path in self._listed("versions"))

    def manifest(self, version: int) -> bytes:
        """The stored manifest of a version, also of a retired one."""
        self._require()
        for path in (self._version(version) / MANIFEST, self._retired(version)):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                continue
        raise VersionMissing(f"version {version:06d}: not in {self._root}")

    @contextmanager
    def open(self, version: int, name: str) -> Iterator[BinaryIO]:
        """One file of a version; it stays readable while it is open, also when the version is retired meanwhile."""
        self._require()
        check_names([name])
        try:
            file = (self._version(version) / name).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise VersionMissing(f"version {version:06d}: {name!r} is not in {self._root}") from error
        with file:
            yield file

    def delta_path(self, version: int) -> Path:
        """Where the delta beside a version lies. Raises FileNotFoundError."""
        self._require()
        path = self._delta(version)
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    @contextmanager
    def open_delta(self, version: int) -> Iterator[BinaryIO]:
        """The delta beside a version."""
        self._require()
        try:
            file = self._delta(version).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise VersionMissing(f"version {version:06d}: its delta is not in {self._root}") from error
        with file:
            yield file

    def commit(self, manifest: Manifest, files: Mapping[str, Path], delta: Path | None = None) -> None:
        """Stage the version, sync it, and rename it into sight under the lock."""
        check_names(files)
        self._require()
        durable.make_folder(self._root / "versions")
        with durable.staging(self._root / "staging") as staged:
            version = staged / "version"
            version.mkdir()
            for name, source in files.items():
                target = version / name
                target.parent.mkdir(parents=True, exist_ok=True)
                durable.link_or_copy(source, target)
            durable.write_file(version / MANIFEST, manifest.encode())
            for folder in {(version / name).parent for name in (*files, MANIFEST)}:
                durable.sync_folder(folder)
            if delta is not None:
                durable.make_folder(self._root / "deltas")
                durable.link_or_copy(delta, staged / "delta")
            with durable.locked(self._root / "lock"):
                last = max(self.numbers(), default=0)
                if manifest.version <= last:
                    raise VersionTaken(
                        f"version {manifest.label}: numbers up to {last:06d} are taken; sign for a later one"
                    )
                if delta is not None:  # first, since a version is whole only with what its manifest tells of
                    os.replace(staged / "delta", self._delta(manifest.version))
                    durable.sync_folder(self._root / "deltas")
                os.rename(version, self._version(manifest.version))
                durable.sync_folder(self._root / "versions")

    def path(self, version: int, name: str) -> Path:
        """Where one file of a version lies, its manifest among them. Raises FileNotFoundError."""
        self._require()
        if name != MANIFEST:
            check_names([name])
        path = self._version(version) / name
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    def channels(self) -> Sequence[Pointer]:
        """Where every channel stands, not verified."""
        self._require()
        paths = sorted((self._root / "channels").glob("[a-z0-9]*.json"))
        return [found for path in paths if (found := self.channel(path.stem))]

    def channel(self, channel: str) -> Pointer | None:
        """Where a channel stands, not verified."""
        path = self._channel(channel)
        self._require()
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        return decode_pointer(stored, str(path), "move it aside and promote a version")

    def move(self, pointer: Pointer) -> None:
        """Compare and swap under the lock."""
        path = self._channel(pointer.channel)
        self._require()
        durable.make_folder(path.parent)
        with durable.locked(self._root / "lock"):
            now = self.channel(pointer.channel)
            generation = now.generation if now else 0
            if pointer.generation != generation + 1:
                raise ChannelMoved(
                    f"channel {pointer.channel!r}: it stands at generation {generation}, "
                    f"which {pointer.generation} does not follow; read it again"
                )
            if not self._version(pointer.version).is_dir():
                raise VersionMissing(
                    f"version {pointer.version:06d}: its files are not in {self._root}; choose another"
                )
            durable.replace_file(path, msgspec.json.encode(pointer, order="sorted"), alone=True)

    def watch(self, channel: str, seen: int, timeout: float) -> Pointer | None:
        """Look at the pointer's stamp every `poll` seconds, and into it when the stamp has changed.

        It is read at every call too: a file system may give a new file an old one's number within one tick of its
        clock.
        """
        deadline = time.monotonic() + timeout
        path = self._channel(channel)
        while True:
            stamp = _stamp(path)
            found = self.channel(channel)
            if found is not None and found.generation != seen:
                return found
            while _stamp(path) == stamp:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                time.sleep(min(self._poll, left))

    def retire(self, keep: int) -> Sequence[int]:
        """Under the lock, so that no channel is moved to a version while it goes."""
        if keep < 1:
            raise ValueError(f"keep: {keep}, but the newest version always stays; give 1 or more")
        self._require()
        with durable.locked(self._root / "lock"):
            versions = self.versions()
            needed = {*versions[-keep:], *self._pointed()}
            gone = [version for version in versions if version not in needed]
            for version in gone:
                self._retire(version)
            self._drop_deltas(min(versions[-keep:], default=0))
        durable.remove_tree(self._root / "trash")
        return gone

    def _retire(self, version: int) -> None:
        durable.make_folder(self._root / "retired")
        durable.make_folder(self._root / "trash")
        durable.replace_file(self._retired(version), (self._version(version) / MANIFEST).read_bytes(), alone=True)
        os.rename(self._version(version), self._root / "trash" / uuid.uuid4().hex)
        durable.sync_folder(self._root / "versions")

    def _drop_deltas(self, oldest: int) -> None:
        """Delete those that lead up to the oldest version that stays by its number. Whoever is further behind than that,
        as on a pinned channel, catches up with a full version."""
        for path in self._listed("deltas"):
            if int(path.name) <= oldest:
                path.unlink(missing_ok=True)

    def _pointed(self) -> Iterator[int]:
        for found in self.channels():
            yield from (found.version, *found.history)

    def _listed(self, folder: str) -> Iterator[Path]:
        self._require()
        try:
            names = os.listdir(self._root / folder)
        except FileNotFoundError:
            return
        yield from (self._root / folder / name for name in names if name.partition(".")[0].isdigit())

    def _require(self) -> None:
        """Raise HubUnavailable where there is no hub; look into its mark once."""
        if self._known:
            if not (self._root / MARK).exists():
                raise HubUnavailable(f"{self._root}: the hub is gone; is it mounted?")
            return
        try:
            stored = msgspec.json.decode((self._root / MARK).read_bytes())
        except OSError as error:
            raise HubUnavailable(f"{self._root}: there is no hub here (yet); is it mounted?") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreadable(f"{self._root / MARK}: not the mark of a hub ({error})") from error
        if stored != {"format": FORMAT}:
            raise Unreadable(f"{self._root / MARK}: {stored}; only format {FORMAT} is known here")
        self._known = True

    def _version(self, version: int) -> Path:
        return self._root / "versions" / f"{version:06d}"

    def _delta(self, version: int) -> Path:
        return self._root / "deltas" / f"{version:06d}"

    def _retired(self, version: int) -> Path:
        return self._root / "retired" / f"{version:06d}.json"

    def _channel(self, channel: str) -> Path:
        check_channel(channel)
        return self._root / "channels" / f"{channel}.json"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
