"""Plain repositories in a directory: anybody with the scope may commit to them.

    NAMESPACE/NAME/repository.json   its format
    NAMESPACE/NAME/objects/9f86d0…   contents by SHA-256
    NAMESPACE/NAME/commits/b1946a…   commits: JSON, with all their files
    NAMESPACE/NAME/refs.json         branches and tags
    NAMESPACE/NAME/staging lock      what is being made, and the writers' lock

A commit is visible by one replacement of `refs.json`, when everything that it leads to is durable.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from publish import durable
from publish.errors import PublishError, Unreadable
from publish.manifest import FileDigest
from publish.server.repository import MAIN, NAME, SHA, SHA256, Blob, Commit, Refs, blob_oid, file_oid, pointer

FORMAT = 1
MARK = "repository.json"


class Conflict(PublishError):
    """A name that is taken, or a parent that is not the latest commit any more."""


class _Stored(msgspec.Struct, frozen=True):
    commit: Commit
    parent: str | None


_decode_stored = msgspec.json.Decoder(_Stored).decode


class _Refs(msgspec.Struct, frozen=True):
    branches: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}


_decode_refs = msgspec.json.Decoder(_Refs).decode


class StoredRepository:
    """One of them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def resolve(self, revision: str) -> Commit | None:
        """Branches first, then tags, then SHAs."""
        refs = self._refs()
        sha = refs.branches.get(revision) or refs.tags.get(revision) or revision
        stored = self._read(sha)
        return stored.commit if stored else None

    def history(self, revision: str) -> Sequence[Commit]:
        """Along the parents."""
        commits = []
        commit = self.resolve(revision)
        while commit is not None:
            commits.append(commit)
            stored = self._read(commit.sha)
            above = self._read(stored.parent) if stored and stored.parent else None
            commit = above.commit if above else None
        return commits

    def refs(self) -> Refs:
        """As they stand."""
        stored = self._refs()
        return Refs(stored.branches, stored.tags)

    def path(self, commit: Commit, name: str) -> Path:
        """The object."""
        return self._root / "objects" / commit.files[name].sha256

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder to receive contents in, on the same file system."""
        return durable.staging(self._root / "staging")

    def store(self, content: bytes, scratch: Path) -> Blob:
        """Keep a content, durably; it belongs to no commit yet."""
        sha256 = hashlib.sha256(content).hexdigest()
        target = self._root / "objects" / sha256
        if not target.exists():
            durable.make_folder(target.parent)
            staged = scratch / sha256
            durable.write_file(staged, content)
            os.replace(staged, target)
            durable.sync_folder(target.parent)
        return Blob(len(content), sha256, blob_oid(content))

    def adopt(self, staged: Path, found: FileDigest, *, large: bool = False) -> Blob:
        """The same for a file on the same file system, whose content is `found`; it is moved. `large` says that git is
        to hold a pointer in its place."""
        oid = blob_oid(pointer(found.sha256, found.size)) if large else file_oid(staged)
        target = self._root / "objects" / found.sha256
        if not target.exists():
            durable.make_folder(target.parent)
            durable.sync_file(staged)
            os.replace(staged, target)
            durable.sync_folder(target.parent)
        return Blob(found.size, found.sha256, oid)

    def large(self, sha256: str) -> Blob | None:
        """A content that was uploaded or committed before, as a large file; None where there is none."""
        path = self.content(sha256)
        if path is None:
            return None
        size = path.stat().st_size
        return Blob(size, sha256, blob_oid(pointer(sha256, size)))

    def content(self, sha256: str) -> Path | None:
        """Where a content lies that was uploaded or committed before; None where there is none."""
        path = self._root / "objects" / sha256
        return path if SHA256.fullmatch(sha256) and path.is_file() else None

    def commit(
        self,
        branch: str,
        change: Callable[[dict[str, Blob]], None],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None,
    ) -> Commit:
        """Put what `change` makes of the branch's files on top of it. With `parent`, only if that is the latest commit:
        its SHA, or as many first digits of it as are given. Raises Conflict otherwise."""
        with durable.locked(self._root / "lock"):
            refs = self._refs()
            latest = refs.branches.get(branch)
            if parent is not None and (latest is None or not latest.startswith(parent)):
                raise Conflict(f"{branch}: its latest commit is {latest}, not {parent}; look at it and commit again")
            standing = self._read(latest) if latest else None
            files = dict(standing.commit.files) if standing else {}
            change(files)
            commit = self._write(files, title, message, author, latest)
            self._point(_Refs({**refs.branches, branch: commit.sha}, refs.tags))
        return commit

    def add_branch(self, name: str, revision: str | None) -> None:
        """Raises Conflict where there is one, KeyError for a starting point that is none."""
        self._add(name, revision or MAIN, branch=True)

    def add_tag(self, name: str, revision: str) -> None:
        """Raises Conflict where there is one, KeyError for a revision that is none."""
        self._add(name, revision, branch=False)

    def remove(self, name: str, *, branch: bool) -> None:
        """Take a branch or tag away. Raises KeyError where there is none."""
        with durable.locked(self._root / "lock"):
            refs = self._refs()
            branches, tags = dict(refs.branches), dict(refs.tags)
            del (branches if branch else tags)[name]
            self._point(_Refs(branches, tags))

    def _add(self, name: str, revision: str, *, branch: bool) -> None:
        if not NAME.fullmatch(name) or SHA.fullmatch(name):
            raise Conflict(f"{name!r}: a branch or tag is 1 to 96 letters, digits, '.', '_' and '-'")
        with durable.locked(self._root / "lock"):
            refs = self._refs()
            taken = refs.branches if branch else refs.tags
            if name in taken:
                raise Conflict(f"{name!r}: there is one of that name already")
            commit = self.resolve(revision)
            if commit is None:
                raise KeyError(revision)
            added = {**taken, name: commit.sha}
            self._point(_Refs(added, refs.tags) if branch else _Refs(refs.branches, added))

    def _write(self, files: Mapping[str, Blob], title: str, message: str, author: str, parent: str | None) -> Commit:
        commit = Commit("", title, message, time.time(), author, files)
        sha = hashlib.sha1(msgspec.json.encode((commit, parent)), usedforsecurity=False).hexdigest()
        commit = msgspec.structs.replace(commit, sha=sha)
        if files:  # those too that another upload has only just put there
            durable.sync_folder(self._root / "objects")
        durable.make_folder(self._root / "commits")
        durable.replace_file(self._root / "commits" / sha, msgspec.json.encode(_Stored(commit, parent)), alone=True)
        return commit

    def _point(self, refs: _Refs) -> None:
        durable.replace_file(self._root / "refs.json", msgspec.json.encode(refs), alone=True)

    def _refs(self) -> _Refs:
        try:
            return _decode_refs((self._root / "refs.json").read_bytes())
        except FileNotFoundError:
            return _Refs()

    def _read(self, sha: str) -> _Stored | None:
        if not SHA.fullmatch(sha):
            return None
        try:
            return _decode_stored((self._root / "commits" / sha).read_bytes())
        except FileNotFoundError:
            return None


class Repositories:
    """All plain repositories below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, namespace: str, name: str) -> StoredRepository | None:
        """The repository of that name. Raises Unreadable for one of a format not known here."""
        folder = self._folder(namespace, name)
        try:
            stored = msgspec.json.decode((folder / MARK).read_bytes()) if folder else None
        except FileNotFoundError:
            return None
        if folder is None:
            return None
        if stored != {"format": FORMAT}:
            raise Unreadable(f"{folder / MARK}: {stored}; only format {FORMAT} is known here")
        return StoredRepository(folder)

    def create(self, namespace: str, name: str) -> StoredRepository:
        """Make one with an empty first commit. Raises Conflict where there is one, ValueError for a bad name."""
        folder = self._folder(namespace, name)
        if folder is None:
            raise ValueError(f"{namespace}/{name}: a name is 1 to 96 letters, digits, '.', '_' and '-'")
        durable.make_folder(folder)
        with durable.locked(folder / "lock"):
            if (folder / MARK).exists():
                raise Conflict(f"{namespace}/{name}: there is a repository of that name already")
            repository = StoredRepository(folder)
            first = repository._write({}, "initial commit", "", "hub", None)
            repository._point(_Refs({MAIN: first.sha}))
            durable.replace_file(folder / MARK, msgspec.json.encode({"format": FORMAT}), alone=True)
        return repository

    def delete(self, namespace: str, name: str) -> bool:
        """Take one away at once; False where there is none."""
        folder = self._folder(namespace, name)
        if folder is None or not (folder / MARK).exists():
            return False
        (folder / MARK).unlink()
        durable.sync_folder(folder)
        durable.remove_tree(folder)
        return True

    def names(self) -> Iterable[str]:
        """Every repository, as `namespace/name`."""
        return sorted(path.parent.relative_to(self._root).as_posix() for path in self._root.glob(f"*/*/{MARK}"))

    def _folder(self, namespace: str, name: str) -> Path | None:
        return self._root / namespace / name if NAME.fullmatch(namespace) and NAME.fullmatch(name) else None
