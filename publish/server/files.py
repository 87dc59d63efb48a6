"""Downloads: `/{repository}/resolve/{revision}/{path}`, whole, in ranges, or only if it has changed."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, Response

from publish.server.doors import Doors
from publish.server.refusals import no_entry


def file_routes(doors: Doors) -> APIRouter:
    """The headers are those that a client names its cache entries by."""
    router = APIRouter()

    @router.api_route(
        "/{namespace}/{name}/resolve/{revision}/{path:path}",
        methods=["GET", "HEAD"],
        dependencies=[Depends(doors.read)],
        include_in_schema=False,
    )
    def resolve(request: Request, namespace: str, name: str, revision: str, path: str) -> Response:
        repository, commit = doors.commit(namespace, name, revision)
        blob = commit.files.get(path)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if blob is None:
            refusal = no_entry(f"{namespace}/{name}", path)
            refusal.headers.update(headers)
            raise refusal
        headers["ETag"] = f'"{blob.etag}"'
        if blob.large:
            headers |= {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if known & {headers["ETag"], "*"}:
            return Response(status_code=304, headers=headers)
        try:
            file = repository.path(commit, path)
        except FileNotFoundError as error:  # retired between the two looks
            raise no_entry(f"{namespace}/{name}", path) from error
        return FileResponse(file, headers=headers, media_type="application/octet-stream")

    return router
