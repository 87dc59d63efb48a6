"""How large files reach a hub: as Git LFS uploads them, and to a hub that knows how, told by what has changed.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md: a client names the objects that it has and the transfers
that it knows; the server chooses one, and gives an address for each object that it lacks. With `basic` the content goes
there as it is. `stovetop-delta` is ours: the content may go there too, or, as `TOLD`, where to find what it is made of:
a delta that was uploaded before, and the commit whose file of that name it is told against. The hub builds the object
and keeps it only if it is the announced one. A server that does not know the transfer chooses another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import msgspec

from publish.manifest import FileDigest
from publish.pace import Bucket, LimitedFile

ASKS = "Stovetop-Uploads"
"""The header by which a client says `http`: that it sends large files by this protocol."""
FROM = 1 << 12
"""Bytes of a file from which on it is large, for those who ask."""

DELTA, BASIC = "stovetop-delta", "basic"
LFS = "application/vnd.git-lfs+json"
TOLD = "application/vnd.stovetop.delta+json"

PATIENCE, PACE = 60.0, 20e6
"""Seconds that a hub may take to build an object, and bytes of it for which it may take one more."""


class Object(msgspec.Struct, frozen=True):
    """A content by its SHA-256 (hexadecimal) and its size in bytes."""

    oid: str
    size: int


class Batch(msgspec.Struct, frozen=True):
    """What a client asks."""

    operation: str
    objects: tuple[Object, ...]
    transfers: tuple[str, ...] = (BASIC,)


class Told(msgspec.Struct, frozen=True):
    """What an object is made of: the file `name` that the object `delta` makes of the commit `base`."""

    delta: str
    base: str
    name: str


class _Action(msgspec.Struct, frozen=True):
    href: str


class _Actions(msgspec.Struct, frozen=True):
    upload: _Action | None = None


class _Entry(msgspec.Struct, frozen=True):
    oid: str
    actions: _Actions | None = None


class _Chosen(msgspec.Struct, frozen=True):
    objects: tuple[_Entry, ...] = ()
    transfer: str = BASIC


_decode_chosen = msgspec.json.Decoder(_Chosen).decode


class DeltaTransfer:
    """To the repository at `url`. `secret` is the token for it, which goes to no other address; `upload` a bucket of
    bytes. Every method raises httpx.HTTPError, of which HTTPStatusError is a refusal."""

    def __init__(self, url: str, secret: str | None, upload: Bucket | None, timeout: httpx.Timeout) -> None:
        self._batch = f"{url}.git/info/lfs/objects/batch"
        self._headers = {"Accept": LFS, "Content-Type": LFS}
        self._headers |= {"Authorization": f"Bearer {secret}"} if secret else {}
        self._client = httpx.Client(timeout=timeout, headers={"Accept-Encoding": "identity"})
        self._upload = upload

    def close(self) -> None:
        """Let connections go."""
        self._client.close()

    def missing(self, objects: Sequence[FileDigest]) -> Mapping[str, str] | None:
        """An address for each object that the hub lacks, by SHA-256; None where it does not know this transfer."""
        asked = Batch("upload", tuple(Object(each.sha256, each.size) for each in objects), (DELTA, BASIC))
        answer = self._client.post(self._batch, content=msgspec.json.encode(asked), headers=self._headers)
        answer.raise_for_status()
        try:
            chosen = _decode_chosen(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if chosen.transfer != DELTA:
            return None
        return {each.oid: each.actions.upload.href for each in chosen.objects if each.actions and each.actions.upload}

    def send(self, href: str, path: Path) -> None:
        """A content as it is."""
        with LimitedFile(path, self._upload) as file:
            self._client.put(href, content=file).raise_for_status()

    def tell(self, href: str, wanted: FileDigest, told: Told) -> None:
        """What a content is made of; returns when it is built and kept."""
        patient = httpx.Timeout(PATIENCE + wanted.size / PACE, connect=5.0)
        headers = {"Content-Type": TOLD}
        self._client.put(href, content=msgspec.json.encode(told), headers=headers, timeout=patient).raise_for_status()


def reason(answer: httpx.Response) -> str:
    """Why a hub refuses, in its own words where it has some."""
    return answer.headers.get("X-Error-Message") or f"{answer.status_code} {answer.reason_phrase}"
