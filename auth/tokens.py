"""Bearer tokens, hashed at rest, each with the scopes that it opens."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

PREFIX = "stv_"


class Scope(StrEnum):
    """What a token opens: `ingest` posts sessions, `operate` steers (and reads), `read` looks."""

    INGEST = "ingest"
    OPERATE = "operate"
    READ = "read"


class InvalidTokenFile(ValueError):
    """The token file is not one that this version wrote."""


class Grant(msgspec.Struct, frozen=True):
    """One known token: its name (who), its scopes and the SHA-256 of its secret, in hexadecimal."""

    name: str
    scopes: frozenset[Scope]
    sha256: str

    def allows(self, scope: Scope) -> bool:
        """Whether the token opens `scope`; `operate` includes `read`."""
        return scope in self.scopes or (scope is Scope.READ and Scope.OPERATE in self.scopes)


class TokenFile(msgspec.Struct, frozen=True):
    """The stored form."""

    format: int
    grants: tuple[Grant, ...]


class TokenStore:
    """The tokens that a service accepts, kept in one JSON file of mode 0600.

    The file is read again when it has changed, so a token minted by the command line opens the doors at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._grants: dict[str, Grant] = {}

    def mint(self, name: str, scopes: Iterable[Scope]) -> str:
        """Make and store a token under `name`, replacing one of that name; return its secret, shown only now."""
        secret = PREFIX + secrets.token_urlsafe(32)
        self.add(name, scopes, secret)
        return secret

    def add(self, name: str, scopes: Iterable[Scope], secret: str) -> None:
        """Accept `secret` from now on, under `name`."""
        self._refresh()
        grants = {grant.name: grant for grant in self._grants.values()}
        grants[name] = Grant(name, frozenset(scopes), _digest(secret))
        self._write(tuple(grants.values()))

    def revoke(self, name: str) -> bool:
        """Refuse the token called `name` from now on; False when there is none."""
        self._refresh()
        kept = tuple(grant for grant in self._grants.values() if grant.name != name)
        if len(kept) == len(self._grants):
            return False
        self._write(kept)
        return True

    def verify(self, secret: str | None) -> Grant | None:
        """The grant behind `secret`, or None. Every stored digest is compared, whichever matches."""
        if not secret:
            return None
        self._refresh()
        digest = _digest(secret)
        found: Grant | None = None
        for known, grant in self._grants.items():
            if hmac.compare_digest(known, digest):
                found = grant
        return found

    def names(self) -> tuple[str, ...]:
        """The names of all tokens that are accepted now."""
        self._refresh()
        return tuple(grant.name for grant in self._grants.values())

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._grants = None, {}
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=TokenFile)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidTokenFile(f"{self._path}: not a token file ({error}); delete it and mint again") from error
        if stored.format != 1:
            raise InvalidTokenFile(f"{self._path}: format {stored.format} is not known here, only 1")
        self._grants = {grant.sha256: grant for grant in stored.grants}
        self._stamp = stamp

    def _write(self, grants: tuple[Grant, ...]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(TokenFile(1, grants)), indent=2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, self._path)
        self._refresh()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
