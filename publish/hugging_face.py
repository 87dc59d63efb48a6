"""A hub in a repository of the Hugging Face Hub, or of anything that speaks its API.

    branch `versions`     every version is one commit here: its files and manifest.json at the root, where any client loads
                          them, manifests/000042.json for good, and deltas/000042 beside
    tag `000042`          that commit; a version whose tag is gone is retired
    branch `stable`, …    one a channel: the files of the version that it names, and channel.json, the signed pointer

Where the hub is Stovetop's own, the files of a version are told by the delta, and built there (`publish.transfer`); to any
other they go in full.

A commit names its parent, so that the two moments which must not be shared are compare-and-swap: one publisher gets a
number, and one move follows a generation. Files of a channel are copied on the hub and sent once. A repository counts
commits an hour, so versions are paced to leave some for channels to move; what waits gives way to what is newer.

Git forgets nothing: retiring a version takes its tag away, and frees no storage until the repository's owner squashes its
history.
"""

from __future__ import annotations

import io
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import httpx
import httpx2
import msgspec
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, get_token
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from publish.errors import ChannelMoved, HubUnavailable, VersionMissing, VersionTaken
from publish.http_hub import TIMEOUT, Body
from publish.manifest import MANIFEST, Base, FileDigest, Manifest, check_names, decode_manifest
from publish.pace import Bucket, LimitedFile
from publish.pointer import Pointer, check_channel, decode_pointer
from publish.settings import FollowSettings
from publish.transfer import ASKS, FROM, DeltaTransfer, Told, reason

HUGGING_FACE = "https://huggingface.co"
VERSIONS = "versions"
CHANNEL = "channel.json"
OURS = ("manifests/", "deltas/")
THEIRS = ("README.md", ".gitattributes")
"""Files of the repository that people keep, and no version holds."""
BURST = 16
"""Commits that may follow each other at once."""
RESERVE = 4
"""Commits that no version takes, so that an operator can always move a channel."""
TRIES = 5
"""Of a commit that somebody else's came before, such as a person's to the README."""
MOVED = (409, 412)
LATER = (408, 429, 503)
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Refs:
    branches: Mapping[str, str]
    tags: Mapping[str, str]


class HuggingFaceHub:
    """The hub at `repository` (`name/space`). `endpoint` is another service's address; the token is `token`, else the one
    that the client was logged in with.

    With `create` (a publisher's), it is made where there is none, private. `poll` is the seconds between two looks of a
    watcher, with jitter. `commits_per_hour` is the repository's allowance, `upload` a bucket of bytes: with one, files
    go by plain HTTP, since Xet's client knows no limit.
    """

    def __init__(
        self,
        repository: str,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        create: bool = False,
        poll: float = 5.0,
        commits_per_hour: float = 128.0,
        upload: Bucket | None = None,
    ) -> None:
        self._repository, self._poll, self._upload = repository, poll, upload
        self._endpoint = (endpoint or ENDPOINT).rstrip("/")
        self._place = FollowSettings(repository=repository, endpoint=endpoint, token=token or "")
        theirs = self._endpoint == HUGGING_FACE
        self._plain = not theirs or upload is not None
        self._api = HfApi(endpoint=self._endpoint, token=token, headers={ASKS: "http"})
        secret = token or get_token()
        self._transfer = DeltaTransfer(self.name, secret, upload, TIMEOUT) if create and not theirs else None
        self._client = httpx.Client(
            base_url=f"{self._endpoint}/{repository}/resolve",
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {secret}"} if secret else {}),
            timeout=TIMEOUT,
            follow_redirects=True,
        )
        self._commits = Bucket(commits_per_hour / 3600, min(BURST, commits_per_hour))
        self._not_before = 0.0  # monotonic seconds, since the hub asked to be left alone
        self._asked: dict[str, float] = {}
        self._seen: dict[str, tuple[str, Pointer | None]] = {}
        self._oldest = 0  # deltas up to this one go with the next commit
        self._files: tuple[str, Sequence[str]] = ("", ())  # a commit of the branch of versions, and its files
        self._latest: tuple[int, bytes] = (0, b"")  # the version that was committed last from here, and its manifest
        self._cut_short = False  # whether the last try ended while the hub was building files
        if create:
            self._must(lambda: self._api.create_repo(repository, private=True, exist_ok=True))
            self._must(lambda: self._api.create_branch(repository, branch=VERSIONS, exist_ok=True))

    @property
    def name(self) -> str:
        """The repository's address."""
        return f"{self._endpoint}/{self._repository}"

    @property
    def place(self) -> FollowSettings:
        """What a follower in another process opens."""
        return self._place

    def close(self) -> None:
        """Let connections go."""
        self._client.close()
        if self._transfer is not None:
            self._transfer.close()

    def numbers(self) -> Sequence[int]:
        """The manifests on the branch of versions."""
        return _numbers(self._files_at(self._head(self._refs(), VERSIONS)))

    def versions(self) -> Sequence[int]:
        """Those that have a tag."""
        return sorted(int(tag) for tag in self._refs().tags if tag.isdigit())

    def manifest(self, version: int) -> bytes:
        """The stored manifest."""
        if version == self._latest[0]:
            return self._latest[1]
        found = self._read(VERSIONS, f"manifests/{version:06d}.json")
        if found is None:
            raise VersionMissing(f"version {version:06d}: not in {self.name}")
        return found

    @contextmanager
    def open(self, version: int, name: str) -> Iterator[BinaryIO]:
        """One file of a version, by its tag."""
        check_names([name])
        with self._stream(f"{version:06d}", name) as body:
            yield body

    @contextmanager
    def open_delta(self, version: int) -> Iterator[BinaryIO]:
        """The delta beside a version."""
        with self._stream(VERSIONS, f"deltas/{version:06d}") as body:
            yield body

    def commit(self, manifest: Manifest, files: Mapping[str, Path], delta: Path | None = None) -> None:
        """One commit with all of it, then the tag, which the next commit or move makes up for if it is not made now."""
        check_names(files)
        for _ in range(TRIES):
            refs = self._refs()
            head = self._head(refs, VERSIONS)
            tree = self._files_at(head)
            self._name_the_last(refs, tree)
            last = max(_numbers(tree), default=0)
            if manifest.version <= last:
                raise VersionTaken(
                    f"version {manifest.label}: numbers up to {last:06d} are taken; sign for a later one"
                )
            self._wait_for_turn(RESERVE)
            self._tell_by(delta, manifest, head)
            if self._put_version(manifest, files, delta, head, tree):
                self._latest = manifest.version, manifest.encode()
                return
        raise HubUnavailable(f"{self.name}: others commit to it all the time; are there two publishers?")

    def channel(self, channel: str) -> Pointer | None:
        """Where a channel stands."""
        check_channel(channel)
        stored = self._read(channel, CHANNEL)
        return None if stored is None else _decoded(stored, channel)

    def move(self, pointer: Pointer) -> None:
        """One commit on the channel's branch: the files of the version, copied on the hub, and the pointer."""
        check_channel(pointer.channel)
        if pointer.channel == VERSIONS:
            raise ValueError(f"channel {VERSIONS!r}: that branch holds the versions; choose another name")
        refs = self._refs()
        if f"{pointer.version:06d}" not in refs.tags:
            self._name_the_last(refs, self._tree(VERSIONS, None))
            refs = self._refs()
        source = refs.tags.get(f"{pointer.version:06d}")
        if source is None:
            raise VersionMissing(f"version {pointer.version:06d}: its files are not in {self.name}; choose another")
        if pointer.channel not in refs.branches:
            self._must(lambda: self._api.create_branch(self._repository, branch=pointer.channel, exist_ok=True))
            refs = self._refs()
        head = self._head(refs, pointer.channel)
        stored = self._read(head, CHANNEL)
        generation = _decoded(stored, pointer.channel).generation if stored else 0
        moved = pointer.generation == generation + 1
        if moved:
            self._wait_for_turn(0)
            data = msgspec.json.encode(pointer, order="sorted")
            operations = self._copies(pointer.version, source, head, data)
            title = f"{pointer.channel}: version {pointer.version:06d}"
            try:
                moved = self._put(pointer.channel, operations, title, head) is not None
            except HubUnavailable as error:
                if error.retry_after or self._read(pointer.channel, CHANNEL) != data:
                    raise
        if not moved:
            raise ChannelMoved(
                f"channel {pointer.channel!r}: {pointer.generation} does not follow where it stands; read it again"
            )

    def watch(self, channel: str, seen: int, timeout: float) -> Pointer | None:
        """Ask every `poll` seconds, however short the timeouts of those who call; what has not changed is not sent."""
        check_channel(channel)
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            due = self._asked.get(channel, now)
            if due > deadline:
                time.sleep(max(0.0, deadline - now))
                return None
            time.sleep(max(0.0, due - now))
            self._asked[channel] = time.monotonic() + self._poll * random.uniform(0.8, 1.2)
            found = self._news(channel)
            if found is not None and found.generation != seen:
                return found

    def retire(self, keep: int) -> Sequence[int]:
        """Take the tags of old versions away; their deltas go with the next commit."""
        if keep < 1:
            raise ValueError(f"keep: {keep}, but the newest version always stays; give 1 or more")
        refs = self._refs()
        versions = sorted(int(tag) for tag in refs.tags if tag.isdigit())
        self._oldest = min(versions[-keep:], default=0)
        if len(versions) <= keep:
            return ()
        needed = set(versions[-keep:])
        for branch in refs.branches:
            if branch != VERSIONS and (stored := self._read(branch, CHANNEL)) is not None:
                found = _decoded(stored, branch)
                needed |= {found.version, *found.history}
        gone = [version for version in versions if version not in needed]
        for version in gone:
            self._ask(lambda version=version: self._api.delete_tag(self._repository, tag=f"{version:06d}"), (404,))  # type: ignore[misc]
        return gone

    # Commits

    def _put_version(
        self, manifest: Manifest, files: Mapping[str, Path], delta: Path | None, head: str, tree: Sequence[str]
    ) -> bool:
        """Commit and tag a version; False where the branch has moved since."""
        stored = manifest.encode()
        with ExitStack() as opened:
            operations = self._operations(manifest, files, delta, stored, tree, opened)
            try:
                made = self._put(VERSIONS, operations, f"version {manifest.label}", head)
            except HubUnavailable as error:
                if error.retry_after or not self._is_there(manifest, stored):
                    raise
                refs = self._refs()  # the answer was lost, not the commit
                self._name_the_last(refs, self._files_at(self._head(refs, VERSIONS)))
                return True
        if made is None:
            return False
        self._files = made, _after(tree, operations)
        self._tag(manifest.label, made)
        return True

    def _operations(
        self,
        manifest: Manifest,
        files: Mapping[str, Path],
        delta: Path | None,
        stored: bytes,
        tree: Sequence[str],
        opened: ExitStack,
    ) -> list[Any]:
        operations: list[Any] = [self._add(name, path, manifest.files[name], opened) for name, path in files.items()]
        operations += [self._written(name, stored) for name in (MANIFEST, f"manifests/{manifest.label}.json")]
        if delta is not None and isinstance(manifest.base, Base):
            operations.append(self._add(f"deltas/{manifest.label}", delta, manifest.base.file, opened))
        gone = [name for name in tree if not name.startswith(OURS) and name not in (*files, MANIFEST, *THEIRS)]
        gone += [name for name in tree if name.startswith("deltas/") and int(name[7:]) <= self._oldest]
        return operations + [CommitOperationDelete(name, is_folder=False) for name in gone]

    def _add(self, name: str, path: Path, digest: FileDigest, opened: ExitStack) -> CommitOperationAdd:
        """By its known digest, so that it is not read for it again."""
        operation = CommitOperationAdd(name, path)
        operation.upload_info.sha256 = bytes.fromhex(digest.sha256)
        if self._plain:  # what is no path is never sent to Xet's servers
            operation.path_or_fileobj = cast(BinaryIO, opened.enter_context(LimitedFile(path, self._upload)))
        return operation

    def _written(self, name: str, content: bytes) -> CommitOperationAdd:
        return CommitOperationAdd(name, io.BytesIO(content) if self._plain else content)

    def _copies(self, version: int, source: str, head: str, pointer: bytes) -> list[Any]:
        stored = self.manifest(version)
        names = [*decode_manifest(stored, f"version {version:06d}").files, MANIFEST]
        check_names(names[:-1])
        operations: list[Any] = [CommitOperationCopy(name, name, src_revision=source) for name in names]
        operations.append(self._written(CHANNEL, pointer))
        gone = [name for name in self._tree(head, None) if name not in (*names, CHANNEL, *THEIRS)]
        return operations + [CommitOperationDelete(name, is_folder=False) for name in gone]

    def _put(self, branch: str, operations: Sequence[Any], title: str, parent: str) -> str | None:
        """Commit, and return its SHA; None where the branch has moved since."""

        def commit() -> str:
            return self._api.create_commit(
                self._repository, operations, commit_message=title, revision=branch, parent_commit=parent
            ).oid

        return self._ask(commit, MOVED)

    def _tell_by(self, delta: Path | None, manifest: Manifest, head: str) -> None:
        """Send the delta first, and let the hub build the version's files from it and those of the commit `head`, which
        are the base's; what it does not build goes with the commit. So does everything after a try that ended in here:
        what ends a hub or a line in the middle of building might do so each time."""
        transfer, cut_short, self._cut_short = self._transfer, self._cut_short, False
        if transfer is None or delta is None or not isinstance(manifest.base, Base) or cut_short:
            return
        told = manifest.base.file
        large = {name: digest for name, digest in manifest.files.items() if digest.size >= FROM}
        self._must_be_let_alone_no_more()
        try:
            missing = transfer.missing([told, *large.values()])
            if missing is None:
                return
            if told.sha256 in missing:
                transfer.send(missing[told.sha256], delta)
            self._cut_short = True
            for name, digest in large.items():
                if digest.sha256 in missing:
                    transfer.tell(missing[digest.sha256], digest, Told(told.sha256, head, name))
        except httpx.HTTPStatusError as error:
            answer = error.response
            if answer.status_code in LATER:
                self._cut_short = False
                raise self._unavailable(reason(answer), answer.status_code, answer.headers) from error
            logger.warning("version %s goes to %s in full: %s", manifest.label, self.name, reason(answer))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HubUnavailable(f"{self.name}: {error or type(error).__name__}") from error
        self._cut_short = False

    def _is_there(self, manifest: Manifest, stored: bytes) -> bool:
        return self._read(VERSIONS, f"manifests/{manifest.label}.json") == stored

    def _name_the_last(self, refs: _Refs, tree: Sequence[str]) -> None:
        """Tag the newest version where a crash or a lost answer came between its commit and its tag."""
        last = max(_numbers(tree), default=0)
        if not last or f"{last:06d}" in refs.tags or last <= self._oldest:
            return
        tag = f"{last:06d}"
        commits = self._must(lambda: self._api.list_repo_commits(self._repository, revision=VERSIONS))
        made = next((commit.commit_id for commit in commits if commit.title == f"version {tag}"), None)
        if made is not None:
            self._tag(tag, made)

    def _tag(self, tag: str, commit: str) -> None:
        self._must(lambda: self._api.create_tag(self._repository, tag=tag, revision=commit, exist_ok=True))

    def _wait_for_turn(self, leave: float) -> None:
        if wait := self._commits.take(1, leave=leave):
            raise HubUnavailable(f"{self.name}: its commits of this hour are used up for now", retry_after=wait)

    # Reads

    def _refs(self) -> _Refs:
        found = self._must(lambda: self._api.list_repo_refs(self._repository))
        return _Refs(
            {branch.name: branch.target_commit for branch in found.branches},
            {tag.name: tag.target_commit for tag in found.tags},
        )

    def _head(self, refs: _Refs, branch: str) -> str:
        if branch not in refs.branches:
            raise HubUnavailable(f"{self.name}: there is no branch {branch!r}, so no hub here (yet)")
        return refs.branches[branch]

    def _tree(self, revision: str, below: str | None) -> list[str]:
        """The files of a revision; none where there is no such folder. A repository that is absent is no empty hub."""

        def files() -> list[str]:
            found = self._api.list_repo_tree(self._repository, below, revision=revision, recursive=True)
            return [entry.path for entry in found if hasattr(entry, "blob_id")]

        found = self._ask(files, (404,))
        if found is None:
            self._head(self._refs(), VERSIONS)
        return found or []

    def _files_at(self, commit: str) -> Sequence[str]:
        """The files of a commit of the branch of versions, which never change."""
        if self._files[0] != commit:
            self._files = commit, self._tree(commit, None)
        return self._files[1]

    def _read(self, revision: str, name: str) -> bytes | None:
        response = self._get(revision, name, {})
        return None if response is None else response.content

    def _news(self, channel: str) -> Pointer | None:
        etag, known = self._seen.get(channel, ("", None))
        response = self._get(channel, CHANNEL, {"If-None-Match": etag} if etag else {})
        if response is None or response.status_code == 304:
            return known if response is not None else None
        found = _decoded(response.content, channel)
        self._seen[channel] = response.headers.get("ETag", ""), found
        return found

    def _get(self, revision: str, name: str, headers: Mapping[str, str]) -> httpx.Response | None:
        """A file; None where there is none."""
        self._must_be_let_alone_no_more()
        try:
            response = self._client.get(f"/{revision}/{name}", headers=dict(headers))
        except httpx.HTTPError as error:
            raise HubUnavailable(f"{self.name}: {error or type(error).__name__}") from error
        if response.status_code == 404 and response.headers.get("X-Error-Code") != "RepoNotFound":
            return None
        if response.status_code not in (200, 304):
            raise self._unavailable(f"it answers {response.status_code}", response.status_code, response.headers)
        return response

    @contextmanager
    def _stream(self, revision: str, name: str) -> Iterator[BinaryIO]:
        self._must_be_let_alone_no_more()
        try:
            with self._client.stream("GET", f"/{revision}/{name}") as response:
                if response.status_code == 404:
                    raise VersionMissing(f"{self.name}: {name} of {revision} is not there (any more)")
                if response.status_code != 200:
                    raise self._unavailable(
                        f"it answers {response.status_code}", response.status_code, response.headers
                    )
                yield io.BufferedReader(Body(response), 1 << 20)
        except httpx.HTTPError as error:
            raise HubUnavailable(f"{self.name}: {error or type(error).__name__}") from error

    # The client

    def _must(self, call: Callable[[], T]) -> T:
        """The result of a call. Raises HubUnavailable for everything that the hub or the way to it may say."""
        return cast(T, self._ask(call, ()))

    def _ask(self, call: Callable[[], T], no: Sequence[int]) -> T | None:
        """The same, but None for these answers."""
        self._must_be_let_alone_no_more()
        try:
            return call()
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in no:
                return None
            raise self._unavailable(str(error), status, error.response.headers) from error
        except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
            cause = error.__cause__
            if isinstance(cause, HfHubHTTPError):
                raise self._unavailable(str(cause), cause.response.status_code, cause.response.headers) from error
            raise HubUnavailable(f"{self.name}: {error or type(error).__name__}") from error

    def _unavailable(self, why: str, status: int, headers: Mapping[str, str]) -> HubUnavailable:
        wait = _asked_to_wait(headers) if status in LATER else 0.0
        self._not_before = max(self._not_before, time.monotonic() + wait)
        return HubUnavailable(f"{self.name}: {why}", retry_after=wait)

    def _must_be_let_alone_no_more(self) -> None:
        if (left := self._not_before - time.monotonic()) > 0:
            raise HubUnavailable(f"{self.name}: it asked to be left alone for {left:.0f} s more", retry_after=left)


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds, by either of the headers that hubs send."""
    told = parse_ratelimit_headers(headers)
    if told is not None and told.remaining == 0:
        return float(told.reset_in_seconds)
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _after(tree: Sequence[str], operations: Sequence[Any]) -> Sequence[str]:
    """The files once the operations are committed."""
    gone = {each.path_in_repo for each in operations if isinstance(each, CommitOperationDelete)}
    added = {each.path_in_repo for each in operations if isinstance(each, CommitOperationAdd)}
    return sorted({*tree} - gone | added)


def _numbers(tree: Sequence[str]) -> list[int]:
    stems = (name.removeprefix("manifests/").removesuffix(".json") for name in tree if name.startswith("manifests/"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _decoded(stored: bytes, channel: str) -> Pointer:
    return decode_pointer(stored, f"channel {channel!r}", "promote a version")
