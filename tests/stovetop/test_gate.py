"""The gate in a service: where training publishes to, and what the control server hears."""

from __future__ import annotations

from pathlib import Path

import pytest

from control import EventType
from control.bodies import LogBody, VersionBody
from publish import DirectoryHub, Gate, Judged, Outbox, Publisher, SigningKey, put
from stovetop.errors import ConfigurationError
from stovetop.roles.publish import _gate, _tell
from stovetop.settings import Settings, load_settings
from tests.publish.parts import ticket, weights_of


class Heard:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[EventType, object]] = []

    def tell(self, kind: EventType, body: object, **more: object) -> None:
        self.told.append((kind, body))


def settings_of(folder: Path, text: str) -> Settings:
    config = folder / "stovetop.toml"
    config.write_text(text)
    return load_settings(config)


def test_training_publishes_candidates_where_there_is_a_gate_and_versions_where_there_is_none(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "").trained_to == "stable"
    assert settings_of(tmp_path, "[gate]\nenabled = true").trained_to == "candidate"
    hub = DirectoryHub(tmp_path / "hub", create=True)
    assert _gate(settings_of(tmp_path, ""), hub) is None
    assert isinstance(_gate(settings_of(tmp_path, "[gate]\nenabled = true"), hub), Gate)


def test_rules_for_an_evaluation_that_nobody_makes_are_a_configuration_error(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "[gate]\nenabled = true\napp.score = {at_least = 0.5}")
    with pytest.raises(ConfigurationError, match=r"app\.evaluation is not set"):
        _gate(settings, DirectoryHub(tmp_path / "hub", create=True))


def test_the_control_server_hears_of_promotions_refusals_and_waiting_candidates(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "[gate]\nenabled = true\nat_most_drift = 0.5")
    hub, outbox = DirectoryHub(tmp_path / "hub", create=True), Outbox(tmp_path / "outbox")
    heard = Heard()
    publisher = Publisher(
        hub,
        outbox,
        SigningKey.load_or_create(tmp_path / "publisher.key"),
        tell=lambda event: _tell(heard, event) if isinstance(event, Judged) else None,
        gate=_gate(settings, hub),
    )
    with outbox.served():
        for value in (10, 11, 99):
            put(tmp_path / "outbox", weights_of(value), ticket(value, channel="candidate"))
            assert publisher.step() == 0.0
        publisher.rollback_version("stable", by="ada")
        put(tmp_path / "outbox", weights_of(12), ticket(12, channel="candidate"))
        publisher.step()
    first, second, refused, waiting = (body for _, body in heard.told)
    for body, version in ((first, 1), (second, 2)):
        assert isinstance(body, VersionBody)
        assert (body.action, body.channel, body.version, body.held) == ("promoted", "stable", version, False)
    assert isinstance(refused, VersionBody)
    assert (refused.action, refused.version, refused.channel) == ("refused", 3, None)
    assert "drift" in refused.reason
    assert isinstance(waiting, LogBody)
    assert "version 000004 passed the gate; its channel is held" in waiting.message
