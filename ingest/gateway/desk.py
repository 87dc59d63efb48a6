"""What all doors have in common, whichever protocol they speak: who may do what to which session, and how steps are
taken."""

from __future__ import annotations

import time
from collections.abc import Mapping

from auth.http import RequireScope
from auth.problems import INVALID_REQUEST, Problem
from auth.tokens import Grant, Scope, TokenStore
from ingest.errors import IngestError, SequenceGap, SessionClosed, SubjectsUnkeyed
from ingest.gateway.budget import Caller
from ingest.gateway.gateway import Gateway
from ingest.gateway.replies import Limits, OpenReply, OpenSession, SessionReply, TokenReply
from ingest.gateway.wire import Rules
from ingest.problems import APP_NOT_ALLOWED, CONSENT_MISSING, KEY_MISSING, SCHEMA_UNKNOWN
from ingest.sessions import Appended, Batch, Opening, Session
from ingest.types import EndReason

MAX_KEY_LENGTH = 255


class Desk:
    """A running gateway and the tokens that open it."""

    def __init__(self, gateway: Gateway, tokens: TokenStore) -> None:
        self.gateway, self.settings, self.tokens = gateway, gateway.settings, tokens
        self.limits = Limits.of(gateway.settings)
        self.any_token = RequireScope(tokens, Scope.INGEST, session_tokens=True)
        self.app_token = RequireScope(tokens, Scope.INGEST)

    def session(self, grant: Grant, session_id: str) -> Session:
        """The session as it was last committed, if the token is for its app."""
        session = self.gateway.index.require(session_id)
        _check_app(grant, session.app)
        return session

    def rules(self, session: Session, headers: Mapping[str, str] | None = None) -> Rules:
        """What the steps of a session are held to; `Prefer: handling=strict` (RFC 7240) refuses faulty ones."""
        wishes = {wish.strip().lower() for wish in (headers or {}).get("prefer", "").split(",")}
        schema = self.gateway.schemas.of_session(session.app, session.schema)
        return Rules(self.settings, schema, "handling=strict" in wishes)

    async def open(
        self, grant: Grant, wanted: OpenSession, key: str | None = None, size: int = 0
    ) -> tuple[Session, bool]:
        """Open a session, or find the one that this very request has opened before; says whether it is new."""
        opening = self._opening(grant, wanted, key)
        session, new = await self.gateway.committer.apply(lambda draft: draft.open(opening), size, opening)
        _check_app(grant, session.app)
        if new:
            self.gateway.metrics.sessions.labels("opened").inc()
        return session, new

    async def append(self, batch: Batch, size: int) -> Appended:
        """Take steps; returns once they are durable."""
        started, metrics = time.monotonic(), self.gateway.metrics
        try:
            appended = await self.gateway.committer.apply(lambda draft: draft.append(batch), size, batch.session_id)
        except IngestError as error:
            metrics.refused(len(batch.steps))
            self.count(error)
            raise
        metrics.durable_seconds.observe(time.monotonic() - started)
        metrics.appended(appended, batch)
        return appended

    async def end(
        self, session_id: str, next_seq: int | None, size: int = 0, reason: EndReason = EndReason.CLIENT
    ) -> Session:
        """End a session that has `next_seq` steps."""
        return await self.gateway.committer.apply(
            lambda draft: draft.end(session_id, next_seq, reason), size, session_id
        )

    def mint(self, grant: Grant, session: Session, seconds: float | None = None) -> TokenReply:
        """A token for one session, made from the app's own."""
        longest = self.settings.append_token_seconds
        expires_at = float(int(time.time() + min(seconds or longest, longest)))
        token = self.tokens.mint_session(grant, session.session_id, expires_at)
        return TokenReply(token=token, session_id=session.session_id, expires_at=expires_at)

    def opened(self, grant: Grant, session: Session) -> OpenReply:
        """What a client is told that has opened a session."""
        return OpenReply(
            **dict(SessionReply.of(session, self.gateway.index)),
            limits=self.limits,
            append_token=self.mint(grant, session),
            schema_version=session.schema,
        )

    def count(self, error: IngestError) -> None:
        """Note a refusal."""
        if isinstance(error, SequenceGap):
            self.gateway.metrics.gaps.inc()

    def _opening(self, grant: Grant, wanted: OpenSession, key: str | None) -> Opening:
        _check_app(grant, wanted.app)
        if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Problem(INVALID_REQUEST, f"Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters, not {len(key)}")
        if self.settings.require_idempotency_key and key is None and wanted.session_id is None:
            detail = "send the header Idempotency-Key or a session_id, so that a request that comes twice opens once"
            raise Problem(KEY_MISSING, detail)
        if self.settings.require_consent and wanted.consent is None:
            raise Problem(CONSENT_MISSING, "say what the user agreed to: consent {version, granted_at, purposes}")
        return Opening(
            app=wanted.app,
            metadata=wanted.metadata,
            session_id=wanted.session_id,
            key=None if key is None else f"{grant.name}/{key}",
            schema=self._schema_version(wanted),
            subject=self._pseudonym(wanted.subject),
            consent=None if wanted.consent is None else wanted.consent.model_dump(),
        )

    def _pseudonym(self, subject: str | None) -> str | None:
        if subject is None:
            return None
        if self.gateway.pseudonyms is None:
            raise SubjectsUnkeyed
        return self.gateway.pseudonyms.of(subject)

    def _schema_version(self, wanted: OpenSession) -> str | None:
        schemas, version = self.gateway.schemas, wanted.schema_version
        if version is not None and schemas.get(wanted.app, version) is None:
            known = schemas.versions().get(wanted.app, [])
            detail = f"{wanted.app!r} has no session schema {version!r}; there are {', '.join(known) or 'none'}"
            raise Problem(SCHEMA_UNKNOWN, detail, members={"versions": list(known)})
        return version or schemas.newest(wanted.app)


def caller_of(grant: Grant, session_id: str | None = None) -> Caller:
    """For whom a request's bytes count."""
    return Caller(grant.name, session_id)


def closed(session: Session) -> SessionClosed:
    """Why a session takes no more."""
    return SessionClosed(session.session_id, session.next_seq, session.ended or "")


def _check_app(grant: Grant, app: str) -> None:
    if not grant.posts_for(app):
        detail = f"the token {grant.name!r} is for {', '.join(sorted(grant.apps))}, not for {app!r}"
        raise Problem(APP_NOT_ALLOWED, detail)
