"""What a request says, as far as it may."""

from __future__ import annotations

from fastapi import Request

from publish.server.refusals import too_large


async def bounded_body(request: Request, longest: int, what: str) -> bytes:
    """All of it. Raises the 413 for more than `longest` bytes of `what` as soon as they have come."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            raise too_large(f"{what} is {longest} bytes at most")
    return body
