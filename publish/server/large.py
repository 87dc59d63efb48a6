"""Large files as Git LFS uploads them: asked for in a batch, then sent as they are, and only then named in a commit.

A client that knows our own transfer (`publish.transfer`) may tell a file by what has changed instead.

A client with `hf_xet` speaks the protocol of Xet's own servers wherever a file is "lfs", so only who asks for it
(`Stovetop-Uploads: http`) is told so.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Any

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from publish.manifest import FileDigest
from publish.server.bodies import bounded_body
from publish.server.built import Builder
from publish.server.doors import Doors
from publish.server.refusals import bad_commit, no_upload, too_large
from publish.server.repository import SHA256
from publish.server.stored import StoredRepository
from publish.transfer import BASIC, DELTA, TOLD, Batch, Object, Told

VALID = 3600
"""Seconds that an address to upload to is valid."""
LONGEST_TOLD = 1 << 14
"""Bytes of what tells how to build an object."""

_decode_batch = msgspec.json.Decoder(Batch).decode
_decode_told = msgspec.json.Decoder(Told).decode


class _Addresses:
    """Addresses that whoever was given one may upload one content to, for a while: clients send no token along."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def made(self, repository: str, wanted: Object) -> str:
        until = int(time.time()) + VALID
        return f"?size={wanted.size}&until={until}&signature={self._sign(repository, wanted, until)}"

    def valid(self, repository: str, wanted: Object, until: int, signature: str) -> bool:
        return until >= time.time() and hmac.compare_digest(signature, self._sign(repository, wanted, until))

    def _sign(self, repository: str, wanted: Object, until: int) -> str:
        told = f"{repository}\n{wanted.oid}\n{wanted.size}\n{until}".encode()
        return hmac.new(self._secret, told, hashlib.sha256).hexdigest()


def large_routes(doors: Doors) -> APIRouter:
    """`/NAMESPACE/NAME.git/info/lfs/objects/…`."""
    router = APIRouter(include_in_schema=False)
    addresses, builder = _Addresses(), Builder()

    @router.post("/{namespace}/{name}.git/info/lfs/objects/batch", dependencies=[Depends(doors.write)])
    async def batch(request: Request, namespace: str, name: str) -> Any:
        repository = doors.writable(namespace, name)
        try:
            asked = _decode_batch(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_commit(f"the batch is not well-formed ({error})") from error
        if asked.operation != "upload":
            raise bad_commit(f"{asked.operation!r}: download through /resolve/; only uploads are asked for here")
        base = f"{str(request.base_url).rstrip('/')}/{namespace}/{name}.git/info/lfs/objects"
        told = []
        for wanted in dict.fromkeys(asked.objects):
            _check(wanted, doors)
            entry: dict[str, Any] = {"oid": wanted.oid, "size": wanted.size}
            if await to_thread.run_sync(repository.large, wanted.oid) is None:
                address = f"{base}/{wanted.oid}{addresses.made(f'{namespace}/{name}', wanted)}"
                entry["actions"] = {"upload": {"href": address, "header": {}}}
            told.append(entry)
        return {"transfer": DELTA if DELTA in asked.transfers else BASIC, "objects": told}

    @router.put("/{namespace}/{name}.git/info/lfs/objects/{oid}")
    async def upload(
        request: Request, namespace: str, name: str, oid: str, size: int, until: int, signature: str
    ) -> Response:
        wanted = Object(oid, size)
        if not addresses.valid(f"{namespace}/{name}", wanted, until, signature):
            raise no_upload(f"{namespace}/{name}: this address to upload to is not valid (any more); ask for another")
        repository = doors.writable(namespace, name)
        if request.headers.get("Content-Type") == TOLD:
            await builder.build(repository, wanted, await _told(request))
        else:
            await _take(request, repository, wanted)
        return Response(status_code=200)

    return router


async def _told(request: Request) -> Told:
    body = await bounded_body(request, LONGEST_TOLD, "what an object is made of")
    try:
        return _decode_told(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_commit(f"what the object is made of is not well-formed ({error})") from error


async def _take(request: Request, repository: StoredRepository, wanted: Object) -> None:
    with repository.scratch() as scratch:
        staged, seen, size = scratch / "content", hashlib.sha256(), 0
        with staged.open("xb") as file:

            def keep(chunk: bytes) -> None:
                seen.update(chunk)
                file.write(chunk)

            async for chunk in request.stream():
                size += len(chunk)
                if size > wanted.size:
                    raise bad_commit(f"{wanted.oid}: more bytes came than the {wanted.size} that were announced")
                await to_thread.run_sync(keep, chunk)
        found = FileDigest(seen.hexdigest(), size)
        if found != FileDigest(wanted.oid, wanted.size):
            raise bad_commit(
                f"{wanted.oid}: {size} bytes with SHA-256 {found.sha256} came; {wanted.size} were announced"
            )
        await to_thread.run_sync(lambda: repository.adopt(staged, found, large=True))


def _check(wanted: Object, doors: Doors) -> None:
    if not SHA256.fullmatch(wanted.oid) or wanted.size < 0:
        raise bad_commit(f"{wanted.oid!r} of {wanted.size} bytes: an object is named by its SHA-256")
    if wanted.size > doors.largest_commit:
        raise too_large(f"{wanted.oid}: {wanted.size} bytes, but a commit is {doors.largest_commit} bytes at most")
