"""A commit as the client sends it: lines of JSON, a header first, then one operation each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from publish.server.contents import Line, read_lines
from publish.server.repository import Blob, Commit, pointer
from publish.server.stored import StoredRepository

T = TypeVar("T")

_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\0\\][^\0\\]{0,1023}")


class _Line(msgspec.Struct, frozen=True):
    key: str
    value: msgspec.Raw


class _Header(msgspec.Struct, frozen=True):
    summary: str
    description: str = ""
    parentCommit: str | None = None  # noqa: N815 - as it is on the wire


class _File(msgspec.Struct, frozen=True):
    path: str
    content: bytes  # base64 on the wire
    encoding: str = "base64"


class _Large(msgspec.Struct, frozen=True):
    path: str
    oid: str
    algo: str = "sha256"


class _Path(msgspec.Struct, frozen=True):
    path: str


_lines, _headers = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Header)
_files, _larges, _paths = msgspec.json.Decoder(_File), msgspec.json.Decoder(_Large), msgspec.json.Decoder(_Path)


@dataclass
class Received:
    """A commit that was read to its end, its contents stored: what is left is to put it on a branch."""

    header: _Header = field(default_factory=lambda: _Header("a commit"))
    added: dict[str, Blob] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def change(self, files: dict[str, Blob]) -> None:
        """Apply the operations. Raises KeyError for a file to delete that is not there."""
        for path in self.deleted:
            if path.endswith("/"):
                for name in [name for name in files if name.startswith(path)]:
                    del files[name]
            else:
                del files[path]
        files.update(self.added)


def receive(body: BinaryIO, repository: StoredRepository, scratch: Path) -> Received:
    """Read the lines and store every content. Raises ValueError for what is no such commit."""
    received = Received()
    for line in read_lines(body, scratch):
        operation = _decoded(line.text, _lines)
        if operation.key == "header":
            received.header = _decoded(operation.value, _headers)
        elif operation.key == "file":
            path, blob = _file(line, operation.value, repository, scratch)
            received.added[path] = blob
        elif operation.key == "lfsFile":
            large = _decoded(operation.value, _larges)
            found = repository.large(large.oid) if large.algo == "sha256" else None
            if found is None:
                raise ValueError(f"{large.path!r}: its content {large.oid!r} was not uploaded; upload it first")
            received.added[_checked(large.path)] = found
        elif operation.key == "deletedFile":
            received.deleted.append(_checked(_decoded(operation.value, _paths).path))
        elif operation.key == "deletedFolder":
            received.deleted.append(_checked(_decoded(operation.value, _paths).path.rstrip("/")) + "/")
        else:
            raise ValueError(
                f"{operation.key!r}: this hub takes file, lfsFile, deletedFile and deletedFolder, all in one commit"
            )
    return received


def _file(line: Line, value: msgspec.Raw, repository: StoredRepository, scratch: Path) -> tuple[str, Blob]:
    file = _decoded(value, _files)
    if file.encoding != "base64":
        raise ValueError(f"{file.path!r}: its encoding is {file.encoding!r}; send base64")
    path = _checked(file.path)
    if line.content is None:
        return path, repository.store(file.content, scratch)
    return path, repository.adopt(line.content, line.digest)


def entries(commit: Commit, below: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """The tree of a commit in the API's form, at or below a folder."""
    prefix = f"{below.strip('/')}/" if below.strip("/") else ""
    folders: set[str] = set()
    for name, blob in sorted(commit.files.items()):
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if folder not in folders and (recursive or depth == 1):
                folders.add(folder)
                yield {"type": "directory", "oid": commit.sha, "size": 0, "path": folder}
        if recursive or len(parts) == 1:
            yield file_entry(name, blob)


def file_entry(name: str, blob: Blob) -> dict[str, Any]:
    """One file in the API's form."""
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": name}
    if blob.large:
        told = len(pointer(blob.sha256, blob.size))
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": told}
    return entry


def _checked(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r}: not a path inside a repository")
    return path


def _decoded(data: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"a line of the commit is not well-formed ({error})") from error
