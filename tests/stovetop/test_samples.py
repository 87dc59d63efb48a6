"""Samples of new versions: an app's plug-in paints them beside the publisher, and stops nothing, whatever it does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from control import ActorConnection, ControlClient, EventType
from control.api import VersionList
from control.bodies import VersionBody
from control.png import png_size
from stovetop.errors import ConfigurationError
from stovetop.painter import Painter, PaintingFailed
from stovetop.roles.samples import Sampling
from stovetop.settings import Settings, load_settings
from tests.control.servers import Served
from tests.publish.conftest import Kitchen, kitchen
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PAINTINGS = "tests.stovetop.paintings"
__all__ = ["kitchen"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "server")
    yield server
    server.close()


def painted(name: str, folder: Path, seconds: float = 60.0) -> dict[str, bytes]:
    painter = Painter(f"{PAINTINGS}:{name}", seconds)
    try:
        return dict(painter.paint(folder))
    finally:
        painter.close()


def test_pictures_of_every_kind_become_png_files(tmp_path: Path) -> None:
    files = painted("of_every_kind", tmp_path)
    assert list(files) == ["sample 1", "sample 2", "sample 3", "sample 4"]
    assert [png_size(file) for file in files.values()] == [(5, 5), (3, 2), (3, 2), (3, 2)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dies", "its process ended without a word"),
        ("too_many", "12 pictures; give 1 to 8"),
        ("nothing", "0 pictures"),
        ("too_large", "make it smaller"),
        ("no_picture", r"an array of float32 \[2, 3\] is no picture"),
        ("a_word", "str is no picture"),
        ("shade", "failed .FileNotFoundError"),
    ],
)
def test_what_goes_wrong_costs_the_pictures_and_is_told(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(PaintingFailed, match=told):
        painted(name, tmp_path)


def test_a_name_that_does_not_exist_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tests\.stovetop\.paintings has no missing"):
        painted("missing", tmp_path)


def test_one_that_hangs_is_ended_and_the_next_version_is_painted(tmp_path: Path) -> None:
    painter = Painter(f"{PAINTINGS}:hangs_at_first", seconds=1.0)
    with pytest.raises(PaintingFailed, match="took more than 1 s; it was ended"):
        painter.paint(tmp_path)

    def again() -> int:
        try:
            return len(painter.paint(tmp_path))
        except PaintingFailed:  # a second may be too short on a machine with more to do than this
            return 0

    assert until(again, "the next version is painted") == 4
    painter.close()


def test_it_comes_after_all_others_and_is_gone_with_whoever_asks(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from stovetop.painter import Painter\n"
        f"if __name__ == '__main__': Painter('{PAINTINGS}:says_who_it_is', 60).paint(Path(sys.argv[1])); time.sleep(3600)"
    )
    (tmp_path / "asks.py").write_text(code)
    asking = subprocess.Popen(
        [sys.executable, str(tmp_path / "asks.py"), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        until(lambda: (tmp_path / "nice").exists() and (tmp_path / "nice").read_text(), "it paints")
        assert int((tmp_path / "nice").read_text()) == min(19, os.nice(0) + 19)
        process = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        asking.kill()
        asking.wait()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it ends")


def test_new_versions_are_painted_one_that_fails_is_told_of_and_stops_nothing(
    kitchen: Kitchen, served: Served, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, served, "moody")
    command = [sys.executable, "-m", "stovetop.cli", "samples", "--config", str(tmp_path / "stovetop.toml")]
    client = served.client
    with (
        ActorConnection(served.url, served.tokens.operate, run="run", actor="publisher", kind="publisher") as publisher,
        subprocess.Popen(command, cwd=ROOT) as role,
    ):
        try:
            for version in (1, 2, 3):
                kitchen.publish(version)
                publisher.tell(EventType.VERSION, VersionBody(version=version, action="published"), step=version)
                if version == 2:
                    until(lambda: any("not in the mood" in line for line in said(client)), "it is told")
                else:
                    until(lambda version=version: greys(client).get(version) == version, f"{version} is painted")  # type: ignore[misc]
            assert greys(client) == {1: 1, 3: 3}
        finally:
            role.terminate()
    assert role.returncode == 0
    assert not list(settings.painted.glob("*/*")), "files of a version were left"


class Counting(ControlClient):
    """Counts how often the server is asked for versions."""

    asked = 0

    def versions(self, run: str | None = None) -> VersionList:
        self.asked += 1
        return super().versions(run)


def test_the_server_is_asked_when_a_version_was_told_of_and_not_else(
    kitchen: Kitchen, served: Served, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, served, "shade")
    painter, stop = Painter(f"{PAINTINGS}:shade", 60), threading.Event()
    with (
        ActorConnection(served.url, served.tokens.operate, run="run", actor="publisher", kind="publisher") as publisher,
        Counting(served.url, served.tokens.operate) as client,
    ):
        sampling = threading.Thread(target=Sampling(settings, client, painter).run, args=(stop,))
        sampling.start()
        try:
            for version in (1, 2, 3):
                kitchen.publish(version)
                publisher.tell(EventType.VERSION, VersionBody(version=version, action="published"), step=version)
                until(lambda version=version: version in greys(served.client), f"{version} is painted")  # type: ignore[misc]
            served.restart()
            kitchen.publish(4)
            publisher.tell(EventType.VERSION, VersionBody(version=4, action="published"), step=4)
            until(lambda: 4 in greys(served.client), "one is painted after the server was away")
            assert client.asked == 4
        finally:
            stop.set()
            sampling.join()
            painter.close()


def settings_of(root: Path, served: Served, plug_in: str) -> Settings:
    """What a role in `root` is told, and the token that it needs."""
    config = root / "stovetop.toml"
    config.write_text(
        f'run = "run"\ndata = "data"\n[app]\nsamples = "{PAINTINGS}:{plug_in}"\n'
        f"[control]\nport = {served.url.rsplit(':', 1)[1]}\n"
        '[publish]\nhub = "hub"\noutbox = "outbox"\nkey = "keys/publisher.key"\n[samples]\nevery = 0.05\n'
    )
    settings = load_settings(config)
    token = settings.secrets / "roles"
    token.parent.mkdir(parents=True)
    token.write_text(served.tokens.operate)
    return settings


def greys(client: ControlClient) -> dict[int, int]:
    """What the pictures show, by version."""
    found = {}
    for version in client.versions("run").versions:
        for sample in version.samples:
            assert sample.label == "a shade of grey"
            with Image.open(io.BytesIO(client.sample(sample.sha256))) as image:
                found[version.version] = image.getpixel((0, 0))[0]  # type: ignore[index]
    return found


def said(client: ControlClient) -> list[str]:
    events = client.history(run="run", types=[EventType.LOG]).events
    return [event.body["message"] for event in events]
