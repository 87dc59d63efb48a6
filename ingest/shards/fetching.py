"""Objects of S3 read through a cache: in pieces while little of one is wanted, whole once much of it was.

Reading small parts of an object costs their bytes each time, fetching it whole costs its size once. It is fetched, in
the background, when the parts that were read come to half of its size: that is never much worse than having known.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple, TypeVar

from ingest.errors import IngestError, StoreUnavailable
from ingest.shards.cache import ShardCache

logger = logging.getLogger(__name__)

_PIECE = 8 << 20
_WHOLE_FROM = 1 << 20
"""Whoever reads so many bytes at once reads on: then the whole is fetched first."""
_THREADS = 2
_PATIENCE = 600.0
T = TypeVar("T")


class Remote(NamedTuple):
    """An object: its name for people, what its copy is called, its size, and how to read and to check it.

    `read(start, size)` gives bytes; `check(file)` raises where a copy is not what it should be.
    """

    name: str
    place: str
    size: int
    read: Callable[[int, int], bytes]
    check: Callable[[BinaryIO], None]


class Fetcher:
    """Reads remote objects through a cache. May be pickled: what it fetches in the background it then forgets."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache = cache
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._read: dict[str, int] = {}
        self._expected: set[str] = set()
        self._waiting: queue.SimpleQueue[Remote] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.cache = state["cache"]
        self._start()

    def read(self, remote: Remote, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on."""
        path = self.cache.find(remote.place)
        if path is None and 2 * size >= min(2 * _WHOLE_FROM, remote.size) and remote.size <= self.cache.max_bytes:
            path = self.whole(remote)
        if path is not None:
            try:
                with open(path, "rb", buffering=0) as file:
                    return os.pread(file.fileno(), size, start)
            except FileNotFoundError:
                pass  # it had to make room in that moment
        data = patiently(lambda: remote.read(start, size))
        if self._is_worth(remote, len(data)):
            self.expect([remote])
        return data

    def whole(self, remote: Remote) -> Any:
        """The path of its copy, fetched now if need be."""
        return self.cache.get(remote.place, remote.size, lambda file: _fetch(remote, file))

    def expect(self, remotes: Iterable[Remote]) -> None:
        """Fetch these in the background, one after the other, as they are wanted soon."""
        if self._process != os.getpid():
            self._start()
        for remote in remotes:
            with self._lock:
                if remote.place in self._expected or remote.size > self.cache.max_bytes:
                    continue
                self._expected.add(remote.place)
                if len(self._threads) < _THREADS:  # daemons: the end of a process does not wait for a fetch
                    self._threads.append(threading.Thread(target=self._fetch_ahead, name="shard-fetch", daemon=True))
                    self._threads[-1].start()
            self._waiting.put(remote)

    def _fetch_ahead(self) -> None:
        while True:
            self._fetch_expected(self._waiting.get())

    def _fetch_expected(self, remote: Remote) -> None:
        try:
            if self.cache.find(remote.place) is None:
                self.cache.get(remote.place, remote.size, lambda file: _fetch(remote, file, patience=0.0))
        except (IngestError, OSError) as error:
            logger.warning("%s was not fetched ahead: %s", remote.name, error)
        finally:
            with self._lock:
                self._expected.discard(remote.place)
                self._read.pop(remote.place, None)

    def _is_worth(self, remote: Remote, size: int) -> bool:
        if self._process != os.getpid():
            self._start()
        with self._lock:
            read = self._read[remote.place] = self._read.get(remote.place, 0) + size
        return 2 * read >= remote.size


def _fetch(remote: Remote, file: BinaryIO, patience: float = _PATIENCE) -> None:
    file.seek(0)
    for start in range(0, remote.size, _PIECE):
        wanted = min(_PIECE, remote.size - start)
        data = patiently(lambda start=start, wanted=wanted: remote.read(start, wanted), patience)  # type: ignore[misc]
        file.write(data)
        if len(data) != wanted:
            raise StoreUnavailable(f"{remote.name}: {len(data)} of {wanted} bytes came at {start}")
    file.flush()
    remote.check(file)


def patiently(attempt: Callable[[], T], patience: float = _PATIENCE) -> T:
    """What an attempt gives, repeated while the store cannot be reached, for some minutes: training waits meanwhile."""
    deadline, pause = time.monotonic() + patience, 0.5
    while True:
        try:
            return attempt()
        except StoreUnavailable as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("%s; trying again in %g s", error, pause)
        time.sleep(pause)
        pause = min(2 * pause, 15.0)


def sha256_of(file: BinaryIO, start: int) -> str:
    """The digest of a file's bytes from `start` on."""
    digest = hashlib.sha256()
    file.seek(start)
    while data := file.read(_PIECE):
        digest.update(data)
    return digest.hexdigest()
