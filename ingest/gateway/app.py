"""The gateway's doors. Which token opens which:

    /v1/…                    scope `ingest`; see `keeping_doors` for those that also take `operate`
    /metrics                 scope `read`
    /livez /readyz           none: a supervisor has no token, and they tell nothing
    /openapi.json            none: it describes the program, not the data

Tokens are looked at before a body is read, and a body is read only within the budget (`admission`).
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import Response

from auth.http import RequireScope
from auth.problems import INVALID_REQUEST, Problem, install_problems
from auth.tokens import Grant, Scope, TokenStore
from ingest.errors import IngestError, SequenceGap, SubjectsUnkeyed
from ingest.gateway.gateway import Gateway
from ingest.gateway.keeping_doors import dead_letters_router, deletions_router
from ingest.gateway.observed import Observed
from ingest.gateway.replies import (
    AppendReply,
    EndSession,
    Limits,
    OpenReply,
    OpenSession,
    Ready,
    SessionReply,
    read_model,
)
from ingest.gateway.wire import MAX_SEQ, NDJSON, TAR, read_batch
from ingest.problems import MISSING_FIRST_SEQ, UNSUPPORTED_MEDIA_TYPE, problem_of
from ingest.sessions import Opening

MEDIA_TYPES = {TAR: TAR, NDJSON: NDJSON, "application/ndjson": NDJSON, "application/jsonl": NDJSON}
MAX_KEY_LENGTH = 255
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def create_app(gateway: Gateway, tokens: TokenStore) -> FastAPI:
    """The ASGI application over a running gateway."""
    app = FastAPI(title="Stovetop gateway", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    install_problems(app)

    @app.exception_handler(IngestError)
    async def refused(request: Request, error: IngestError) -> Response:
        if isinstance(error, SequenceGap):
            gateway.metrics.gaps.inc()
        return problem_of(error).response(request)

    app.add_middleware(Observed, metrics=gateway.metrics)
    app.include_router(_sessions(gateway, RequireScope(tokens, Scope.INGEST)))
    app.include_router(deletions_router(gateway, tokens))
    app.include_router(dead_letters_router(gateway, tokens))
    app.include_router(_health(gateway, RequireScope(tokens, Scope.READ)))
    _describe_problems(app)
    return app


def _sessions(gateway: Gateway, ingest: RequireScope) -> APIRouter:
    granted = Depends(ingest)
    router = APIRouter(prefix="/v1", dependencies=[granted], responses={"4XX": {"content": PROBLEM}})
    limits = Limits.of(gateway.settings)

    @router.get("/limits", response_model=Limits)
    async def get_limits() -> Response:
        return _json(limits)

    @router.post(
        "/sessions",
        status_code=201,
        response_model=OpenReply,
        responses={200: {"model": OpenReply, "description": "This very request has opened it before."}},
        openapi_extra=_takes(OpenSession),
    )
    async def open_session(
        request: Request, grant: Grant = granted, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Response:
        async with gateway.admission.body(request, gateway.settings.max_metadata_bytes) as body:
            wanted = read_model(OpenSession, body)
            key = _key(idempotency_key, grant)
            subject = None if wanted.subject is None else _pseudonym(gateway, wanted.subject)
            opening = Opening(wanted.app, wanted.metadata, wanted.session_id, key, subject)
            session, new = await gateway.committer.apply(lambda draft: draft.open(opening), len(body))
        if new:
            gateway.metrics.sessions.labels("opened").inc()
        reply = OpenReply(**dict(SessionReply.of(session, gateway.index)), limits=limits)
        return _json(reply, 201 if new else 200, {"Location": f"/v1/sessions/{session.session_id}"})

    @router.get("/sessions/{session_id}", response_model=SessionReply)
    async def get_session(session_id: str) -> Response:
        return _json(SessionReply.of(gateway.index.require(session_id), gateway.index))

    @router.post("/sessions/{session_id}/steps", response_model=AppendReply, openapi_extra=_STEPS_BODY)
    async def append_steps(
        request: Request, session_id: str, ingest_first_seq: Annotated[str | None, Header()] = None
    ) -> Response:
        media_type, first_seq = _media_type(request), _first_seq(ingest_first_seq)
        gateway.index.require(session_id)
        async with gateway.admission.body(request, gateway.settings.max_body_bytes) as body:
            started = time.monotonic()
            batch = read_batch(media_type, body, session_id, first_seq, time.time(), gateway.settings)
            appended = await gateway.committer.apply(lambda draft: draft.append(batch), len(body))
        gateway.metrics.durable_seconds.observe(time.monotonic() - started)
        gateway.metrics.appended(appended, batch)
        return _json(AppendReply.of(appended))

    @router.post("/sessions/{session_id}/end", response_model=SessionReply, openapi_extra=_takes(EndSession))
    async def end_session(request: Request, session_id: str) -> Response:
        async with gateway.admission.body(request, gateway.settings.max_metadata_bytes) as body:
            wanted = read_model(EndSession, body)
            session = await gateway.committer.apply(lambda draft: draft.end(session_id, wanted.next_seq), len(body))
        return _json(SessionReply.of(session, gateway.index))

    return router


def _health(gateway: Gateway, read: RequireScope) -> APIRouter:
    router = APIRouter()

    @router.get("/livez", response_model=Ready)
    async def livez() -> Response:
        return _json(Ready(ready=True))

    @router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
    async def readyz() -> Response:
        reason = gateway.unready()
        return _json(Ready(ready=reason is None, reason=reason), 200 if reason is None else 503)

    @router.get("/metrics", dependencies=[Depends(read)])
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _media_type(request: Request) -> str:
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return MEDIA_TYPES[stated]
    except KeyError:
        raise Problem(UNSUPPORTED_MEDIA_TYPE, f"Content-Type {stated!r}; send {TAR} or {NDJSON}") from None


def _first_seq(header: str | None) -> int:
    if header is None:
        raise Problem(MISSING_FIRST_SEQ, "send the header Ingest-First-Seq: the seq of the request's first step")
    text = header.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or int(text) >= MAX_SEQ:
        raise Problem(INVALID_REQUEST, f"Ingest-First-Seq {header[:40]!r} is not a number from 0 to 2^53 - 1")
    return int(text)


def _key(header: str | None, grant: Grant) -> str | None:
    if header is None:
        return None
    if not 1 <= len(header) <= MAX_KEY_LENGTH:
        raise Problem(INVALID_REQUEST, f"Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters, not {len(header)}")
    return f"{grant.name}/{header}"


def _pseudonym(gateway: Gateway, subject: str) -> str:
    if gateway.pseudonyms is None:
        raise SubjectsUnkeyed
    return gateway.pseudonyms.of(subject)


def _json(model: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, headers, "application/json")


def _takes(model: type[OpenSession] | type[EndSession]) -> dict[str, Any]:
    # Bodies are read by hand, within the budget; so FastAPI has to be told what they are.
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}


_STEPS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The steps Ingest-First-Seq, Ingest-First-Seq + 1, …: one JSON object a line, or a tar in"
        " WebDataset layout (000120.json beside 000120.png …).",
        "content": {NDJSON: {"schema": {"type": "string"}}, TAR: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def _describe_problems(app: FastAPI) -> None:
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            generate()["components"]["schemas"]["Problem"] = {
                "type": "object",
                "description": "RFC 9457; `retryable` says whether the same bytes may succeed later.",
                "required": ["type", "title", "status", "detail", "retryable"],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "instance": {"type": "string"},
                    "retryable": {"type": "boolean"},
                    "request_id": {"type": "string"},
                    "expected_seq": {"type": "integer"},
                    "limit": {"type": "integer"},
                    "actual": {"type": "integer"},
                    "errors": {"type": "array", "items": {"type": "object"}},
                },
            }
        return generate()

    app.openapi = described  # type: ignore[method-assign]
