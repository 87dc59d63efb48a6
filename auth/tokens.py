"""Bearer tokens, hashed at rest, each with the scopes that it opens, and short-lived ones made from them.

A *key* is a token that somebody minted: it stands in the file, hashed, until it is revoked. A key may be bound to some
apps. From a key that posts sessions a *session token* can be made, for a browser: it says itself which session it is
for and how long it holds, is signed, and stands nowhere. It falls with its key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

PREFIX = "stv_"
SESSION_PREFIX = "stvs_"
KEY_FILE = ".signing"
"""Ending of the file beside the tokens with which session tokens are signed (mode 0600)."""
FORMAT = 2


_decode_claim = msgspec.msgpack.Decoder(tuple[str, str, int]).decode


class Scope(StrEnum):
    """What a token opens: `ingest` posts sessions, `operate` steers (and reads), `read` looks."""

    INGEST = "ingest"
    OPERATE = "operate"
    READ = "read"


class InvalidTokenFile(ValueError):
    """The token file is not one that this version wrote."""


class Grant(msgspec.Struct, frozen=True):
    """One known token: its name (who), its scopes and the SHA-256 of its secret, in hexadecimal.

    `apps` are those that it may post for (none: all). A session token has besides the session that it is for and the
    Unix time at which it ends; its `name` is that of its key.
    """

    name: str
    scopes: frozenset[Scope]
    sha256: str
    apps: frozenset[str] = frozenset()
    session_id: str | None = None
    expires_at: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the token opens `scope`; `operate` includes `read`."""
        return scope in self.scopes or (scope is Scope.READ and Scope.OPERATE in self.scopes)

    def posts_for(self, app: str) -> bool:
        """Whether the token is for sessions of `app`."""
        return not self.apps or app in self.apps


class TokenFile(msgspec.Struct, frozen=True):
    """The stored form."""

    format: int
    grants: tuple[Grant, ...]


_decode_token_file = msgspec.json.Decoder(TokenFile).decode


class TokenStore:
    """The tokens that a service accepts, kept in one JSON file of mode 0600.

    The file is read again when it has changed, so a token minted by the command line opens the doors at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._grants: dict[str, Grant] = {}
        self._signing_key: bytes | None = None

    def mint(self, name: str, scopes: Iterable[Scope], apps: Iterable[str] = ()) -> str:
        """Make and store a token under `name`, replacing one of that name; return its secret, shown only now."""
        secret = PREFIX + secrets.token_urlsafe(32)
        self.add(name, scopes, secret, apps)
        return secret

    def add(self, name: str, scopes: Iterable[Scope], secret: str, apps: Iterable[str] = ()) -> None:
        """Accept `secret` from now on, under `name`; for sessions of `apps` only, if any are given."""
        self._refresh()
        grants = {grant.name: grant for grant in self._grants.values()}
        grants[name] = Grant(name, frozenset(scopes), _digest(secret), frozenset(apps))
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
        if secret.startswith(SESSION_PREFIX):
            return self._verify_session(secret)
        digest = _digest(secret)
        found: Grant | None = None
        for known, grant in self._grants.items():
            if hmac.compare_digest(known, digest):
                found = grant
        return found

    def mint_session(self, key: Grant, session_id: str, expires_at: float) -> str:
        """A token for one session until `expires_at` (Unix seconds), with which nothing but its steps can be posted."""
        expires = int(expires_at)
        claim = base64.urlsafe_b64encode(msgspec.msgpack.encode((key.name, session_id, expires))).decode().rstrip("=")
        return f"{SESSION_PREFIX}{claim}.{self._signature(key, claim)}"

    def _verify_session(self, secret: str) -> Grant | None:
        claim, _, signature = secret.removeprefix(SESSION_PREFIX).partition(".")
        try:
            padded = claim + "=" * (-len(claim) % 4)
            name, session_id, expires_at = _decode_claim(base64.b64decode(padded, b"-_", validate=True))
        except (ValueError, msgspec.DecodeError):
            return None
        key = next((grant for grant in self._grants.values() if grant.name == name), None)
        if key is None or not hmac.compare_digest(self._signature(key, claim).encode(), signature.encode()):
            return None
        if expires_at <= time.time() or not key.allows(Scope.INGEST):
            return None
        return Grant(name, frozenset({Scope.INGEST}), _digest(secret), key.apps, session_id, expires_at)

    def _signature(self, key: Grant, claim: str) -> str:
        # The key's own digest is signed along: a key that was revoked, or minted anew, takes its session tokens with it.
        message = f"{key.sha256}.{claim}".encode()
        return hmac.new(self._signing(), message, hashlib.sha256).hexdigest()

    def _signing(self) -> bytes:
        if self._signing_key is None:
            path = self._path.with_name(self._path.name + KEY_FILE)
            self._signing_key = _read_or_make(path)
        return self._signing_key

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
            stored = _decode_token_file(self._path.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidTokenFile(f"{self._path}: not a token file ({error}); delete it and mint again") from error
        if not 1 <= stored.format <= FORMAT:
            raise InvalidTokenFile(f"{self._path}: format {stored.format} is not known here, only 1 to {FORMAT}")
        self._grants = {grant.sha256: grant for grant in stored.grants}
        self._stamp = stamp

    def _write(self, grants: tuple[Grant, ...]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(TokenFile(FORMAT, grants)), indent=2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, self._path)
        self._refresh()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read_or_make(path: Path) -> bytes:
    """The key in `path`, made once: whoever is first puts it there whole, and everybody reads that one."""
    for _ in range(2):
        try:
            return bytes.fromhex(path.read_text())
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise InvalidTokenFile(f"{path}: not a signing key; delete it, and session tokens end") from error
        staged = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(staged, path)
        except FileExistsError:
            pass
        finally:
            staged.unlink()
    raise InvalidTokenFile(f"{path}: it comes and goes; who else deletes it?")
