"""The command line as processes, where there is no service, and where there is only a hub to follow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth import Scope, TokenStore
from publish import DirectoryHub, Outbox, Publisher, SigningKey, put
from tests.publish.parts import ticket, weights_of
from tests.system.conftest import MakeService
from tests.system.service import Service
from tests.system.serving import examine
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def service(make_service: MakeService) -> Service:
    """Settings and a data folder; nothing is started."""
    return make_service()


def test_help_names_every_verb(service: Service) -> None:
    told = subprocess.run([sys.executable, "-m", "stovetop.cli", "--help"], capture_output=True, text=True, check=True)
    for verb in ("up", "demo", "train", "follow", "status", "mix", "lr", "pause", "resume", "stop", "start", "save"):
        assert f" {verb} " in told.stdout
    for verb in ("load", "eval", "send", "promote", "rollback", "audit", "token"):
        assert f" {verb} " in told.stdout


def test_a_token_opens_what_it_is_for_until_it_is_revoked(service: Service) -> None:
    made = service.cli("token", "kiosk", "--scope", "ingest")
    assert made.returncode == 0
    secret = made.stdout.strip()
    store = TokenStore(service.data / "tokens.json")
    grant = store.verify(secret)
    assert grant is not None
    assert grant.scopes == {Scope.INGEST}
    assert secret not in (service.data / "tokens.json").read_text()
    assert service.cli("token", "kiosk", "--scope", "ingest", "--revoke").stdout == "kiosk: revoked\n"
    assert TokenStore(service.data / "tokens.json").verify(secret) is None


@pytest.mark.parametrize("verb", [("status",), ("mix", "live=1"), ("pause",), ("audit",), ("start",)])
def test_without_a_service_a_verb_says_so_in_one_line(make_service: MakeService, verb: tuple[str, ...]) -> None:
    done = make_service().cli(*verb)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "no service was started on this data folder; run `stovetop up`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        (("send", "pause_training", "{nonsense"), "'{nonsense' is not JSON"),
        (("send", "pause_training", "[1]"), "arguments are a JSON object"),
        (("mix", "live"), "'live': write source=weight"),
        (("mix", "live=much"), "'live=much': write source=weight"),
        (("lr", "fast"), "'fast': write a rate (1e-5) or a factor (x0.5)"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_asked(
    service: Service, verb: tuple[str, ...], told: str
) -> None:
    done = service.cli(*verb)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_are_named_all_at_once(service: Service) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stovetop.cli", "up", "--config", str(service.config)],
        env={**os.environ, "STOVETOP_GATEWAY__IDLE_SECONDS": "-1", "STOVETOP_UP__GRACE": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "gateway.idle_seconds: '-1'" in done.stderr
    assert "up.grace: 'soon'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_configuration_error(make_service: MakeService) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = make_service({"STOVETOP_GATEWAY__PORT": str(port)}).cli("up")
    assert done.returncode == 78
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_supervisor_and_the_verbs_need_no_torch() -> None:
    program = "import sys, stovetop.cli, stovetop.up, trainer.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Published:
    """A hub with a publisher, in this process."""

    def __init__(self, service: Service) -> None:
        self.hub = DirectoryHub(service.data / "hub", create=True)
        self.key = SigningKey.load_or_create(service.data / "keys" / "publisher.key")
        self._folder = service.data / "outbox"
        self._outbox = Outbox(self._folder)
        self.publisher = Publisher(self.hub, self._outbox, self.key)

    def publish(self, step: int) -> int:
        put(self._folder, weights_of(float(step)), ticket(step))
        with self._outbox.served():
            assert self.publisher.step() == 0
        return self.hub.versions()[-1]


class Following:
    """`stovetop follow` on a hub, and where its link leads."""

    def __init__(self, service: Service, link: Path, key: str) -> None:
        self.link, self._key = link, key
        service.environment["STOVETOP_FOLLOW__TRUSTED_KEYS"] = f'["{key}"]'
        self.process = service.start("follow", str(link))

    def leads_to(self, version: int) -> bool:
        """Whether the link leads to a version, whole and signed."""
        if not self.link.exists():
            return False
        found = examine(self.link.resolve(), self._key)
        assert found.fault == ""
        return found.version == version

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


@pytest.fixture
def following(make_service: MakeService, tmp_path: Path) -> Iterator[tuple[Service, Published, Following]]:
    service = make_service()
    published = Published(service)
    follower = Following(service, tmp_path / "current", str(published.key.public))
    yield service, published, follower
    if follower.process.poll() is None:
        follower.process.kill()
    follower.process.wait()


def test_follow_keeps_a_link_at_the_newest_version(following: tuple[Service, Published, Following]) -> None:
    service, published, follower = following
    for step in (1, 2, 3):
        version = published.publish(step)
        until(lambda version=version: follower.leads_to(version), f"the link leads to version {version}")  # type: ignore[misc]
    published.publisher.rollback_version("stable", by="the test")
    until(lambda: follower.leads_to(2), "the link leads back")
    follower.end()
    assert follower.leads_to(2)
    (service.data / "hub").rename(service.data / "hub-that-is-away")
    follower.link.unlink()
    again = Following(service, follower.link, str(published.key.public))
    try:
        until(lambda: again.leads_to(2), "the link leads to the last verified version, without a hub")
    finally:
        again.end()


def test_follow_refuses_a_place_that_is_no_link(
    following: tuple[Service, Published, Following], tmp_path: Path
) -> None:
    service, _, _ = following
    (tmp_path / "folder").mkdir()
    refused = service.cli("follow", str(tmp_path / "folder"))
    assert refused.returncode == 78
    assert "it exists and is no link" in refused.stderr
