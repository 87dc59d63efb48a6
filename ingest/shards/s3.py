"""An S3 bucket as a store of shards: objects below `s3://bucket/prefix`, named as the files of a directory are.

An object is created only if absent (`If-None-Match: *`, https://docs.aws.amazon.com/AmazonS3/latest/userguide/
conditional-writes.html). Whether the service honours that, also where a multipart upload is completed, is found out
before the first write; where it does not, the log decides what each name stands for (`ingest.claims`). The facts of a
shard are the object's metadata, for people and other tools: readers take them from its first bytes, since some
services keep no metadata.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from ingest.claims import ClaimingLog, Claims
from ingest.errors import LogError, ShardClaimed, ShardError, ShardGone, StoreRefused, StoreUnavailable
from ingest.log import Log
from ingest.shard_format import BODY, ShardSummary, decode_summary
from ingest.shards.names import first_offset_of, generation_of, in_order, is_shard_name
from ingest.shards.s3_client import ABSENT, asking, code_of
from ingest.shards.s3_objects import S3Bucket, usable_etag
from ingest.shards.s3_upload import Conditions, Upload, abort_strays, probe
from ingest.shards.staging import clean_in, stage_in
from ingest.shards.store import Head, StagedShard


class S3Store:
    """Shards at `s3://bucket/prefix`. `endpoint` is another service's address; credentials are boto3's to find.

    Shards are written to a file in `staging` first, and uploaded when they are full.
    """

    def __init__(
        self, url: str, *, endpoint: str | None = None, region: str | None = None, staging: Path | str | None = None
    ) -> None:
        self.place = S3Bucket.of(url, endpoint, region)
        self.staging = Path(staging) if staging is not None else Path(tempfile.gettempdir()) / "stovetop-staging"
        self._log: ClaimingLog | None = None
        self._conditions: Conditions | None = None
        self._claims: Claims | None = None

    def __repr__(self) -> str:
        return f"S3Store({self.address!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_claims": None}

    @property
    def address(self) -> str:
        """The address, and the service's where it is not Amazon's."""
        return self.place.address

    @property
    def client(self) -> Any:
        """This process's client."""
        return self.place.client

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self.place.bucket

    def key(self, name: str) -> str:
        """The object's key of a name."""
        return self.place.key(name)

    def names(self, folder: str, beyond: int = -1) -> list[str]:
        below = self.key(folder) + "/"
        after = f"{below}{beyond:020d}/" if beyond >= 0 else ""  # "/" comes behind "."
        cut = len(self.key(""))
        found = (item.key[cut:] for item in self.place.list(below, after))
        return in_order(name for name in found if is_shard_name(name) and first_offset_of(name) > beyond)

    def size(self, name: str) -> int | None:
        with asking(self.address):
            try:
                return int(self.client.head_object(Bucket=self.bucket, Key=self.key(name))["ContentLength"])
            except ClientError as error:
                if code_of(error) in ABSENT:
                    return None
                raise

    def head(self, name: str) -> Head:
        data, answer = self.place.get(self.key(name), 0, BODY)
        size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(data)
        published = answer["LastModified"].timestamp() if "LastModified" in answer else 0.0
        return Head(data, size, published, usable_etag(answer.get("ETag")))

    def read(self, name: str, start: int, size: int) -> bytes:
        return self.place.get(self.key(name), start, size)[0] if size > 0 else b""

    def expect(self, names: Iterable[str]) -> None:
        """Nothing to do: shards are read where they are."""

    def stage(self, folder: str) -> StagedShard:
        self.staging.mkdir(parents=True, exist_ok=True)
        return stage_in(self.staging, durable=False)

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        summary = staged.summary
        if summary is None:
            raise ShardError(f"{name}: it is not complete, so it cannot be published")
        if self._conditions is None:
            self._conditions = self._probed()
        if self._conditions.put or self._decided(name, summary):
            upload = Upload(self.client, self.bucket, self.key(name), self._conditions)
            with asking(self.address):
                created = upload.send(staged.path, summary.length, _facts(summary))
            created = created or self._same(name, summary)  # the answer to an earlier attempt may have been lost
        else:
            created = self._same(name, summary)
        staged.discard()
        return created

    def remove(self, name: str) -> None:
        with asking(self.address):
            self.client.delete_object(Bucket=self.bucket, Key=self.key(name))

    def settle(self, folder: str) -> None:
        """Nothing to do: what can be seen is durable."""

    def clean(self, folder: str) -> int:
        with asking(self.address):
            strays = abort_strays(self.client, self.bucket, self.key(folder) + "/")
        return strays + clean_in(self.staging)

    def beside(self, folder: str) -> S3Store:
        store = copy.copy(self)
        store.place = self.place._replace(prefix=self.key(folder))
        return store

    def folders(self, below: str) -> list[str]:
        return list(self.place.folders(self.key(below) + "/"))

    def for_writing(self, log: Log) -> S3Store:
        store = copy.copy(self)
        store._log = log if isinstance(log, ClaimingLog) else None
        store._conditions = store._probed()
        return store

    def _probed(self) -> Conditions:
        """Raises `StoreRefused` where neither the service nor the log can tell who is first."""
        with asking(self.address):
            found = probe(self.client, self.bucket, self.key(""))
        if not found.put and self._log is None:
            raise StoreRefused(
                f"{self.address}: it ignores If-None-Match, so a late writer could overwrite a shard, and no log was given "
                "that can take its place; use a service with conditional writes, or write with `for_writing(log)`"
            )
        return found

    def _decided(self, name: str, summary: ShardSummary) -> bool:
        """Whether nothing stands under the name, and the log lets this shard stand there. See docs/decisions/0002."""
        assert self._log is not None  # else the probe would have refused
        if self.size(name) is not None:
            return False
        # the archiver's shard follows from where it ends; what replaces one follows from its bytes alone
        own = summary.sha256 if generation_of(name) else str(summary.next_offset)
        try:
            self._claims = self._claims or self._log.claims()
            standing = self._claims.claim(f"s3://{self.bucket}/{self.key(name)}", own.encode()).decode()
        except LogError as error:
            raise StoreUnavailable(f"{self.address}: the log cannot decide about {name}: {error}") from error
        if standing == own:
            return True
        if self.size(name) is not None:
            return False
        raise ShardClaimed(name, summary.next_offset if generation_of(name) else int(standing))

    def _same(self, name: str, summary: ShardSummary) -> bool:
        try:
            return decode_summary(name, self.head(name).data) == summary
        except ShardGone:  # created, replaced and removed: by others, long ago
            return False


def _facts(summary: ShardSummary) -> dict[str, str]:
    """The summary as an object's metadata."""
    facts: dict[str, Any] = msgspec.to_builtins(summary)
    return {field.replace("_", "-"): str(value) for field, value in facts.items()}
