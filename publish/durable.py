"""Files that are whole or absent, also after a crash: written, synced, then renamed into sight."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from publish.manifest import FileDigest

CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder` and its missing parents, each name durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        os.mkdir(folder)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def sync_tree(folder: Path) -> None:
    """Make every file and folder below `folder`, and `folder` itself, durable."""
    for name, _, files in os.walk(folder, topdown=False):
        for file in files:
            sync_file(Path(name, file))
        sync_folder(Path(name))


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create `path` (which must not exist) with `data`, synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, alone: bool = False, mode: int = 0o644) -> None:
    """Put `data` at `path` in one step that a reader sees whole or not at all, durable on return.

    `alone` says that the caller holds a lock over `path`: then what a killed process left half-way is overwritten
    instead of left lying.
    """
    staged = path.with_name(f".{path.name}.tmp" if alone else f".{path.name}.{uuid.uuid4().hex}.tmp")
    if alone:
        staged.unlink(missing_ok=True)
    try:
        write_file(staged, data, mode)
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def digest_of(path: Path) -> FileDigest:
    """SHA-256 and size of a file."""
    with path.open("rb", buffering=0) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(sha256, file.tell())


def copy_and_digest(source: BinaryIO, target: Path, limit: int) -> FileDigest:
    """Copy `source` to the new file `target` in one pass, and return the digest of the bytes that were written.

    Reads at most one byte more than `limit`, so that an endless source cannot fill the disk. The copy is not synced.
    """
    seen = hashlib.sha256()
    size = 0
    with target.open("xb") as file:  # buffered: a raw file may take less than it is given, as on a full disk
        while size <= limit and (chunk := source.read(min(CHUNK, limit + 1 - size))):
            seen.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return FileDigest(seen.hexdigest(), size)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody changes any more; across file systems, a synced copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)
    sync_file(target)


def remove_tree(folder: Path) -> None:
    """Delete `folder` if it is there; what is left of a deletion that another process runs meanwhile is no error."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; the system frees it when the process dies.

    Raises BlockingIOError with `wait` False where another holds it. Not reentrant, also not between threads.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A fresh folder below `parent` to prepare something in; what is still there at the end is deleted.

    A sibling lock file tells the folders of the living from those that a killed process left, which `sweep` deletes.
    """
    make_folder(parent)
    sweep(parent)
    folder = parent / uuid.uuid4().hex
    lock = folder.with_suffix(".lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another's sweep came between the two calls and took the name away
    try:
        os.mkdir(folder)
        yield folder
    finally:
        remove_tree(folder)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Delete what killed processes left in a folder for `staging`."""
    for lock in parent.glob("*.lock"):
        try:
            with locked(lock, wait=False):
                remove_tree(lock.with_suffix(""))
                lock.unlink(missing_ok=True)
        except BlockingIOError:
            continue
