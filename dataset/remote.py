"""Shards in S3 as a source of base data reads them: indexed once, read in place or from copies on this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dataset.errors import SourceError
from dataset.in_place import sample_in
from dataset.tar import Stretch, TarShard
from ingest import IngestError
from ingest.shards.cache import ShardCache
from ingest.shards.fetching import Fetcher, Remote, patiently
from ingest.shards.s3_objects import S3Bucket, S3Object


def is_remote(path: str) -> bool:
    """Whether it is an address in S3."""
    return path.startswith("s3://")


@dataclass(frozen=True)
class RemoteOptions:
    """Where S3 is, and where copies of what was read are kept, up to so many bytes. Credentials are boto3's to find."""

    endpoint: str | None = None
    region: str | None = None
    cache: Path | None = None
    cache_bytes: int = 20 << 30


DEFAULT_OPTIONS = RemoteOptions()
_REPLACED = re.compile(r"\d{20}\.\d{6}\.tar")


def refuse_archive(label: str, names: Iterable[str]) -> None:
    """Raise `SourceError` where one of these took the place of other shards."""
    replaced = next((name for name in names if _REPLACED.fullmatch(name.rpartition("/")[2])), None)
    if replaced is not None:
        raise SourceError(
            f"{label}: {replaced} took the place of other shards, so this is an archive, which changes while it is read; "
            "read it with HistorySource(follows=None, partitions=…)"
        )


class RemoteTar:
    """One tar in S3, indexed."""

    def __init__(self, path: str, size: int, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self._path, self._identity = path, (0, 0, size, 0)
        self._starts, self._sizes = starts, sizes

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._starts)

    def stretch(self, number: int) -> Stretch:
        """Where a sample lies."""
        return Stretch(self._path, int(self._starts[number]), int(self._sizes[number]), self._identity)


class RemoteTars:
    """The tars below `s3://bucket/prefix`, or the one there. Only configuration and copies, so it can be pickled.

    A tar is fetched whole to be indexed; its index is kept beside its copy. After that, samples are read from the copy,
    or, where it had to make room, in place until it is worth fetching again.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.url = url.rstrip("/")
        with _as_source_error():
            self._bucket = S3Bucket.of(url, options.endpoint, options.region)
        folder = options.cache if options.cache is not None else Path(gettempdir()) / "stovetop-shards"
        self._fetcher = Fetcher(ShardCache(folder, options.cache_bytes))
        self._mark = hashlib.sha256(self._bucket.address.encode()).hexdigest()[:16]
        self._objects: dict[str, S3Object] = {}

    def listed(self) -> list[str]:
        """The names of the tars that are there now, in order; those that fit are fetched in the background."""
        below = self._bucket.prefix
        with _as_source_error():
            found = patiently(lambda: self._bucket.list(below))
        cut = len(below) + 1 if below else 0
        self._objects = {
            item.key[cut:] or item.key.rpartition("/")[2]: item
            for item in found
            if item.key.endswith(".tar") and (item.key == below or item.key.startswith(f"{below}/" if below else ""))
        }
        names = sorted(name for name in self._objects if not any(part.startswith(".") for part in name.split("/")))
        refuse_archive(self.url, names)
        room = self._fetcher.cache.max_bytes
        wanted = []
        for name in names:
            room -= self._objects[name].size
            if room >= 0 and not self._index_of(self._objects[name]).exists():
                wanted.append(self._remote(self._objects[name]))
        self._fetcher.expect(wanted)
        return names

    def shard(self, name: str) -> RemoteTar:
        """A tar, indexed: fetched now if it never was. Raises `SourceError` for one that is torn or gone."""
        if name not in self._objects:
            self.listed()
        if name not in self._objects:
            raise SourceError(f"{self.url}/{name}: it is not there (any more); restore it")
        item = self._objects[name]
        index = self._index_of(item)
        if not index.exists():
            self._index(item, index)
        starts, sizes = np.load(index)
        return RemoteTar(f"s3://{self._bucket.bucket}/{item.key}~{item.etag}", item.size, starts, sizes)

    def read(self, stretch: Stretch) -> tuple[str, dict[str, bytes]]:
        """The key of a sample and its members by extension. Raises `SourceError` where it cannot be read any more."""
        address, _, etag = stretch.path.rpartition("~")
        key = address.removeprefix(f"s3://{self._bucket.bucket}/")
        with _as_source_error():
            data = self._fetcher.read(
                self._remote(S3Object(key, stretch.identity[2], etag)), stretch.start, stretch.size
            )
        if len(data) != stretch.size:
            raise SourceError(f"{address}: it is shorter than it was; publish shards whole, under new names")
        return sample_in(data, stretch.size, address)

    def _index(self, item: S3Object, index: Path) -> None:
        with _as_source_error():
            copy = self._fetcher.whole(self._remote(item))
        try:
            shard = TarShard(copy)
        except SourceError as error:
            copy.unlink(missing_ok=True)
            raise SourceError(f"{self._bucket.address}: {item.key} is refused: {error}") from None
        stretches = [shard.stretch(number) for number in range(len(shard))]
        both = np.array([[each.start for each in stretches], [each.size for each in stretches]], dtype=np.int64)
        staged = index.with_name(f".{index.name}.{os.getpid()}.npy")
        np.save(staged, both)
        os.replace(staged, index)

    def _index_of(self, item: S3Object) -> Path:
        return self._fetcher.cache.folder / f"{self._place(item)}.npy"

    def _place(self, item: S3Object) -> str:
        return f"{self._mark}/{item.key}~{item.etag or item.size}"

    def _remote(self, item: S3Object) -> Remote:
        def read(start: int, size: int) -> bytes:
            return self._bucket.get(item.key, start, size, item.etag)[0]

        return Remote(f"{self._bucket.address}: {item.key}", self._place(item), item.size, read, _check_end)


def _check_end(file: BinaryIO) -> None:
    """It came whole; what it holds is checked when it is indexed."""


@contextmanager
def _as_source_error() -> Iterator[None]:
    try:
        yield
    except IngestError as error:
        raise SourceError(str(error)) from error
