"""A store in S3 as readers use it: the shards they read are kept on this machine, verified, up to a limit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, BinaryIO

from ingest.errors import ShardError
from ingest.log import Log
from ingest.shard_format import BODY, decode_summary
from ingest.shards.cache import ShardCache
from ingest.shards.fetching import Fetcher, Remote, patiently, sha256_of
from ingest.shards.s3 import S3Store
from ingest.shards.store import Head, ShardStore, StagedShard


class CachedStore:
    """`store` for those who read, with copies in `cache`. What is published goes to the store itself."""

    def __init__(self, store: S3Store, cache: ShardCache) -> None:
        self.store, self.cache = store, cache
        self._fetcher = Fetcher(cache)
        self._mark = hashlib.sha256(store.address.encode()).hexdigest()[:16]
        self._known: dict[str, Remote] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    def __repr__(self) -> str:
        return f"CachedStore({self.store!r}, {str(self.cache.folder)!r})"

    def names(self, folder: str, beyond: int = -1) -> list[str]:
        found = patiently(lambda: self.store.names(folder, beyond))
        if beyond < 0:  # copies of shards that are gone, as what they held was deleted, go too
            self.cache.keep_only(f"{self._mark}/{folder}", {name.rpartition("/")[2] for name in found})
        return found

    def size(self, name: str) -> int | None:
        return patiently(lambda: self.store.size(name))

    def head(self, name: str) -> Head:
        head = patiently(lambda: self.store.head(name))
        self._known[name] = self._remote(name, head)
        return head

    def read(self, name: str, start: int, size: int) -> bytes:
        return self._fetcher.read(self._remote_of(name), start, size) if size > 0 else b""

    def expect(self, names: Iterable[str]) -> None:
        self._fetcher.expect(self._remote_of(name) for name in names)

    def stage(self, folder: str) -> StagedShard:
        return self.store.stage(folder)

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        return self.store.create_if_absent(name, staged)

    def remove(self, name: str) -> None:
        self.store.remove(name)

    def settle(self, folder: str) -> None:
        self.store.settle(folder)

    def clean(self, folder: str) -> int:
        return self.store.clean(folder)

    def beside(self, folder: str) -> CachedStore:
        return CachedStore(self.store.beside(folder), self.cache)

    def folders(self, below: str) -> list[str]:
        return patiently(lambda: self.store.folders(below))

    def for_writing(self, log: Log) -> ShardStore:
        return self.store.for_writing(log)

    def _remote_of(self, name: str) -> Remote:
        if name not in self._known:
            self.head(name)
        return self._known[name]

    def _remote(self, name: str, head: Head) -> Remote:
        """Its copy is called after its version too: an archive that was made anew has the same names."""

        def check(file: BinaryIO) -> None:
            file.seek(0)
            summary = decode_summary(name, file.read(BODY))
            digest = sha256_of(file, BODY)
            if head.size != summary.length or digest != summary.sha256:
                raise ShardError(
                    f"{name}: {head.size} bytes with sha256 {digest}, but its summary says {summary.length} and "
                    f"{summary.sha256}; restore it from a copy"
                )

        place = f"{self._mark}/{name}~{head.version}"
        return Remote(name, place, head.size, lambda start, size: self.store.read(name, start, size), check)
