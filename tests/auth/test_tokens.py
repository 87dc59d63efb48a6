"""Tokens at rest: minted once, hashed, and taken up by whoever reads the same file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from auth.tokens import PREFIX, InvalidTokenFile, Scope, TokenStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tokens.json"


def test_a_secret_is_shown_once_and_never_stored(path: Path) -> None:
    secret = TokenStore(path).mint("app", [Scope.INGEST])
    assert secret.startswith(PREFIX)
    assert len(secret) > 40
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_grant_behind_a_secret_is_found(path: Path) -> None:
    store = TokenStore(path)
    secrets = {name: store.mint(name, [Scope.READ]) for name in ("one", "two", "three")}
    for name, secret in secrets.items():
        grant = store.verify(secret)
        assert grant is not None
        assert grant.name == name
    for wrong in (None, "", "wrong", secrets["one"] + "x", secrets["one"][:-1]):
        assert store.verify(wrong) is None


def test_another_process_sees_what_was_minted_and_revoked(path: Path) -> None:
    writer, reader = TokenStore(path), TokenStore(path)
    assert reader.verify("anything") is None
    secret = writer.mint("app", [Scope.INGEST])
    assert reader.verify(secret) is not None
    assert reader.names() == ("app",)
    assert writer.revoke("app")
    assert not writer.revoke("app")
    assert reader.verify(secret) is None


def test_minting_again_replaces_the_secret(path: Path) -> None:
    store = TokenStore(path)
    old, new = store.mint("app", [Scope.INGEST]), store.mint("app", [Scope.READ])
    assert store.verify(old) is None
    grant = store.verify(new)
    assert grant is not None
    assert grant.scopes == {Scope.READ}


def test_operate_includes_read_but_not_ingest(path: Path) -> None:
    store = TokenStore(path)
    grant = store.verify(store.mint("operator", [Scope.OPERATE]))
    assert grant is not None
    assert [grant.allows(scope) for scope in (Scope.OPERATE, Scope.READ, Scope.INGEST)] == [True, True, False]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2, "grants": []}', b'{"format": 1}', b'{"\xff": 1}']
)
def test_a_file_that_is_not_ours_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InvalidTokenFile, match=r"tokens\.json"):
        TokenStore(path).verify("anything")
