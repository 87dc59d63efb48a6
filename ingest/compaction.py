"""Makes few large shards of many small ones, which a quiet app publishes by age.

Neighbours are put together when what they make is at most of the wished size, and at least twice as large as the
largest of them: so a byte is copied no more often than sizes double, and an archive of n bytes costs n times a small
logarithm. The last shard of a chain is left alone (see `ingest.replacing`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from ingest.errors import IngestError
from ingest.replacing import replace, retire
from ingest.shard_reader import ShardChain
from ingest.shards import ShardStore

logger = logging.getLogger(__name__)


class CompactionSettings(BaseModel):
    """When small shards are put together. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_bytes: PositiveInt = 64 << 20
    min_shards: int = Field(8, ge=2, description="fewer are put together only where they fill half a target")
    every: PositiveFloat = 300.0
    pause: PositiveFloat = 3600.0
    """Seconds that replaced shards stay: longer than any reader or archiver may be stopped or suspended."""


def plan(sizes: Sequence[int], settings: CompactionSettings) -> list[range]:
    """Which neighbours to put together, by the sizes of all shards of a chain but the last."""
    found = []
    start = 0
    while start < len(sizes):
        end, total = start, 0
        while end < len(sizes) and total + sizes[end] <= settings.target_bytes:
            total += sizes[end]
            end += 1
        many = end - start >= settings.min_shards or 2 * total >= settings.target_bytes
        if end - start > 1 and many and 2 * max(sizes[start:end]) <= total:
            found.append(range(start, end))
            start = end
        else:
            start += 1
    return found


def compact(store: ShardStore, topic: str, partition: int, settings: CompactionSettings) -> int:
    """Put together what is small in one chain; gives how many shards it has fewer."""
    chain = ShardChain(store, topic, partition)
    chain.count()  # opens all
    shards = [chain.shard(number) for number in range(len(chain))]
    saved = 0
    for group in plan([shard.size for shard in shards[:-1]], settings):
        if replace(store, [shards[number] for number in group]) is not None:
            saved += len(group) - 1
    return saved


class Compactor:
    """Compacts chains from time to time, and removes what was replaced long ago, in the thread that calls `run`."""

    def __init__(self, store: ShardStore, chains: Iterable[tuple[str, int]], settings: CompactionSettings) -> None:
        self._store = store
        self._chains = tuple(chains)
        self._settings = settings

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Nothing depends on it: what fails is told and left for the next time."""
        while not stop.wait(self._settings.every):
            for topic, partition in self._chains:
                if stop.is_set():
                    return
                self.step(topic, partition)

    def step(self, topic: str, partition: int) -> None:
        """One chain, once."""
        try:
            compact(self._store, topic, partition, self._settings)
            retire(self._store, topic, partition, self._settings.pause)
        except (IngestError, OSError) as error:
            logger.warning("%s/%d was not compacted: %s", topic, partition, error)
