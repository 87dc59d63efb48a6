"""`stovetop hub`: the versions of a service, for any client of the Hugging Face Hub."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from auth import Scope, TokenStore
from stovetop.settings import load_settings
from tests.publish.conftest import Kitchen, kitchen
from tests.waiting import until

ROOT = Path(__file__).parents[2]
__all__ = ["kitchen"]


def start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stovetop.cli", "hub", "--config", str(config)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(300)
def test_the_hub_serves_the_publisher_s_versions_under_the_app_s_name(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.publish(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "stovetop.toml"
    config.write_text(
        f"""
        data = "data"
        app.name = "painter"
        publish.hub = "{tmp_path / "hub"}"
        hub.port = {port}
        """
    )
    token = TokenStore(load_settings(config).tokens).mint("reader", [Scope.READ])
    serving = start(config)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/readyz"), "the hub answers")
        headers = {"Authorization": f"Bearer {token}"}
        told = httpx.get(f"{url}/api/models/stovetop/painter/revision/stable", headers=headers).json()
        assert {"rfilename": "config.json"} in told["siblings"]
        second = config.with_name("other.toml")
        second.write_text(config.read_text().replace('data = "data"', 'data = "other"'))
        assert start(second).wait(120) == 78, "a port that is taken is a configuration error"
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
    finally:
        serving.kill()
        serving.wait()
