"""Where shards are kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from ingest.shards.cache import ShardCache
from ingest.shards.directory import DirectoryStore
from ingest.shards.store import ShardStore


class ArchiveSettings(BaseModel):
    """Where shards are kept: in `folder`, or in S3 where `url` is set. Credentials are boto3's to find."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    url: str | None = Field(None, pattern=r"^s3://[^/?#]+(/[^?#]*)?$", description="s3://bucket/prefix")
    endpoint: str | None = Field(None, description="of a service other than Amazon's, http(s)://host:port")
    region: str | None = None
    staging: Path | None = Field(None, description="where shards are written before they are uploaded")
    cache: Path | None = Field(None, description="where shards of S3 are kept that were read")
    cache_bytes: PositiveInt = Field(20 << 30, description="how much of them is kept at most")

    def open(self) -> ShardStore:
        """The store itself: only configuration, nothing is made yet."""
        if self.url is None:
            return DirectoryStore(self.folder)
        from ingest.shards.s3 import S3Store  # boto3 takes half a second, and is needed here only

        return S3Store(self.url, endpoint=self.endpoint, region=self.region, staging=self.staging)

    def open_to_read(self) -> ShardStore:
        """The store for those who read much of it: with copies on this machine where it is remote."""
        store = self.open()
        if isinstance(store, DirectoryStore):
            return store
        from ingest.shards.cached import CachedStore
        from ingest.shards.s3 import S3Store

        assert isinstance(store, S3Store)
        return CachedStore(store, self.open_cache())

    def open_cache(self) -> ShardCache:
        """The copies on this machine."""
        folder = self.cache if self.cache is not None else Path(tempfile.gettempdir()) / "stovetop-shards"
        return ShardCache(folder, self.cache_bytes)
