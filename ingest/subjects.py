"""Pseudonyms of the people who use an app: what is stored of a subject is an HMAC of the app's own id for them.

Without the key nobody can tell who a pseudonym is, nor whether somebody is among them. The key is made once and kept
apart from the data; when it is lost, sessions can no longer be found by their subject.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ingest.errors import GatewayError

_BYTES = 32
_DIGITS = 32


class Pseudonyms:
    """Makes pseudonyms with the key in a file, which is made (mode 0600) where there is none."""

    def __init__(self, path: Path) -> None:
        self._key = _read_or_make(path)

    def of(self, subject: str) -> str:
        """The pseudonym of an app's id for a person, in 32 hexadecimal digits; always the same."""
        return hmac.new(self._key, subject.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def _read_or_make(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text())
    except FileNotFoundError:
        return _make(path)
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise GatewayError(
            f"{path}: not a key of {_BYTES} bytes in hexadecimal; restore it, or no subject can be found"
        )
    return key


def _make(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(staged, path)  # another gateway may have made it meanwhile: then that one holds
    except FileExistsError:
        pass
    finally:
        staged.unlink()
    return _read_or_make(path)
