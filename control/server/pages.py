"""The dashboard's built files at `/`, and a plain page where they were not built."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

DIST = Path(__file__).parent.parent / "dashboard" / "dist"

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PACKED = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""What is sent packed, with its media type."""

FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
ASK_AGAIN = {"Cache-Control": "no-cache"}

UNBUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Stovetop control</title>
<style>
body { font: 16px/1.5 system-ui; max-width: 42rem; margin: 4rem auto; padding: 0 1rem }
code { background: #8882; padding: .1em .3em }
</style>
<h1>The control server is running</h1>
<p>Its dashboard was not built. With Node 20 or newer, this builds it:</p>
<pre><code>make setup</code></pre>
<p>and reload this page. Everything else works without it: <code>stovetop status</code>, and the API described in
<a href="/openapi.json">/openapi.json</a>.</p></html>"""


def page_routes(dist: Path = DIST) -> APIRouter:
    """Everything that is not the API: a file of the build where the path names one, else the page itself."""
    router = APIRouter(include_in_schema=False)

    @router.get("/{path:path}")
    def page(path: str, request: Request) -> Response:
        if path.split("/", 1)[0] in ("api", "ws"):
            raise HTTPException(404, f"there is nothing at /{path}")
        root = dist.resolve()
        index = root / "index.html"
        if not index.is_file():
            return HTMLResponse(UNBUILT, headers=SECURITY | ASK_AGAIN, status_code=200 if path == "" else 404)
        found = (root / path).resolve()
        if path and found.is_relative_to(root) and found.is_file():
            headers = SECURITY | (FOR_EVER if path.startswith("assets/") else ASK_AGAIN)
            if found.suffix in PACKED and "gzip" in request.headers.get("accept-encoding", ""):
                packed = _packed(found, found.stat().st_mtime_ns)
                headers = headers | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
                return Response(packed, headers=headers, media_type=PACKED[found.suffix])
            return FileResponse(found, headers=headers)
        if "." in path.rsplit("/", 1)[-1]:
            raise HTTPException(404, f"the dashboard has no file {path!r}")
        return FileResponse(index, headers=SECURITY | ASK_AGAIN)

    return router


@lru_cache(maxsize=32)
def _packed(path: Path, written_at: int) -> bytes:
    """The file as gzip; `written_at` tells a file of the same name that was built anew."""
    return gzip.compress(path.read_bytes(), 9, mtime=0)
