"""Ed25519 signatures over manifests and channel pointers.

The publisher's key is made on first use and never leaves its machine. A reader is given public keys by its own
configuration, several while one is being replaced, and takes none from a hub.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from publish import durable
from publish.errors import KeyFileInvalid, Untrusted
from publish.manifest import Manifest
from publish.pointer import Pointer

PREFIX = "ed25519:"
Signed = TypeVar("Signed", Manifest, Pointer)


class PublicKey:
    """A key that verifies; written as `ed25519:` and 64 hexadecimal digits."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.key_id = hashlib.sha256(raw).hexdigest()[:16]

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the written form. Raises KeyFileInvalid for anything else."""
        scheme, digits = text.strip()[: len(PREFIX)], text.strip()[len(PREFIX) :]
        try:
            if scheme != PREFIX:
                raise ValueError
            return cls(bytes.fromhex(digits))
        except ValueError as error:
            raise KeyFileInvalid(
                f"public key {text!r}: it reads {PREFIX!r} and 64 hexadecimal digits, as the publisher shows it"
            ) from error

    def matches(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made `signature` over `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{PREFIX}{self._raw.hex()}"

    def __repr__(self) -> str:
        return f"PublicKey({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)


class SigningKey:
    """The publisher's private key."""

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """The key in `path` (mode 0600), made on first use; of several that make it at once, one wins for all.

        Raises KeyFileInvalid where the file is no key, or others than its owner may read it.
        """
        if not path.exists():
            durable.make_folder(path.parent)
            with durable.locked(path.with_name(f".{path.name}.lock")):
                if not path.exists():  # else another process was first, and its key is ours too
                    secret = Ed25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n"
                    durable.replace_file(path, secret, alone=True, mode=0o600)
        if path.stat().st_mode & 0o077:
            raise KeyFileInvalid(f"{path}: others may read this signing key; chmod 600 it, and replace it if they did")
        try:
            return cls(bytes.fromhex(path.read_text("ascii").strip()))
        except ValueError as error:
            raise KeyFileInvalid(
                f"{path}: not a signing key (64 hexadecimal digits); restore it, or delete it to make a new one "
                "and give its public key to every follower"
            ) from error

    @classmethod
    def prepare_next(cls, path: Path) -> SigningKey:
        """The key that `rotate` will put in place of the one in `path`: made on first use, kept beside it.

        Every follower is given its public key, beside the standing one, before `rotate`.
        """
        return cls.load_or_create(_next(path))

    @classmethod
    def rotate(cls, path: Path) -> SigningKey:
        """Put the prepared key in place of the one in `path`, whose public key is kept, so that what it signed can still
        be promoted. A publisher that runs goes on with the old one until it is started again.

        Raises KeyFileInvalid where none was prepared.
        """
        if not _next(path).exists():
            raise KeyFileInvalid(
                f"{_next(path)}: no next key was prepared; show it first, and give it to every follower"
            )
        new, old = cls.load_or_create(_next(path)), cls.load_or_create(path)
        older = older_keys(path)
        if old.public not in older and old.public != new.public:
            lines = [str(key) for key in (*older, old.public)]
            durable.replace_file(_older(path), "\n".join(lines).encode() + b"\n", alone=True)
        os.replace(_next(path), path)
        durable.sync_folder(path.parent)
        return new

    def sign(self, unsigned: Signed) -> Signed:
        """A copy that carries this key's id and signature."""
        named = msgspec.structs.replace(unsigned, key_id=self.public.key_id, signature="")
        return msgspec.structs.replace(named, signature=self._key.sign(named.canonical()).hex())


def older_keys(path: Path) -> tuple[PublicKey, ...]:
    """The public keys that the one in `path` took the place of, oldest first. Raises KeyFileInvalid."""
    try:
        stored = _older(path).read_text("ascii")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise KeyFileInvalid(f"{_older(path)}: not a list of public keys; restore it, or delete it") from error
    return tuple(PublicKey.parse(line) for line in stored.splitlines() if line)


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.older")


class TrustedKeys:
    """The public keys that a reader believes. Raises ValueError for none, since nothing could ever be read."""

    def __init__(self, keys: Iterable[PublicKey | str]) -> None:
        parsed = [key if isinstance(key, PublicKey) else PublicKey.parse(key) for key in keys]
        if not parsed:
            raise ValueError("trusted keys: none given; put the publisher's public key into the follower's settings")
        self._keys = {key.key_id: key for key in parsed}

    @property
    def texts(self) -> tuple[str, ...]:
        """The keys as settings name them."""
        return tuple(str(key) for key in self._keys.values())

    def verify(self, signed: Manifest | Pointer) -> None:
        """Return if one of the keys signed exactly this. Raises Untrusted otherwise."""
        what = f"version {signed.label}" if isinstance(signed, Manifest) else f"channel {signed.channel!r}"
        key = self._keys.get(signed.key_id)
        if key is None:
            raise Untrusted(f"{what}: signed by key {signed.key_id or 'none'!r}, trusted are {sorted(self._keys)}")
        try:
            signature = bytes.fromhex(signed.signature)
        except ValueError:
            signature = b""
        if not key.matches(signature, signed.canonical()):
            raise Untrusted(f"{what}: the signature is not that of key {signed.key_id!r} over this content")
