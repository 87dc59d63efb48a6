"""The door's keeper over HTTP: `Depends(RequireScope(tokens, Scope.READ))` lets a request in, with its `Grant`.

The token travels as `Authorization: Bearer …` (RFC 6750), never in the URL, where logs would keep it. The dependency
looks at headers only, so a request is refused before its body is read, and works for WebSockets too.
"""

from __future__ import annotations

from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from auth.problems import Problem, ProblemType
from auth.tokens import Grant, InvalidTokenFile, Scope, TokenStore

INVALID_TOKEN = ProblemType("invalid-token", 401, "A valid token is required")
INSUFFICIENT_SCOPE = ProblemType("insufficient-scope", 403, "The token does not open this door")
SESSION_TOKEN = ProblemType("session-token", 403, "A session's token opens its session only")
TOKENS_UNREADABLE = ProblemType("tokens-unreadable", 503, "The tokens cannot be read", retryable=True)

REALM = 'Bearer realm="stovetop"'


class RequireScope(SecurityBase):
    """A FastAPI dependency that yields the `Grant` of the request's token, or refuses with 401 or 403.

    Session tokens are let in only with `session_tokens`, and where the path's `session_id` is theirs.
    """

    def __init__(self, tokens: TokenStore, scope: Scope, *, session_tokens: bool = False) -> None:
        self._tokens, self._scope, self._session_tokens = tokens, scope, session_tokens
        self.model = HTTPBearerModel(description=f"A token with the scope `{scope}`.")
        self.scheme_name = f"bearer-{scope}"

    async def __call__(self, connection: HTTPConnection) -> Grant:
        grant = self.grant(bearer(connection.headers.get("authorization")))
        self.admit(grant, connection.path_params.get("session_id"))
        return grant

    def grant(self, secret: str | None) -> Grant:
        """What `secret` stands for, if it opens this door at all; raises `Problem`."""
        try:
            grant = self._tokens.verify(secret)
        except InvalidTokenFile as error:
            raise Problem(TOKENS_UNREADABLE, str(error), retry_after=5) from error
        if grant is None:
            if secret is None:
                detail, challenge = "send the header `Authorization: Bearer <token>`", REALM
            else:
                detail, challenge = "this token is unknown or was revoked", f'{REALM}, error="invalid_token"'
            raise Problem(INVALID_TOKEN, detail, headers={"WWW-Authenticate": challenge})
        if not grant.allows(self._scope):
            raise Problem(
                INSUFFICIENT_SCOPE,
                f"the token {grant.name!r} has {_listed(grant.scopes)}, but this needs {self._scope.value!r}",
                headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{self._scope}"'},
                members={"required_scope": self._scope.value},
            )
        return grant

    def admit(self, grant: Grant, session_id: str | None) -> None:
        """Refuse a session token at any door but those of its session."""
        if grant.session_id is not None and not (self._session_tokens and session_id in (None, grant.session_id)):
            detail = f"this token is for the steps of session {grant.session_id!r} only; use the app's own"
            raise Problem(SESSION_TOKEN, detail)


def bearer(header: str | None) -> str | None:
    """The token in an `Authorization` header; None where there is none or it is of another scheme."""
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _listed(scopes: frozenset[Scope]) -> str:
    return "the scopes " + ", ".join(sorted(scopes)) if scopes else "no scope"
