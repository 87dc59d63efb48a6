"""What the doors need to know of a repository, whether its commits are signed versions or anybody's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

SHA = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
MAIN = "main"


class Blob(msgspec.Struct, frozen=True):
    """One file's content: its size in bytes, its SHA-256, and its name in git."""

    size: int
    sha256: str
    oid: str

    @property
    def large(self) -> bool:
        """Whether git would hold a pointer in its place."""
        return self.oid == blob_oid(pointer(self.sha256, self.size))

    @property
    def etag(self) -> str:
        """What a client's cache knows the content by."""
        return self.sha256 if self.large else self.oid


class Commit(msgspec.Struct, frozen=True):
    """A state of a repository. `date` is in Unix seconds; `files` are contents by path."""

    sha: str
    title: str
    message: str
    date: float
    author: str
    files: Mapping[str, Blob]


@dataclass(frozen=True)
class Refs:
    """Commits by the names that lead to them."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]


class Repository(Protocol):
    """What can be read of any repository."""

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a SHA leads to; None where none does."""

    def history(self, revision: str) -> Sequence[Commit]:
        """The commits that led to it, the latest first; empty where there is no such revision."""

    def refs(self) -> Refs:
        """Branches and tags."""

    def path(self, commit: Commit, name: str) -> Path:
        """Where the content of one of its files lies. Raises FileNotFoundError where it was deleted since."""


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of a large file, whose content then need not be read to name it.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def blob_oid(content: bytes) -> str:
    """The git name of a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def file_oid(path: Path) -> str:
    """The same of a file that may be larger than memory."""
    seen = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            seen.update(chunk)
    return seen.hexdigest()
