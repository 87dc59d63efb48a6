"""Which topics there are on the brokers, and which partitions belong to which share.

    {prefix}.steps, {prefix}.samples, {prefix}.dead    the records; offsets, keys and values as in `ingest.log`
    {prefix}.{writer}.state                            compacted: a partition for each share, a record for each key

A share's records and its state are written in one transaction, whose id is `{prefix}.{writer}.{share}`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingest.errors import LogError
from ingest.types import OWNERS

DIVIDED = frozenset({"gateway", "annotator"})
"""Writers whose work is divided in shares; any other one has all partitions."""


class KafkaLayout(msgspec.Struct, frozen=True):
    """Partitions of every topic, and the shares in which a writer's partitions are dealt out."""

    prefix: str = "stovetop"
    partitions: int = 4
    shares: int = 4
    owners: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(OWNERS))

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 1024:
            raise LogError(f"a topic has 1 to 1024 partitions, not {self.partitions}")
        if not 1 <= self.shares <= self.partitions:
            raise LogError(f"{self.partitions} partitions can be divided in 1 to {self.partitions}, not {self.shares}")

    def topics(self, writer: str) -> tuple[str, ...]:
        """The topics that `writer` owns."""
        owned = tuple(topic for topic, owner in self.owners.items() if owner == writer)
        if not owned:
            raise LogError(f"no writer {writer!r} in this log; it has {', '.join(sorted(set(self.owners.values())))}")
        return owned

    def shares_of(self, writer: str) -> int:
        """In how many shares the work of a writer is divided."""
        return self.shares if writer in DIVIDED else 1

    def share_of(self, writer: str, partition: int) -> int:
        """The share of a writer that a partition belongs to."""
        return partition % self.shares_of(writer)

    def partitions_of(self, share: int) -> tuple[int, ...]:
        """The partitions of a share."""
        return tuple(range(share, self.partitions, self.shares))

    def check(self, topic: str, partition: int) -> None:
        """Raise `LogError` unless `topic` has `partition`."""
        if topic not in self.owners:
            raise LogError(f"no topic {topic!r} in this log; it has {', '.join(self.owners)}")
        if not 0 <= partition < self.partitions:
            raise LogError(f"{topic} has partitions 0 to {self.partitions - 1}, but {partition} was asked for")

    def topic(self, name: str) -> str:
        """A topic's name on the brokers."""
        return f"{self.prefix}.{name}"

    def state_topic(self, writer: str) -> str:
        """The topic of a writer's state."""
        return f"{self.prefix}.{writer}.state"

    def transactional_id(self, writer: str, share: int) -> str:
        """The id that only one producer can hold at a time."""
        return f"{self.prefix}.{writer}.{share}"
