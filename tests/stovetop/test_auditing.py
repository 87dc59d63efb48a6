"""`stovetop audit VERSION`: from a served version back to what it was trained on."""

from __future__ import annotations

import io
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from control import Outcome
from control.api import AuditEntry
from publish import put
from stovetop.auditing import links_of, positions_of, show, show_session, trained_on
from stovetop.errors import StovetopError
from stovetop.roles.gateway import VersionsOn
from stovetop.settings import Settings, load_settings
from tests.publish.conftest import Kitchen, kitchen
from tests.publish.parts import ticket, weights_of

__all__ = ["kitchen"]


@pytest.fixture
def settings(kitchen: Kitchen, tmp_path: Path) -> Settings:
    config = tmp_path / "stovetop.toml"
    config.write_text(
        f"""
        data = "data"
        follow.hub = "{tmp_path / "hub"}"
        follow.trusted_keys = ["{kitchen.key.public}"]
        """
    )
    for step, reached in ((10, 5), (20, 9)):
        put(kitchen.outbox, weights_of(step), ticket(step, watermark={"live": {"samples/0": (reached, 0)}}))
        assert kitchen.publisher.step() == 0.0
    return load_settings(config)


def test_a_version_is_shown_with_its_parents_its_samples_and_the_commands_that_led_to_it(settings: Settings) -> None:
    links = links_of(settings, 2)
    shown = io.StringIO()
    wanted = AuditEntry(
        time=links[0].manifest.created_at - 1e-4,
        author="ada",
        note="",
        run="main",
        branch="main",
        command="update_optimizer",
        arguments={"lr": {"value": 1e-5}},
        uuid="0" * 32,
        outcome=Outcome.SUCCESS,
        reason="",
        step=15,
        takes_effect_at=None,
        before=None,
        after=None,
        seconds=0.1,
        dry_run=False,
    )
    later = wanted.model_copy(update={"time": time.time() + 60, "author": "bob"})
    show(settings, links, [wanted, later], Console(file=shown, width=200))
    told = shown.getvalue()
    assert told.index("000002") < told.index("000001")
    assert "live samples/0 5 → 9" in told
    assert "ada: update_optimizer" in told
    assert "bob" not in told
    assert links[0].digest in told


def test_what_nobody_trusted_signed_or_nobody_published_is_an_error(settings: Settings) -> None:
    with pytest.raises(StovetopError, match="000009"):
        links_of(settings, 9)
    stranger = "ed25519:" + "11" * 32
    follow = settings.follow.model_copy(update={"trusted_keys": (stranger,)})
    with pytest.raises(StovetopError, match="signed by key"):
        links_of(settings.model_copy(update={"follow": follow}), 2)


def test_a_session_is_followed_from_the_log_and_the_archive_to_the_versions_that_trained_on_it(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    from dataset.positions import Consumed, Span
    from ingest.log import Append, partition_of
    from ingest.types import SAMPLES, Annotated, Sample

    config = tmp_path / "stovetop.toml"
    config.write_text(
        f'data = "data"\nfollow.hub = "{tmp_path / "hub"}"\nfollow.trusted_keys = ["{kitchen.key.public}"]\n'
    )
    settings = load_settings(config)
    log = settings.log.open()
    writer = log.writer("annotator")
    for session in ("ada", "bob", "ada"):
        samples = tuple(Sample(session, 0, index, 1.0, {"png": b"x"}) for index in range(2))
        record = msgspec.msgpack.encode(Annotated(session, (), samples))
        partition = partition_of(session, log.reader().partitions(SAMPLES))
        writer.commit([Append(SAMPLES, partition, session, record, 1.0)])
    writer.close()
    positions = positions_of(settings, "ada")
    ((partition_name, points),) = positions.items()
    assert len(points) == 4
    with pytest.raises(StovetopError, match="neither the log nor the archive"):
        trained_on(settings, "eve")
    consumed = Consumed()
    put(kitchen.outbox, weights_of(1), ticket(1, consumed=consumed.dump()))
    kitchen.publisher.step()
    consumed.add("live", Span(partition_name, (0, 0), (points[0][0] + 1, 0)))
    put(kitchen.outbox, weights_of(2), ticket(2, consumed=consumed.dump()))
    kitchen.publisher.step()
    count, record = trained_on(settings, "ada")
    assert count == 4
    assert [(one.version, one.certain) for one in record.versions] == [(2, 2)]
    assert VersionsOn(settings)(positions) == ("000002",), "what a deletion's certificate lists"
    unknown = settings.model_copy(update={"follow": settings.follow.model_copy(update={"trusted_keys": ()})})
    assert VersionsOn(unknown)(positions) is None, "whom to trust is not known"
    shown = io.StringIO()
    show_session("ada", count, record, Console(file=shown, width=200))
    assert "session ada: 4 samples" in shown.getvalue()
    assert "000002" in shown.getvalue()
    assert "000001" not in shown.getvalue()
