"""Ports and tokens of this machine's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth import Scope, TokenStore
from stovetop.doors import Doors, choose_port
from stovetop.errors import ConfigurationError, NotRunning
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data=tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_next_free_port_is_taken_where_none_was_set(taken: int) -> None:
    assert choose_port("gateway", "127.0.0.1", taken, None) > taken


def test_a_port_that_was_set_and_is_taken_is_an_error_that_says_what_to_do(taken: int) -> None:
    with pytest.raises(ConfigurationError, match=f"gateway: port {taken} on 127.0.0.1 is taken; .* set gateway.port"):
        choose_port("gateway", "127.0.0.1", taken, taken)


def test_doors_are_read_as_they_were_written(settings: Settings) -> None:
    with pytest.raises(NotRunning, match="stovetop up"):
        Doors.read(settings)
    doors = Doors(1, "http://a", "http://b", "/hub", "stable", "ed25519:00")
    doors.write(settings.doors)
    assert Doors.read(settings) == doors


def test_a_holders_token_is_made_once_opens_its_scopes_only_and_is_private(settings: Settings) -> None:
    secret = local_token(settings, Holder.APP)
    assert local_token(settings, Holder.APP) == secret
    grant = TokenStore(settings.tokens).verify(secret)
    assert grant is not None
    assert grant.allows(Scope.INGEST)
    assert not grant.allows(Scope.OPERATE)
    assert (settings.secrets / "app").stat().st_mode & 0o077 == 0
    assert settings.secrets.stat().st_mode & 0o077 == 0
    assert secret not in settings.tokens.read_text()


def test_a_token_that_was_revoked_by_losing_the_file_is_accepted_again(settings: Settings) -> None:
    secret = local_token(settings, Holder.OPERATOR)
    settings.tokens.unlink()
    assert local_token(settings, Holder.OPERATOR) == secret
    assert TokenStore(settings.tokens).verify(secret) is not None
