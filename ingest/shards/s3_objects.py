"""Objects below a prefix of a bucket, whatever they are called: listed, and read in place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from ingest.errors import ShardGone, StoreRefused, StoreUnavailable
from ingest.shards.s3_client import ABSENT, BEYOND, TAKEN, asking, code_of, s3_client

_TRIES = 4
"""How often the bytes of one answer are asked for; the client itself repeats only the asking."""
_BROKEN_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_ETAG = re.compile(r"[A-Za-z0-9-]+")


class S3Object(NamedTuple):
    """An object: its key, its size in bytes, and its ETag ("" where the service gives none that can be used)."""

    key: str
    size: int
    etag: str


class S3Bucket(NamedTuple):
    """A bucket and a prefix in it. Only configuration, so it can be pickled."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def of(cls, url: str, endpoint: str | None = None, region: str | None = None) -> S3Bucket:
        """From `s3://bucket/prefix`; raises `StoreRefused` for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise StoreRefused(f"{url!r}: an address in S3 reads s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"), endpoint, region)

    @property
    def address(self) -> str:
        """The address, and the service's where it is not Amazon's."""
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {self.endpoint}" if self.endpoint else place

    @property
    def client(self) -> Any:
        """This process's client."""
        return s3_client(self.endpoint, self.region)

    def key(self, name: str) -> str:
        """The key of what is called `name` below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def list(self, below: str, after: str = "") -> list[S3Object]:
        """The objects whose keys begin with `below`, in the order of their keys; those behind `after`, if given."""
        behind = {"StartAfter": after} if after else {}
        with asking(self.address):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below, **behind)
            return [
                S3Object(item["Key"], item["Size"], usable_etag(item.get("ETag")))
                for page in pages
                for item in page.get("Contents", ())
            ]

    def folders(self, below: str) -> Sequence[str]:
        """The next parts of the keys that begin with `below` and go on behind a slash, in order."""
        with asking(self.address):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=below, Delimiter="/"
            )
            found = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
        return sorted(prefix[len(below) :].rstrip("/") for prefix in found)

    def get(self, key: str, start: int, size: int, etag: str = "") -> tuple[bytes, Mapping[str, Any]]:
        """Up to `size` bytes from `start` on, and the answer that they came with.

        Raises `ShardGone` where there is no such object, or not the one of this ETag any more.
        """
        asked: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "Range": f"bytes={start}-{start + size - 1}"}
        if etag:
            asked["IfMatch"] = f'"{etag}"'
        broken: Exception | None = None
        for _ in range(_TRIES):
            with asking(self.address):
                try:
                    answer = self.client.get_object(**asked)
                    return answer["Body"].read(), answer
                except ClientError as error:
                    if code_of(error) in ABSENT | TAKEN:
                        raise ShardGone(f"{key}: it is not (or no longer) in {self.address}; was it removed?") from None
                    if code_of(error) in BEYOND:
                        return b"", {"ContentRange": "bytes */0"} if start == 0 else {}
                    raise
                except _BROKEN_OFF as error:
                    broken = error
        raise StoreUnavailable(f"{self.address}: {key} broke off {_TRIES} times: {broken}")


def usable_etag(etag: Any) -> str:
    """An ETag without its quotes, if it is one that can be asked for and be part of a file's name."""
    bare = str(etag or "").strip('"')
    return bare if _ETAG.fullmatch(bare) else ""
