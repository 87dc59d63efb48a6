"""The tokens of this machine: made once, for the app, the operator and the roles; others cannot read the folder."""

from __future__ import annotations

import os
import secrets
from enum import StrEnum
from pathlib import Path

from auth import Scope, TokenStore
from auth.tokens import PREFIX
from stovetop.settings import Settings


class Holder(StrEnum):
    """Who holds a token of this machine."""

    APP = "app"
    OPERATOR = "operator"
    ROLES = "roles"
    AGENTS = "agents"


SCOPES: dict[Holder, frozenset[Scope]] = {
    Holder.APP: frozenset({Scope.INGEST}),
    Holder.OPERATOR: frozenset({Scope.OPERATE, Scope.INGEST}),
    Holder.ROLES: frozenset({Scope.OPERATE}),
    Holder.AGENTS: frozenset({Scope.OPERATE}),  # their own, so that revoking it stops them for good
}


def local_token(settings: Settings, holder: Holder) -> str:
    """The token of `holder`, made and accepted on first use; the file that keeps it has mode 0600."""
    path = settings.secrets / holder.value
    store = TokenStore(settings.tokens)
    try:
        secret = path.read_text().strip()
    except FileNotFoundError:
        secret = _make(path)
    if store.verify(secret) is None:
        store.add(holder.value, SCOPES[holder], secret)
    return secret


def known_token(settings: Settings, holder: Holder) -> str | None:
    """The token of `holder` if it was made before; None otherwise."""
    try:
        return (settings.secrets / holder.value).read_text().strip()
    except FileNotFoundError:
        return None


def _make(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another process was first
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return secret
