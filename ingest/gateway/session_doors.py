"""Sessions over HTTP: open, ask, append, end; and what a client wants to know before."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from auth.problems import Problem
from auth.tokens import Grant
from ingest.gateway.append_door import append
from ingest.gateway.description import PROBLEMS, STEPS_BODY, takes
from ingest.gateway.desk import Desk, caller_of, closed
from ingest.gateway.replies import (
    AppendReply,
    EndSession,
    Limits,
    MintToken,
    OpenReply,
    OpenSession,
    SessionReply,
    TokenReply,
    json_reply,
    read_model,
)
from ingest.problems import SCHEMA_UNKNOWN


def session_doors(desk: Desk) -> APIRouter:
    """The routes. Those that make sessions or tokens want an app's key; the others also take a session's token."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    _opening(router, desk)
    _asking(router, desk)
    _appending(router, desk)
    return router


def _opening(router: APIRouter, desk: Desk) -> None:
    granted = Depends(desk.app_token)

    @router.post(
        "/sessions",
        status_code=201,
        response_model=OpenReply,
        responses={200: {"model": OpenReply, "description": "This very request has opened it before."}},
        openapi_extra=takes(OpenSession),
    )
    async def open_session(
        request: Request, grant: Grant = granted, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Response:
        async with desk.gateway.admission.body(request, desk.settings.max_metadata_bytes, caller_of(grant)) as body:
            session, new = await desk.open(grant, read_model(OpenSession, body), idempotency_key, len(body))
        location = {"Location": f"/v1/sessions/{session.session_id}"}
        return json_reply(desk.opened(grant, session), 201 if new else 200, location)

    @router.post("/tokens", status_code=201, response_model=TokenReply, openapi_extra=takes(MintToken))
    async def mint_token(request: Request, grant: Grant = granted) -> Response:
        async with desk.gateway.admission.body(request, desk.settings.max_metadata_bytes, caller_of(grant)) as body:
            wanted = read_model(MintToken, body)
        session = desk.session(grant, wanted.session_id)
        if session.ended is not None:
            raise closed(session)
        return json_reply(desk.mint(grant, session, wanted.seconds), 201)


def _asking(router: APIRouter, desk: Desk) -> None:
    granted = Depends(desk.any_token)

    @router.get("/limits", response_model=Limits, dependencies=[granted])
    async def get_limits() -> Response:
        return json_reply(desk.limits)

    @router.get("/schemas", response_model=dict[str, list[str]], dependencies=[granted])
    async def get_schemas() -> Response:
        return Response(msgspec.json.encode(desk.gateway.schemas.versions()), media_type="application/json")

    @router.get(
        "/schemas/{app}/{version}",
        dependencies=[granted],
        response_class=Response,
        responses={200: {"content": {"application/schema+json": {"schema": {"type": "object"}}}}},
    )
    async def get_schema(app: str, version: str) -> Response:
        schema = desk.gateway.schemas.get(app, version)
        if schema is None:
            known = desk.gateway.schemas.versions().get(app, [])
            raise Problem(SCHEMA_UNKNOWN, f"{app!r} has no session schema {version!r}", members={"versions": [*known]})
        return Response(msgspec.json.encode(schema.document), media_type="application/schema+json")

    @router.get("/sessions/{session_id}", response_model=SessionReply)
    async def get_session(session_id: str, grant: Grant = granted) -> Response:
        return json_reply(SessionReply.of(desk.session(grant, session_id), desk.gateway.index))


def _appending(router: APIRouter, desk: Desk) -> None:
    granted = Depends(desk.any_token)

    @router.post("/sessions/{session_id}/steps", response_model=AppendReply, openapi_extra=STEPS_BODY)
    async def append_steps(
        request: Request,
        session_id: str,
        grant: Grant = granted,
        ingest_first_seq: Annotated[str | None, Header()] = None,
    ) -> Response:
        # `AppendDoor` answers before a request comes so far, in the same way; this is for the description.
        return json_reply(await append(desk, request, session_id))

    @router.post("/sessions/{session_id}/end", response_model=SessionReply, openapi_extra=takes(EndSession))
    async def end_session(request: Request, session_id: str, grant: Grant = granted) -> Response:
        caller = caller_of(grant, session_id)
        async with desk.gateway.admission.body(request, desk.settings.max_metadata_bytes, caller) as body:
            wanted = read_model(EndSession, body)
            desk.session(grant, session_id)
            session = await desk.end(session_id, wanted.next_seq, len(body))
        return json_reply(SessionReply.of(session, desk.gateway.index))
