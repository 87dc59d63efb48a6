"""A hub in a bucket of S3, or of anything that speaks it and honours conditional writes.

    PREFIX/hub.json                                  says that this is a hub, and of which format
    PREFIX/versions/000042-1a2b3c4d5e6f/…            a version's files and its manifest.json; any client loads the folder
    PREFIX/deltas/000042-1a2b3c4d5e6f                what turns the version before into this one
    PREFIX/manifests/000042.json                     a version is committed when this object is there, and not before
    PREFIX/channels/stable.json                      signed pointers

The two moments that must not be shared are conditional writes (https://docs.aws.amazon.com/AmazonS3/latest/userguide/
conditional-writes.html): a manifest is created only if absent (`If-None-Match: *`), so that one publisher gets a number;
and a pointer is replaced only as it was read (`If-Match`), so that one move follows a generation. Folders carry digits of
their manifest's SHA-256, so that two publishers who prepare the same number never write over each other.

Some stores ignore the conditions, or tell no ETag. With one publisher nothing is lost there: its outbox has a lock, and
what is written is read again. Of two, the later one's manifest would stand; a follower still loads nothing torn, since the
pointer names a manifest by its digest.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import boto3
import msgspec
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from publish.errors import ChannelMoved, HubUnavailable, Unreadable, VersionMissing, VersionTaken
from publish.manifest import MANIFEST, Base, Manifest, check_names
from publish.pointer import Pointer, check_channel, decode_pointer
from publish.settings import FollowSettings

FORMAT = 1
MARK = "hub.json"
DIGITS = 12
TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
ABSENT = {"NoSuchKey", "404", "NotFound"}
UNCHANGED = {"304", "NotModified"}
T = TypeVar("T")

logger = logging.getLogger(__name__)


class S3Hub:
    """The hub at `s3://bucket/prefix`. `endpoint` is another service's address; credentials are boto3's to find.

    With `create` (a publisher's), it is made where there is none; without, a place that is no hub is HubUnavailable.
    `poll` is the seconds between two looks of a watcher: S3 tells nobody. `upload_bytes_per_second` bounds what goes out.
    """

    def __init__(
        self,
        address: str,
        *,
        endpoint: str | None = None,
        create: bool = False,
        poll: float = 1.0,
        upload_bytes_per_second: float | None = None,
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"{address!r}: the address of an S3 hub reads s3://bucket/prefix")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._endpoint, self._poll = endpoint, poll
        retries = Config(retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=5, read_timeout=30)
        self._client = boto3.client("s3", endpoint_url=endpoint, config=retries)
        limit = upload_bytes_per_second
        self._transfer = TransferConfig(max_bandwidth=None if limit is None else max(1, int(limit)))
        self._digests: dict[int, str] = {}
        self._asked: dict[str, float] = {}  # when each channel was looked at last, in monotonic seconds
        self._seen: dict[str, tuple[str | None, Pointer | None]] = {}  # its ETag then, and what it held
        self._known = False
        if create:
            self._make(msgspec.json.encode({"format": FORMAT}))

    def _make(self, mark: bytes) -> None:
        """Write the mark where there is none, and find out whether conditions are kept: the second write must fail."""
        if self._conditional(MARK, mark, IfNoneMatch="*") and self._conditional(MARK, mark, IfNoneMatch="*"):
            logger.warning(
                "%s ignores If-None-Match: of two publishers at once, the version of one would be lost. Let one publisher "
                "write there; the lock of its outbox keeps a second one off",
                self.name,
            )

    @property
    def name(self) -> str:
        """The address, and the service's where it is not Amazon's."""
        return f"{self._address} at {self._endpoint}" if self._endpoint else self._address

    @property
    def place(self) -> FollowSettings:
        """What a follower in another process opens."""
        return FollowSettings(bucket=self._address, endpoint=self._endpoint)

    @property
    def _address(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def numbers(self) -> Sequence[int]:
        """The manifests that there are."""
        self._require()
        stems = (name.rpartition("/")[2].partition(".")[0] for name in self._list("manifests/"))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def versions(self) -> Sequence[int]:
        """Those whose folder still has its manifest, which is the first to go when a version is retired."""
        whole = {name for name in self._list("versions/") if name.endswith(f"/{MANIFEST}")}
        return [number for number in self.numbers() if self._key(number, MANIFEST) in whole]

    def manifest(self, version: int) -> bytes:
        """The stored manifest."""
        self._require()
        stored = self._get(f"manifests/{version:06d}.json")
        if stored is None:
            raise VersionMissing(f"version {version:06d}: not in {self.name}")
        return stored[0]

    @contextmanager
    def open(self, version: int, name: str) -> Iterator[BinaryIO]:
        """One file of a version, read from one answer of S3, which is of one object."""
        check_names([name])
        with self._opened(self._key(version, name)) as body:
            yield body

    @contextmanager
    def open_delta(self, version: int) -> Iterator[BinaryIO]:
        """The delta beside a version."""
        with self._opened(f"deltas/{self._folder(version)}") as body:
            yield body

    def commit(self, manifest: Manifest, files: Mapping[str, Path], delta: Path | None = None) -> None:
        """Everything else first, then the manifest, if its number is still the next."""
        check_names(files)
        self._require()
        self._must_follow(manifest)
        stored = manifest.encode()
        folder = _folder(manifest.version, hashlib.sha256(stored).hexdigest())
        for name, path in files.items():
            self._upload(path, f"versions/{folder}/{name}", manifest.files[name].sha256)
        if delta is not None and isinstance(manifest.base, Base):
            self._upload(delta, f"deltas/{folder}", manifest.base.file.sha256)
        self._put(f"versions/{folder}/{MANIFEST}", stored)
        if not self._put_new(f"manifests/{manifest.label}.json", stored):
            self._delete([f"versions/{folder}/{name}" for name in (MANIFEST, *files)] + [f"deltas/{folder}"])
            raise VersionTaken(f"version {manifest.label}: another publisher was first; sign for a later one")

    def channel(self, channel: str) -> Pointer | None:
        """Where a channel stands."""
        check_channel(channel)
        self._require()
        stored = self._get(_channel(channel))
        return None if stored is None else _decoded(stored[0], channel)

    def move(self, pointer: Pointer) -> None:
        """Replace what was read just now, or create what was not there."""
        check_channel(pointer.channel)
        self._require()
        if pointer.version not in self.versions():
            raise VersionMissing(f"version {pointer.version:06d}: its files are not in {self.name}; choose another")
        key = _channel(pointer.channel)
        stored = self._get(key)
        generation = _decoded(stored[0], pointer.channel).generation if stored else 0
        moved = pointer.generation == generation + 1
        if moved:
            data = msgspec.json.encode(pointer, order="sorted")
            moved = self._put_if(key, data, stored[1]) if stored else self._put_new(key, data)
        if not moved:
            raise ChannelMoved(
                f"channel {pointer.channel!r}: {pointer.generation} does not follow where it stands; read it again"
            )

    def watch(self, channel: str, seen: int, timeout: float) -> Pointer | None:
        """Ask every `poll` seconds, however short the timeouts of those who call; what has not changed is not sent."""
        check_channel(channel)
        self._require()
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            due = self._asked.get(channel, now - self._poll) + self._poll
            if due > deadline:
                time.sleep(max(0.0, deadline - now))
                return None
            time.sleep(max(0.0, due - now))
            self._asked[channel] = time.monotonic()
            found = self._news(channel)
            if found is not None and found.generation != seen:
                return found

    def _news(self, channel: str) -> Pointer | None:
        etag, known = self._seen.get(channel, (None, None))
        stored = self._get(_channel(channel), unless=etag)
        if stored is None:  # unchanged, or never set
            return known
        found = _decoded(stored[0], channel)
        self._seen[channel] = stored[1], found
        return found

    def retire(self, keep: int) -> Sequence[int]:
        """Manifests of folders first, so that what is half deleted is no version any more.

        One publisher at a time may retire: S3 has no lock over several objects.
        """
        if keep < 1:
            raise ValueError(f"keep: {keep}, but the newest version always stays; give 1 or more")
        versions = self.versions()
        needed = {*versions[-keep:], *self._pointed()}
        gone = [version for version in versions if version not in needed]
        for version in gone:
            folder = f"versions/{self._folder(version)}/"
            self._delete([folder + MANIFEST])
            self._delete(self._list(folder))
        oldest = min(versions[-keep:], default=0)
        deltas = [name for name in self._list("deltas/") if int(name.removeprefix("deltas/")[:6]) <= oldest]
        self._delete(deltas)
        return gone

    def _pointed(self) -> Iterator[int]:
        for name in self._list("channels/"):
            if found := self.channel(name.removeprefix("channels/").removesuffix(".json")):
                yield from (found.version, *found.history)

    def _must_follow(self, manifest: Manifest) -> None:
        last = max(self.numbers(), default=0)
        if manifest.version <= last:
            raise VersionTaken(f"version {manifest.label}: numbers up to {last:06d} are taken; sign for a later one")

    def _require(self) -> None:
        """Raise HubUnavailable where there is no hub; look into its mark once."""
        if self._known:
            return
        stored = self._get(MARK)
        if stored is None:
            raise HubUnavailable(f"{self.name}: there is no hub here (yet); is the address right?")
        if stored[0] != msgspec.json.encode({"format": FORMAT}):
            raise Unreadable(f"{self.name}: {stored[0][:80]!r}; only format {FORMAT} is known here")
        self._known = True

    def _folder(self, version: int) -> str:
        if version not in self._digests:
            self._digests[version] = hashlib.sha256(self.manifest(version)).hexdigest()
        return _folder(version, self._digests[version])

    def _key(self, version: int, name: str) -> str:
        return f"versions/{self._folder(version)}/{name}"

    # S3

    def _get(self, key: str, unless: str | None = None) -> tuple[bytes, str] | None:
        """An object and its ETag; None where it is absent, or still the one of the ETag `unless`."""
        condition = {"IfNoneMatch": unless} if unless else {}

        def get() -> tuple[bytes, str]:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._at(key), **condition)
            return cast(bytes, answer["Body"].read()), cast(str, answer.get("ETag", ""))

        return self._ask(get, ABSENT | UNCHANGED)

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        answer = self._ask(lambda: self._client.get_object(Bucket=self._bucket, Key=self._at(key)), ABSENT)
        if answer is None:
            raise VersionMissing(f"{self.name}: {key} is not there (any more)")
        with answer["Body"] as body:
            try:
                yield body
            except (BotoCoreError, ClientError) as error:
                raise HubUnavailable(f"{self.name}: {error}") from error

    def _upload(self, path: Path, key: str, sha256: str) -> None:
        """With the digest as metadata; boto3 sends large files in parts, and checksums of its own with each."""
        extra = {"Metadata": {"sha256": sha256}}

        def upload() -> None:
            self._client.upload_file(str(path), self._bucket, self._at(key), ExtraArgs=extra, Config=self._transfer)

        self._must(upload)

    def _put(self, key: str, data: bytes) -> None:
        self._must(lambda: self._client.put_object(Bucket=self._bucket, Key=self._at(key), Body=data))

    def _put_new(self, key: str, data: bytes) -> bool:
        """Create; False where it is there already. After an answer that was lost, what is there may be ours: then True."""
        made = self._conditional(key, data, IfNoneMatch="*")
        if not made:
            standing = self._get(key)
            return standing is not None and standing[0] == data
        return made

    def _put_if(self, key: str, data: bytes, etag: str) -> bool:
        """Replace what has this ETag; False where it is another by now, unless that is what we wrote."""
        made = self._conditional(key, data, **({"IfMatch": etag} if etag else {})) and bool(etag)
        if not made:
            standing = self._get(key)
            return standing is not None and standing[0] == data
        return made

    def _conditional(self, key: str, data: bytes, **condition: str) -> bool:
        def put() -> bool:
            self._client.put_object(Bucket=self._bucket, Key=self._at(key), Body=data, **condition)
            return True

        return self._ask(put, TAKEN | ABSENT) is not None

    def _delete(self, keys: Sequence[str]) -> None:
        """Many at a time, or one by one where a store wants the checksum of a request that clients send no more."""
        for at in range(0, len(keys), 1000):
            page = [self._at(key) for key in keys[at : at + 1000]]
            delete = {"Objects": [{"Key": key} for key in page], "Quiet": True}

            def together(delete: object = delete) -> bool:
                self._client.delete_objects(Bucket=self._bucket, Delete=delete)
                return True

            if self._ask(together, {"MissingContentMD5"}):
                continue
            for key in page:
                self._must(lambda key=key: self._client.delete_object(Bucket=self._bucket, Key=key))  # type: ignore[misc]

    def _list(self, below: str) -> list[str]:
        """The keys below a folder, without the prefix."""

        def pages() -> list[str]:
            paginator = self._client.get_paginator("list_objects_v2")
            found = paginator.paginate(Bucket=self._bucket, Prefix=self._at(below))
            cut = len(self._at(""))
            return [item["Key"][cut:] for page in found for item in page.get("Contents", ())]

        return self._must(pages)

    def _at(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _must(self, call: Callable[[], T]) -> T:
        """The result of a call. Raises HubUnavailable for everything that S3 or the way to it may say."""
        try:
            return call()
        except (BotoCoreError, ClientError, boto3.exceptions.Boto3Error) as error:
            raise HubUnavailable(f"{self.name}: {error}") from error

    def _ask(self, call: Callable[[], T], no: set[str]) -> T | None:
        """The same, but None for these answers."""
        try:
            return call()
        except ClientError as error:
            answer: Any = error.response.get("Error", {}).get("Code")
            if str(answer) in no:
                return None
            raise HubUnavailable(f"{self.name}: {error}") from error
        except BotoCoreError as error:
            raise HubUnavailable(f"{self.name}: {error}") from error


def _folder(version: int, digest: str) -> str:
    return f"{version:06d}-{digest[:DIGITS]}"


def _channel(channel: str) -> str:
    return f"channels/{channel}.json"


def _decoded(stored: bytes, channel: str) -> Pointer:
    return decode_pointer(stored, f"channel {channel!r}", "promote a version")
