"""What concerns all shares of the log, asked of every gateway that has some: the deletion of a subject.

Each peer is asked once, with the client's own token, and answers for the shares that it has. Where a share is with
nobody who answers, the client is asked to try again (`ShareElsewhere`); what was done elsewhere stays done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from auth.problems import Problem, ProblemType
from ingest.errors import ShareElsewhere
from ingest.gateway.forwarding import HOP
from ingest.gateway.gateway import Gateway
from ingest.gateway.lane import Lane
from ingest.tombstones import SubjectTombstone

SECONDS = 30.0

Answers = Mapping[int, SubjectTombstone | None]
"""By share: the subject's tombstone there, if there is one."""

_decoder = msgspec.json.Decoder(dict[int, SubjectTombstone | None])


def asked_by_peer(request: Request) -> bool:
    """Whether another gateway asks, of the shares that are here."""
    return HOP in request.headers


async def here(gateway: Gateway, ask: Callable[[Lane], Awaitable[SubjectTombstone | None]]) -> Answers:
    """The answers of the shares that this gateway has."""
    return {share: await ask(lane) for share, lane in sorted(gateway.lanes.held.items()) if lane.lost is None}


async def everywhere(gateway: Gateway, request: Request, answers: Answers) -> list[SubjectTombstone]:
    """The tombstones of all shares: `answers` of those here, and what the other gateways say of theirs.

    Raises the peer's own `Problem` where it refuses, and `ShareElsewhere` where a share's gateway does not answer.
    """
    found = dict(answers)
    missing = [share for share in range(gateway.log.shares) if share not in found]
    addresses = {address for share in missing if (address := gateway.lanes.address_of(share)) is not None}
    if addresses:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            for each in await asyncio.gather(*(_ask(client, address, request) for address in sorted(addresses))):
                found |= each
    for share in missing:
        if share not in found:
            raise ShareElsewhere("the subject", gateway.lanes.address_of(share))
    return [each for each in found.values() if each is not None]


def told(answers: Answers) -> Response:
    """The answer to a peer."""
    return Response(msgspec.json.encode(answers), media_type="application/json")


async def _ask(client: httpx.AsyncClient, address: str, request: Request) -> Answers:
    headers = {HOP: "1", "authorization": request.headers.get("authorization", "")}
    try:
        # The path as it came: a subject may hold an encoded slash.
        path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii")
        answer = await client.request(request.method, f"{address}{path}", headers=headers)
    except httpx.HTTPError as error:
        raise ShareElsewhere("the subject", address) from error
    if 400 <= answer.status_code < 500:
        raise _refusal(answer)
    try:
        return _decoder.decode(answer.content) if answer.status_code == 200 else {}
    except msgspec.DecodeError:
        return {}


def _refusal(answer: httpx.Response) -> Problem:
    slug, title, detail = "unavailable", "Another gateway refused", answer.text[:200]
    try:
        body = answer.json()
        slug, title, detail = str(body["type"]).rpartition(":")[2], str(body["title"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        pass
    return Problem(ProblemType(slug, answer.status_code, title), detail)
