"""The stores that shards are tested on, with what a test does to one behind its back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest

from ingest.log import Log
from ingest.memory import MemoryLog
from ingest.shards import DirectoryStore, ShardStore
from ingest.shards.s3 import S3Store
from tests.s3_servers import new_bucket

KINDS = ("directory", "moto", "juicefs")
SERVICES = ("moto", "juicefs")


def make_store(kind: str, request: pytest.FixtureRequest, folder: Path, log: Log | None = None) -> ShardStore:
    """An empty store, ready for an archiver of `log`."""
    if kind == "directory":
        return DirectoryStore(folder / "archive")
    endpoint = request.getfixturevalue(f"{kind}_endpoint")
    store = S3Store(f"s3://{new_bucket(endpoint)}/some/where", endpoint=endpoint, staging=folder / "staging")
    return store.for_writing(log or MemoryLog())


def contents(store: ShardStore, name: str) -> bytes:
    """All bytes under a name."""
    size = store.size(name)
    assert size is not None
    return store.read(name, 0, size)


def overwrite(store: ShardStore, name: str, data: bytes) -> None:
    """Put bytes under a name, as some other program might."""
    if isinstance(store, S3Store):
        store.client.put_object(Bucket=store.bucket, Key=store.key(name), Body=data)
        return
    assert isinstance(store, DirectoryStore)
    path = store.root / name
    if path.exists():
        path.chmod(0o600)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def local_copy(store: ShardStore, name: str, folder: Path) -> Path:
    """The shard as a file, for tools that read files."""
    folder.mkdir(exist_ok=True)
    path = folder / name.replace("/", "-")
    path.write_bytes(contents(store, name))
    return path


def staged(store: ShardStore, folder: str) -> list[Path]:
    """What is being written, or was left."""
    place = store.staging if isinstance(store, S3Store) else store.root / folder  # type: ignore[attr-defined]
    return list(place.glob(".*"))


def metadata(store: S3Store, name: str) -> Mapping[str, str]:
    """What an object's metadata says."""
    found: Mapping[str, str] = store.client.head_object(Bucket=store.bucket, Key=store.key(name))["Metadata"]
    return found


def raw_client(endpoint: str) -> Any:
    """A client of one's own."""
    return boto3.client("s3", endpoint_url=endpoint)


def fields(summary: Any) -> dict[str, Any]:
    """A summary's fields."""
    built: dict[str, Any] = msgspec.structs.asdict(summary)
    return built
