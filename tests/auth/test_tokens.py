"""Tokens at rest: minted once, hashed, and taken up by whoever reads the same file."""

from __future__ import annotations

import stat
import time
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
    "content", [b"", b"{", b"[]", b'{"format": 3, "grants": []}', b'{"format": 1}', b'{"\xff": 1}']
)
def test_a_file_that_is_not_ours_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InvalidTokenFile, match=r"tokens\.json"):
        TokenStore(path).verify("anything")


def test_a_key_may_be_bound_to_apps_and_older_files_are_still_read(path: Path) -> None:
    store = TokenStore(path)
    bound, free = store.mint("bound", [Scope.INGEST], apps=["desktop"]), store.mint("free", [Scope.INGEST])
    grants = [TokenStore(path).verify(secret) for secret in (bound, free)]
    assert [grant and (grant.posts_for("desktop"), grant.posts_for("other")) for grant in grants] == [
        (True, False),
        (True, True),
    ]
    path.write_text('{"format":1,"grants":[{"name":"old","scopes":["read"],"sha256":"00"}]}')
    assert TokenStore(path).names() == ("old",)


def test_a_session_token_is_for_one_session_for_a_while_and_stands_nowhere(path: Path) -> None:
    store = TokenStore(path)
    key = store.verify(store.mint("app", [Scope.INGEST, Scope.OPERATE], apps=["desktop"]))
    assert key is not None
    secret = store.mint_session(key, "session-1", time.time() + 60)
    grant = TokenStore(path).verify(secret)
    assert grant is not None
    assert (grant.session_id, grant.apps, grant.scopes) == ("session-1", {"desktop"}, {Scope.INGEST})
    assert grant.expires_at == pytest.approx(time.time() + 60, abs=2)
    assert not any(secret in file.read_text() for file in path.parent.iterdir())
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.parent.iterdir())
    assert store.verify(store.mint_session(key, "session-1", time.time() - 1)) is None, "it has ended"


def test_a_session_token_cannot_be_changed_and_falls_with_its_key(path: Path) -> None:
    store = TokenStore(path)
    key = store.verify(store.mint("app", [Scope.INGEST]))
    assert key is not None
    secret = store.mint_session(key, "session-1", time.time() + 60)
    other = store.mint_session(key, "session-2", time.time() + 60)
    claim, _, signature = secret.partition(".")
    for wrong in (
        claim,
        claim + ".",
        claim + "." + "0" * 64,
        other.partition(".")[0] + "." + signature,
        secret[:-1],
        secret.replace("stvs_", "stvs_A"),
        "stvs_",
        "stvs_.",
        "stvs_é.é",
        "stvs_AAAA.00",
    ):
        assert store.verify(wrong) is None, wrong
    store.mint("app", [Scope.INGEST])
    assert store.verify(secret) is None, "its key was minted anew"
    store.revoke("app")
    assert store.verify(secret) is None
