"""`stovetop follow`: a link that leads to what the channel names, forward and back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stovetop.errors import ConfigurationError
from stovetop.following import follow_into
from stovetop.settings import load_settings
from tests.publish.conftest import Kitchen, kitchen
from tests.waiting import until

ROOT = Path(__file__).parents[2]
__all__ = ["kitchen"]


def test_the_link_follows_the_channel_forward_and_back(kitchen: Kitchen, tmp_path: Path) -> None:
    config = tmp_path / "stovetop.toml"
    config.write_text(
        f"""
        [follow]
        hub = "{tmp_path / "hub"}"
        cache = "{tmp_path / "follower"}"
        trusted_keys = ["{kitchen.key.public}"]
        """
    )
    link = tmp_path / "model"
    command = [
        sys.executable,
        "-c",
        "from stovetop.cli import main; main()",
        "follow",
        str(link),
        "--config",
        str(config),
    ]
    following = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:

        def leads_to(version: int) -> bool:
            return link.exists() and json.loads((link / "manifest.json").read_bytes())["version"] == version

        for version in (1, 2):
            kitchen.publish(version)
            until(lambda version=version: leads_to(version), f"the link leads to {version}")
        kitchen.publisher.rollback_version("stable", by="ada")
        until(lambda: leads_to(1), "the link leads back")
    finally:
        following.send_signal(signal.SIGTERM)
        assert following.wait(20) == 0


@pytest.mark.parametrize("place", ["file", "folder"])
def test_what_is_no_link_is_left_alone(tmp_path: Path, place: str) -> None:
    target = tmp_path / place
    target.mkdir() if place == "folder" else target.write_text("mine")
    with pytest.raises(ConfigurationError, match="is no link"):
        follow_into(load_settings(None), target, lambda line: None)
    assert not target.is_symlink()
