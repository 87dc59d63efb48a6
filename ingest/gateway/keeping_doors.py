"""Doors for what is kept and what is not: deletions with their certificates, and dead letters.

    DELETE /v1/sessions/{id} · DELETE /v1/subjects/{id} · GET /v1/deletions/{id}     scope `ingest` or `operate`
    GET /v1/admin/dead-letters · POST /v1/admin/dead-letters/{id}/retry              scope `operate`

A token of `ingest` that is bound to some apps deletes what is theirs. A deletion is answered when it is durable and
every reader has noticed it: 202 until the archive is clean of it, then 200; the same, however often it is asked for.
While no broker answers it is kept, and nothing more is taken, but no reader can know of it: 503, to be asked again.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from starlette.requests import HTTPConnection

from auth.http import INSUFFICIENT_SCOPE, RequireScope
from auth.problems import INVALID_REQUEST, Problem
from auth.tokens import Grant, Scope, TokenStore
from ingest.certificates import certificate_of
from ingest.dead_letters import DeadLetters, letter_id, letter_place
from ingest.errors import SubjectsUnkeyed
from ingest.gateway.gateway import Gateway
from ingest.gateway.keeping_replies import DeadLetterReply, DeadLettersReply, DeletionReply, RetryReply
from ingest.gateway.lane import Lane
from ingest.gateway.peers import asked_by_peer, everywhere, here, told
from ingest.gateway.replies import SESSION_ID
from ingest.problems import APP_NOT_ALLOWED, DEAD_LETTER_UNKNOWN, DELETION_UNKNOWN, RETRY_AFTER, UNAVAILABLE
from ingest.tombstones import SubjectTombstone, Tombstone, together

MAX_SUBJECT = 256
PSEUDONYM = re.compile(r"[0-9a-f]{32}")
DONE: dict[int | str, dict[str, Any]] = {
    200: {"model": DeletionReply, "description": "It was deleted before, and the archive is clean of it."}
}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


class RequireAny:
    """A FastAPI dependency that yields the `Grant` of a token with either of two scopes."""

    def __init__(self, first: RequireScope, second: RequireScope) -> None:
        self._first, self._second = first, second

    async def __call__(self, connection: HTTPConnection) -> Grant:
        try:
            return await self._first(connection)
        except Problem as problem:
            if problem.kind is not INSUFFICIENT_SCOPE:
                raise
            return await self._second(connection)


def deletions_router(gateway: Gateway, tokens: TokenStore) -> APIRouter:
    """`DELETE` of sessions and subjects, and what became of it."""
    granted = Depends(RequireAny(RequireScope(tokens, Scope.INGEST), RequireScope(tokens, Scope.OPERATE)))
    router = APIRouter(prefix="/v1", dependencies=[granted], responses={"4XX": {"content": PROBLEM}})

    @router.delete("/sessions/{session_id}", status_code=202, response_model=DeletionReply, responses=DONE)
    async def delete_session(session_id: str, grant: Grant = granted) -> Response:
        if not SESSION_ID.fullmatch(session_id):
            raise Problem(INVALID_REQUEST, f"{session_id[:80]!r} is no session id: `{SESSION_ID.pattern}` is wanted")
        plan = gateway.committer.apply(lambda draft: draft.delete(session_id, Allowed(grant)), 0, session_id)
        return await _deleted(await plan)

    @router.delete("/subjects/{subject:path}", status_code=202, response_model=DeletionReply, responses=DONE)
    async def delete_subject(
        request: Request, subject: Annotated[str, Path(min_length=1, max_length=MAX_SUBJECT)], grant: Grant = granted
    ) -> Response:
        if gateway.pseudonyms is None:
            raise SubjectsUnkeyed
        pseudonym = gateway.pseudonyms.of(subject)
        answers = await here(
            gateway, lambda lane: lane.committer.apply(lambda draft: draft.delete_subject(pseudonym, Allowed(grant)))
        )
        if asked_by_peer(request):
            _check_told(gateway)
            return told(answers)
        return await _deleted(together(await everywhere(gateway, request, answers)))

    @router.get("/deletions/{deletion}", response_model=DeletionReply)
    async def get_deletion(request: Request, deletion: str) -> Response:
        kind, _, name = deletion.partition(".")
        found: Tombstone | SubjectTombstone | None = None
        if kind == "session":
            found = gateway.index.tombstone(name)
        elif kind == "subject" and PSEUDONYM.fullmatch(name):
            answers = await here(gateway, lambda lane: _subject_in(lane, name))
            if asked_by_peer(request):
                return told(answers)
            known = await everywhere(gateway, request, answers)
            found = together(known) if known else None
        if found is None:
            raise Problem(DELETION_UNKNOWN, f"{deletion[:80]!r}; a deletion is named in the answer to its DELETE")
        return _answer(await _reply(found), 200)

    async def _deleted(tombstone: Tombstone | SubjectTombstone) -> Response:
        _check_told(gateway)
        await asyncio.sleep(gateway.settings.settle_seconds)
        reply = await _reply(tombstone)
        return _answer(reply, 202 if reply.state == "pending" else 200)

    async def _reply(tombstone: Tombstone | SubjectTombstone) -> DeletionReply:
        sessions = tombstone.sessions if isinstance(tombstone, SubjectTombstone) else (tombstone.session_id,)
        due_by = tombstone.time + gateway.settings.deletion_seconds
        certificate = await asyncio.to_thread(
            certificate_of, gateway.log, tombstone.deletion, tombstone.time, due_by, sessions, gateway.trained_on
        )
        return DeletionReply.of(certificate)

    return router


def dead_letters_router(gateway: Gateway, tokens: TokenStore) -> APIRouter:
    """The dead letters, and another try for one of them."""
    operate = Depends(RequireScope(tokens, Scope.OPERATE))
    router = APIRouter(prefix="/v1/admin", dependencies=[operate], responses={"4XX": {"content": PROBLEM}})
    letters = DeadLetters(gateway.log)

    @router.get("/dead-letters", response_model=DeadLettersReply)
    async def list_dead_letters(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        count, found = await asyncio.to_thread(lambda: (letters.count(), letters.latest(limit)))
        reply = DeadLettersReply(count=count, letters=[DeadLetterReply.of(place, each) for place, each in found])
        return Response(reply.model_dump_json(exclude_none=True), media_type="application/json")

    @router.post("/dead-letters/{letter}/retry", status_code=202, response_model=RetryReply)
    async def retry_dead_letter(letter: str, request: Request) -> Response:
        place = letter_place(letter)
        found = None if place is None else await asyncio.to_thread(letters.get, place)
        if place is None or found is None:
            raise Problem(
                DEAD_LETTER_UNKNOWN, f"{letter[:80]!r}; `GET /v1/admin/dead-letters` names those that are kept"
            )
        await gateway.committer.apply(lambda draft: draft.retry(place, found), 0, found.step.session_id)
        reply = RetryReply(id=letter_id(place), session_id=found.step.session_id, seq=found.step.seq)
        return Response(reply.model_dump_json(), 202, media_type="application/json")

    return router


def _check_told(gateway: Gateway) -> None:
    """Raise while what was committed here waits for the log, where readers look for deletions."""
    if any(lane.spooling for lane in gateway.lanes.held.values()):
        detail = "the deletion is kept, but no broker answers, so that not everybody knows of it yet; ask for it again"
        raise Problem(UNAVAILABLE, detail, retry_after=RETRY_AFTER)


async def _subject_in(lane: Lane, pseudonym: str) -> SubjectTombstone | None:
    return lane.index.tombstones.subject(pseudonym)


class Allowed:
    """Refuses what belongs to another app than those of a token."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def __call__(self, app: str | None) -> None:
        apps = self._grant.apps
        if apps and app not in apps and not self._grant.allows(Scope.OPERATE):
            whose = "an app that is not known any more" if app is None else f"the app {app!r}"
            detail = f"it belongs to {whose}, the token {self._grant.name!r} to {', '.join(sorted(apps))}"
            raise Problem(APP_NOT_ALLOWED, f"{detail}; use a token that may operate")


def _answer(reply: DeletionReply, status: int) -> Response:
    headers = {"Location": f"/v1/deletions/{reply.deletion}"}
    return Response(reply.model_dump_json(exclude_none=True), status, headers, "application/json")
