"""The JSON API of the Hugging Face Hub, as far as `huggingface_hub` calls it for repositories, commits, refs and trees.

https://huggingface.co/docs/hub/api. Uploads are asked for in the commit itself ("regular"), except of those who say that
they send large files as `publish.server.large` takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from auth import Grant
from publish.server.bodies import bounded_body
from publish.server.commits import Received, entries, file_entry, receive
from publish.server.doors import Doors, described, moment
from publish.server.refusals import (
    bad_commit,
    conflict,
    exists,
    no_entry,
    no_repository,
    no_revision,
    read_only,
    too_large,
)
from publish.server.repository import NAME, Blob, Commit
from publish.server.stored import Conflict, StoredRepository
from publish.transfer import ASKS, FROM

LONGEST_REQUEST = 16 << 20
"""Bytes of a request that is no commit."""
COMMITS_PAGE = 1000


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def api_routes(doors: Doors) -> APIRouter:
    """`/api/…`."""
    router = APIRouter(prefix="/api")
    read, write = Depends(doors.read), Depends(doors.write)

    @router.get("/whoami-v2")
    def whoami(grant: Grant = read) -> Any:
        auth = {"accessToken": {"displayName": grant.name, "role": "write"}}
        return {"type": "user", "id": grant.name, "name": grant.name, "orgs": [], "auth": auth}

    @router.post("/validate-yaml", dependencies=[read])
    def validate_yaml() -> Any:
        return {"errors": [], "warnings": []}

    @router.post("/repos/create", dependencies=[write])
    async def create(request: Request) -> Any:
        asked = await _json(request)
        namespace, name = _named(asked)
        whole = f"{namespace}/{name}"
        url = f"{_root(request)}/{whole}"
        if whole == doors.own:
            raise exists(whole, url)
        try:
            await to_thread.run_sync(doors.stored.create, namespace, name)
        except Conflict as error:
            raise exists(whole, url) from error
        return {"url": url, "name": whole}

    @router.delete("/repos/delete", dependencies=[write])
    async def delete(request: Request) -> Response:
        namespace, name = _named(await _json(request))
        if f"{namespace}/{name}" == doors.own:
            raise read_only(doors.own)
        if not await to_thread.run_sync(doors.stored.delete, namespace, name):
            raise no_repository(f"{namespace}/{name}")
        return Response(status_code=200)

    @router.get("/models", dependencies=[read])
    def models() -> Any:
        return [{"id": name, "modelId": name} for name in (doors.own, *doors.stored.names())]

    @router.get("/models/{namespace}/{name}", dependencies=[read])
    def model(namespace: str, name: str) -> Any:
        return model_at(namespace, name, "main")

    @router.get("/models/{namespace}/{name}/revision/{revision}", dependencies=[read])
    def model_at(namespace: str, name: str, revision: str) -> Any:
        return described(f"{namespace}/{name}", doors.commit(namespace, name, revision)[1])

    @router.get("/models/{namespace}/{name}/refs", dependencies=[read])
    def refs(namespace: str, name: str) -> Any:
        found = doors.repository(namespace, name).refs()
        return {
            "branches": [_ref(name, "heads", sha) for name, sha in sorted(found.branches.items())],
            "tags": [_ref(name, "tags", sha) for name, sha in sorted(found.tags.items())],
            "converts": [],
            "pullRequests": [],
        }

    @router.get("/models/{namespace}/{name}/commits/{revision}", dependencies=[read])
    def commits(request: Request, namespace: str, name: str, revision: str, p: int = 0) -> Any:
        history = doors.repository(namespace, name).history(revision)
        if not history:
            raise no_revision(f"{namespace}/{name}", revision)
        page = history[p * COMMITS_PAGE : (p + 1) * COMMITS_PAGE]
        more = len(history) > (p + 1) * COMMITS_PAGE
        link = {"Link": f'<{request.url.include_query_params(p=p + 1)}>; rel="next"'} if more else None
        return JSONResponse([_told(commit) for commit in page], headers=link)

    @router.get("/models/{namespace}/{name}/tree/{revision}", dependencies=[read])
    def tree(namespace: str, name: str, revision: str, recursive: bool = False) -> Any:
        return tree_below(namespace, name, revision, "", recursive)

    @router.get("/models/{namespace}/{name}/tree/{revision}/{path:path}", dependencies=[read])
    def tree_below(namespace: str, name: str, revision: str, path: str, recursive: bool = False) -> Any:
        found = list(entries(doors.commit(namespace, name, revision)[1], path, recursive=recursive))
        if path and not found:
            raise no_entry(f"{namespace}/{name}", path)
        return found

    @router.post("/models/{namespace}/{name}/paths-info/{revision}", dependencies=[read])
    async def paths_info(request: Request, namespace: str, name: str, revision: str) -> Any:
        asked = parse_qs((await _body(request)).decode("utf-8", "replace")).get("paths", [])
        commit = (await to_thread.run_sync(doors.commit, namespace, name, revision))[1]
        return list(_infos(commit, asked))

    @router.post("/models/{namespace}/{name}/preupload/{revision}", dependencies=[write])
    async def preupload(request: Request, namespace: str, name: str, revision: str) -> Any:
        asked = await _json(request)
        repository = doors.writable(namespace, name)
        commit = await to_thread.run_sync(repository.resolve, revision)
        standing = commit.files if commit else {}
        apart = request.headers.get(ASKS) == "http"
        files = asked.get("files", [])
        return {"files": [_mode(file, standing.get(str(file.get("path"))), doors, apart) for file in files]}

    @router.post("/models/{namespace}/{name}/commit/{revision}")
    async def commit(request: Request, namespace: str, name: str, revision: str, grant: Grant = write) -> Any:
        repository = doors.writable(namespace, name)
        with repository.scratch() as scratch:
            spooled = scratch / "body"
            size = 0
            with spooled.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > doors.largest_commit:
                        raise too_large(f"a commit is {doors.largest_commit} bytes at most; commit in parts")
                    await to_thread.run_sync(file.write, chunk)

            def keep() -> Commit:
                with spooled.open("rb") as body:
                    received = receive(body, repository, scratch)
                return _put(repository, revision, received, grant.name)

            made = await to_thread.run_sync(keep)
        url = f"{_root(request)}/{namespace}/{name}/commit/{made.sha}"
        return {"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""}

    @router.post("/models/{namespace}/{name}/branch/{branch}", dependencies=[write])
    async def branch(request: Request, namespace: str, name: str, branch: str) -> Response:
        start = (await _json(request)).get("startingPoint")
        await _referred(doors, namespace, name, branch, str(start) if start else None, is_branch=True)
        return Response(status_code=201)

    @router.post("/models/{namespace}/{name}/tag/{revision}", dependencies=[write])
    async def tag(request: Request, namespace: str, name: str, revision: str) -> Response:
        wanted = str((await _json(request)).get("tag", ""))
        await _referred(doors, namespace, name, wanted, revision, is_branch=False)
        return Response(status_code=201)

    @router.delete("/models/{namespace}/{name}/branch/{branch}", dependencies=[write])
    def no_branch(namespace: str, name: str, branch: str) -> Response:
        return _removed(doors, namespace, name, branch, is_branch=True)

    @router.delete("/models/{namespace}/{name}/tag/{tag}", dependencies=[write])
    def no_tag(namespace: str, name: str, tag: str) -> Response:
        return _removed(doors, namespace, name, tag, is_branch=False)

    return router


def _put(repository: StoredRepository, branch: str, received: Received, author: str) -> Commit:
    header = received.header
    if branch not in repository.refs().branches:
        raise no_revision("this repository", branch)
    try:
        return repository.commit(
            branch,
            received.change,
            title=header.summary,
            message=header.description,
            author=author,
            parent=header.parentCommit,
        )
    except Conflict as error:
        raise conflict(str(error)) from error
    except KeyError as error:
        raise no_entry("this commit", str(error.args[0])) from error


async def _referred(
    doors: Doors, namespace: str, name: str, wanted: str, revision: str | None, *, is_branch: bool
) -> None:
    repository = doors.writable(namespace, name)
    try:
        if is_branch:
            await to_thread.run_sync(repository.add_branch, wanted, revision)
        else:
            await to_thread.run_sync(repository.add_tag, wanted, revision or "main")
    except Conflict as error:
        raise conflict(str(error)) from error
    except KeyError as error:
        raise no_revision(f"{namespace}/{name}", str(error.args[0])) from error


def _removed(doors: Doors, namespace: str, name: str, ref: str, *, is_branch: bool) -> Response:
    try:
        doors.writable(namespace, name).remove(ref, branch=is_branch)
    except KeyError as error:
        raise no_revision(f"{namespace}/{name}", ref) from error
    return Response(status_code=200)


def _mode(file: dict[str, Any], standing: Blob | None, doors: Doors, apart: bool) -> dict[str, Any]:
    path, size = str(file.get("path")), file.get("size")
    if isinstance(size, int) and size * 4 // 3 > doors.largest_commit:
        raise too_large(f"{path!r}: {size} bytes, but a commit is {doors.largest_commit} bytes at most")
    mode = "lfs" if apart and isinstance(size, int) and size >= FROM else "regular"
    oid = None if standing is None else (standing.sha256 if mode == "lfs" else standing.oid)
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _infos(commit: Commit, asked: list[str]) -> Iterator[dict[str, Any]]:
    for path in asked:
        if path in commit.files:
            yield file_entry(path, commit.files[path])
        elif any(name.startswith(f"{path.rstrip('/')}/") for name in commit.files):
            yield {"type": "directory", "oid": commit.sha, "size": 0, "path": path.rstrip("/")}


def _ref(name: str, kind: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}


def _told(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author}],
        "date": moment(commit.date),
    }


def _named(asked: dict[str, Any]) -> tuple[str, str]:
    kind = asked.get("type") or "model"
    if kind != "model":
        raise bad_commit(f"{kind!r}: this hub holds models only")
    namespace, name = str(asked.get("organization") or "stovetop"), str(asked.get("name", ""))
    if not (NAME.fullmatch(namespace) and NAME.fullmatch(name)):
        raise bad_commit(f"{namespace}/{name}: a name is 1 to 96 letters, digits, '.', '_' and '-'")
    return namespace, name


def _root(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def _json(request: Request) -> dict[str, Any]:
    try:
        return _decode_object(await _body(request) or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_commit(f"the body is not a JSON object ({error})") from error


async def _body(request: Request) -> bytes:
    return await bounded_body(request, LONGEST_REQUEST, "a request")
