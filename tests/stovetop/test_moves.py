"""A publisher's process and a follower, with a control server between them: heartbeats, alarms, rollback, release."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth import TokenStore
from control import ControlClient, ControlSettings, Outcome
from control.server import ControlThread
from publish import Alarms, AlarmSettings, Deed, DirectoryHub, Follower, LiveModel, SigningKey, put
from stovetop.moves import SUMMARIES
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings, load_settings
from stovetop.word import Word
from tests.publish.parts import Uniform, Weights, ticket, weights_of
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Of a service whose control server runs in a thread, and whose publisher is a process."""
    store = TokenStore(tmp_path / "data" / "tokens.json")
    (tmp_path / "data").mkdir()
    thread = ControlThread(ControlSettings(port=0, data=tmp_path / "control"), store).start()
    config = tmp_path / "stovetop.toml"
    config.write_text(f'data = "data"\n[control]\nport = {thread.url.rpartition(":")[2]}\n')
    settings = load_settings(config)
    local_token(settings, Holder.ROLES)
    command = [sys.executable, "-c", "from stovetop.cli import main; main()", "publish", "--config", str(config)]
    publisher = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    yield settings
    publisher.terminate()
    assert publisher.wait(20) == 0
    thread.stop()


@pytest.fixture
def client(settings: Settings) -> Iterator[ControlClient]:
    with ControlClient(f"http://127.0.0.1:{settings.control.port}", local_token(settings, Holder.ROLES)) as client:
        yield client


def test_an_alarm_rolls_the_channel_back_for_all_until_it_is_released(
    settings: Settings, client: ControlClient
) -> None:
    follow = settings.follow
    live: LiveModel[Weights] = LiveModel(Uniform())
    word = Word(client.url, local_token(settings, Holder.ROLES), run=settings.run, follower="server-1")
    until(lambda: settings.publish.key.exists() and (follow.hub / "hub.json").exists(), "the publisher runs")
    follower = Follower(
        DirectoryHub(follow.hub),
        "stable",
        [SigningKey.load_or_create(settings.publish.key).public],
        follow.cache,
        live,
        tell=word.status,
        heartbeat=0.1,
        alarms=Alarms(AlarmSettings(enabled=True, least=3, p95_seconds=None)),
        raise_alarm=word.alarm,
    )
    follower.start()
    for step in (1, 2):
        put(settings.publish.outbox, weights_of(step), ticket(step, run=settings.run))
        until(lambda step=step: follower.status().version == step, f"version {step} is served")
    until(
        lambda: [(one.follower, one.version) for one in client.followers(settings.run).followers] == [("server-1", 2)],
        "the heartbeat shows",
    )
    for _ in range(5):
        with pytest.raises(RuntimeError), live.use():
            raise RuntimeError("nothing is painted")
    until(lambda: live.current.version == 1, "this server is back at once")
    hub = DirectoryHub(follow.hub)
    until(lambda: (hub.channel("stable").version, hub.channel("stable").held) == (1, True), "all are back, and held")
    assert "failed 1" in hub.channel("stable").reason
    until(lambda: [channel.held for channel in client.versions(settings.run).channels] == [True], "it is told")
    recorded = [entry for entry in client.audit(limit=100).entries if entry.command == "raise_alarm"]
    assert [(entry.outcome, entry.arguments["figures"]["failed"]) for entry in recorded] == [(Outcome.SUCCESS, 1.0)]

    put(settings.publish.outbox, weights_of(3), ticket(3, run=settings.run))
    until(lambda: list(hub.versions()) == [1, 2, 3], "version 3 is out")
    assert hub.channel("stable").version == 1
    late = client.send("raise_alarm", {"version": 2, "reason": "late", "follower": "server-2"}, run=settings.run)
    assert late.after is not None
    assert late.after["deed"] == Deed.STALE
    assert client.send("release_channel", run=settings.run, note="looked at it").outcome is Outcome.SUCCESS
    put(settings.publish.outbox, weights_of(4), ticket(4, run=settings.run))
    until(lambda: follower.status().version == 4, "released, the channel moves on")
    assert client.send("raise_alarm", {"version": 0, "reason": "x"}, run=settings.run).outcome is Outcome.REJECTED
    assert client.send("release_channel", {"channel": "nightly"}, run=settings.run).outcome is Outcome.FAILED
    follower.close()
    word.close()


def test_the_verb_releases_and_the_publisher_says_what_it_takes(settings: Settings, client: ControlClient) -> None:
    from typer.testing import CliRunner

    from stovetop.cli import app
    from stovetop.doors import Doors

    Doors(1, "", client.url, "", "stable", "").write(settings.doors)
    put(settings.publish.outbox, weights_of(1), ticket(1, run=settings.run))
    hub = settings.follow.hub
    until(lambda: (hub / "channels" / "stable.json").exists(), "version 1 is out")
    pinned = lambda: client.send("pin_version", run=settings.run).outcome is Outcome.SUCCESS  # noqa: E731
    until(pinned, "the publisher is connected")
    assert DirectoryHub(hub).channel("stable").held
    config = str(settings.data.parent / "stovetop.toml")
    said = CliRunner().invoke(app, ["release", "--note", "fine again", "--config", config])
    assert said.exit_code == 0, said.output
    assert not DirectoryHub(hub).channel("stable").held
    assert SUMMARIES.keys() >= {"release_channel", "raise_alarm"}
