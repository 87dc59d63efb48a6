"""`PUT /v1/sessions/{session_id}`: a whole session in one tar, as it was recorded, of any length in little memory.

Steps are taken as they come, and are durable as they are taken. So a broken upload is resumed by the same call, in
which what was taken before counts as duplicate; or, to send less, with `Ingest-First-Seq: next_seq` and a tar that
begins there. The session is ended when its last step is durable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from auth.problems import Problem
from auth.tokens import Grant
from ingest.errors import IngestError, InvalidBody, SessionUnknown
from ingest.gateway.admission import Stream
from ingest.gateway.append_door import first_seq_of, media_type_of
from ingest.gateway.description import PROBLEMS, WHOLE_BODY
from ingest.gateway.desk import Desk, caller_of
from ingest.gateway.observed import traceparent_of
from ingest.gateway.replies import DeadLettered, OpenSession, SessionReply, WholeReply, json_reply, read_model
from ingest.gateway.wire import TAR, Assembly, WireStep, batch_of, read_object
from ingest.problems import UNSUPPORTED_MEDIA_TYPE, problem_of
from ingest.sessions import Session
from ingest.ustar import Member, TarStream

OPENING = "session.json"
COMMIT_BYTES = 2 << 20
"""Bytes of steps after which they are committed."""
MAX_FAULTS = 100
"""Dead letters that the answer names; all are counted."""


def whole_door(desk: Desk) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    granted = Depends(desk.any_token)

    @router.put(
        "/sessions/{session_id}",
        response_model=WholeReply,
        responses={201: {"model": WholeReply, "description": "This call has opened it."}},
        openapi_extra=WHOLE_BODY,
    )
    async def put_session(
        request: Request,
        session_id: str,
        grant: Grant = granted,
        ingest_first_seq: Annotated[str | None, Header()] = None,
    ) -> Response:
        if media_type_of(request) != TAR:
            raise Problem(UNSUPPORTED_MEDIA_TYPE, f"a whole session is a tar; send {TAR}")
        first = 0 if ingest_first_seq is None else first_seq_of(ingest_first_seq)
        settings, caller = desk.settings, caller_of(grant, session_id)
        upload = Upload(desk, grant, session_id, first, request)
        try:
            async with desk.gateway.admission.stream(
                request, settings.max_session_bytes, caller, settings.upload_seconds
            ) as stream:
                await upload.take(stream)
                reply = await upload.finish()
        except (IngestError, Problem) as error:
            raise _with_progress(error, desk.gateway.index.get(session_id)) from error
        return json_reply(reply, 201 if upload.new else 200)

    return router


class Upload:
    """One call: its steps are gathered and committed in runs."""

    def __init__(self, desk: Desk, grant: Grant, session_id: str, first_seq: int, request: Request) -> None:
        self._desk, self._grant, self._session_id, self._request = desk, grant, session_id, request
        self._assembly = Assembly(first_seq)
        self._tar = TarStream(desk.settings.max_step_bytes)
        self._trace = traceparent_of(request.headers)
        self._session: Session | None = None
        self._first, self._run, self._run_bytes = first_seq, list[WireStep](), 0
        self._released = 0
        self._taken = self._duplicates = self._dead = 0
        self._faults: dict[str, DeadLettered] = {}
        self.new = False

    async def take(self, stream: Stream) -> None:
        """Take all that comes."""
        async for piece in stream:
            for member in self._tar.feed(piece):
                await self._take(member)
            if self._run_bytes >= COMMIT_BYTES or len(self._run) >= self._desk.settings.max_steps:
                await self._commit()
            self._release(stream)
        self._tar.finish()

    async def finish(self) -> WholeReply:
        """Commit the rest and end the session."""
        last = self._assembly.finish()
        if last is not None:
            self._keep(last)
        await self._commit()
        session = await self._opened()
        if session.ended is None:
            session = await self._desk.end(self._session_id, self._first)
        elif self._first > session.next_seq:
            raise InvalidBody("", "wrong-first-seq", f"the session has {session.next_seq} steps")
        return WholeReply(
            **dict(SessionReply.of(session, self._desk.gateway.index)),
            taken=self._taken,
            duplicates=self._duplicates,
            dead_letters=self._dead,
            results=self._faults,
        )

    async def _take(self, member: Member) -> None:
        if member.name.removeprefix("./") == OPENING:
            await self._open(member.content)
            return
        step = self._assembly.add(member)
        if step is not None:
            self._keep(step)
            if len(self._run) == self._desk.settings.max_steps or self._run_bytes >= COMMIT_BYTES:
                await self._commit()

    async def _open(self, text: bytes) -> None:
        if self._tar.position and (self._run or self._taken or self._session is not None or self._assembly.held):
            raise InvalidBody(f"/{OPENING}", "out-of-order", f"{OPENING} is the first member, once")
        self._desk.app_token.admit(self._grant, None)
        fields = {**read_object(text, f"/{OPENING}"), "session_id": self._session_id}
        wanted = read_model(OpenSession, msgspec.json.encode(fields))
        self._session, self.new = await self._desk.open(self._grant, wanted)

    async def _opened(self) -> Session:
        try:
            return self._desk.session(self._grant, self._session_id)
        except SessionUnknown:
            raise InvalidBody(
                f"/{OPENING}", "missing-member", f"the session is not open: its first member has to be {OPENING}"
            ) from None

    def _keep(self, step: WireStep) -> None:
        self._run.append(step)
        self._run_bytes += step.size

    async def _commit(self) -> None:
        if not self._run:
            return
        rules = self._desk.rules(await self._opened(), self._request.headers)
        batch = batch_of(self._run, self._session_id, self._first, rules, self._trace)
        size, self._first = self._run_bytes, self._first + len(self._run)
        self._run, self._run_bytes = [], 0
        appended = await self._desk.append(batch, size)
        self._taken += appended.taken
        self._duplicates += appended.duplicates
        for step in batch.steps:
            if step.rejected is not None:
                self._dead += 1
                if len(self._faults) < MAX_FAULTS:
                    self._faults[str(step.seq)] = DeadLettered.of(step.rejected)

    def _release(self, stream: Stream) -> None:
        """Give back what is committed, to within the members' headers."""
        done = self._tar.position - self._assembly.held - self._run_bytes
        if done > self._released:
            stream.release(done - self._released)
            self._released = done


def _with_progress(error: IngestError | Problem, session: Session | None) -> Problem:
    """The refusal, with the seq from which the call may be gone on with."""
    problem = error if isinstance(error, Problem) else problem_of(error)
    if session is not None:
        problem.members.setdefault("next_seq", session.next_seq)
    return problem
