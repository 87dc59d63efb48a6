"""`POST /v1/sessions/{session_id}/steps`, the door that is used a thousand times as often as all others together.

It is an ASGI middleware before FastAPI's routing and dependencies, which would cost as much as all that is done here.
Its place in the description, and all other doors, are FastAPI's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.http import bearer
from auth.problems import INVALID_REQUEST, Problem
from ingest.errors import IngestError
from ingest.gateway.desk import Desk, caller_of
from ingest.gateway.observed import traceparent_of
from ingest.gateway.replies import AppendReply, json_reply
from ingest.gateway.wire import MAX_SEQ, NDJSON, TAR, read_batch
from ingest.problems import MISSING_FIRST_SEQ, UNSUPPORTED_MEDIA_TYPE, problem_of

PATH = "/v1/sessions/{session_id}/steps"
MEDIA_TYPES = {TAR: TAR, NDJSON: NDJSON, "application/ndjson": NDJSON, "application/jsonl": NDJSON}

_PLACE = re.compile(r"/v1/sessions/([^/]+)/steps")


@dataclass(frozen=True)
class Place:
    """Where a request went, for those who count it."""

    path: str


APPEND = Place(PATH)


class AppendDoor:
    """Answers what is posted to `PATH`, and hands on everything else."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (found := _PLACE.fullmatch(scope["path"])) is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = APPEND
        request = Request(scope, receive)
        try:
            reply = json_reply(await append(self._desk, request, found[1]))
        except Problem as problem:
            reply = problem.response(request)
        except IngestError as error:
            reply = problem_of(error).response(request)
        await reply(scope, receive, send)


async def append(desk: Desk, request: Request, session_id: str) -> AppendReply:
    """Takes the steps of a request; returns once they are durable."""
    headers = request.headers
    grant = desk.any_token.grant(bearer(headers.get("authorization")))
    desk.any_token.admit(grant, session_id)
    media_type, first = media_type_of(request), first_seq_of(headers.get("ingest-first-seq"))
    session = desk.session(grant, session_id)
    caller = caller_of(grant, session_id)
    with desk.gateway.lanes.coming(session_id) as arrived:
        async with desk.gateway.admission.body(request, desk.settings.max_body_bytes, caller) as body:
            rules, trace = desk.rules(session, headers), traceparent_of(headers)
            batch = read_batch(media_type, body, session_id, first, rules, trace)
            arrived()
            return AppendReply.of(await desk.append(batch, len(body)), batch)


def media_type_of(request: Request) -> str:
    """How the steps are laid out; raises 415."""
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return MEDIA_TYPES[stated]
    except KeyError:
        raise Problem(UNSUPPORTED_MEDIA_TYPE, f"Content-Type {stated!r}; send {TAR} or {NDJSON}") from None


def first_seq_of(header: str | None) -> int:
    """The number in `Ingest-First-Seq`; raises 400."""
    if header is None:
        raise Problem(MISSING_FIRST_SEQ, "send the header Ingest-First-Seq: the seq of the request's first step")
    text = header.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or int(text) >= MAX_SEQ:
        raise Problem(INVALID_REQUEST, f"Ingest-First-Seq {header[:40]!r} is not a number from 0 to 2^53 - 1")
    return int(text)
