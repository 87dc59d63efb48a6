"""Where shards live: the contract of a store, their names, and a directory as one.

A store promises that a shard is absent or whole, that a name is given once, and that what was published is durable.
`ingest.replacing` puts one shard in the place of others, `ingest.shard_reader` follows their chain.
"""

from ingest.shards.directory import DirectoryStore
from ingest.shards.names import (
    chain_folder,
    first_offset_of,
    generation_of,
    latest,
    next_generation,
    shard_name,
)
from ingest.shards.settings import ArchiveSettings
from ingest.shards.store import Head, ShardStore, StagedShard

__all__ = [
    "ArchiveSettings",
    "DirectoryStore",
    "Head",
    "ShardStore",
    "StagedShard",
    "chain_folder",
    "first_offset_of",
    "generation_of",
    "latest",
    "next_generation",
    "shard_name",
]
