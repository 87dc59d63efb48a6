"""Which hub the settings mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from publish import DirectoryHub, HttpHub
from publish.places import followers_hub, publishers_hub
from publish.settings import FollowSettings, PublishSettings


def test_a_directory_is_the_default(tmp_path: Path) -> None:
    assert isinstance(publishers_hub(PublishSettings(hub=tmp_path / "hub")), DirectoryHub)
    assert isinstance(followers_hub(FollowSettings(hub=tmp_path / "hub")), DirectoryHub)


def test_a_url_is_an_embedded_hub(tmp_path: Path) -> None:
    hub = followers_hub(FollowSettings(url="http://127.0.0.1:7080", token="stv_x"))
    assert isinstance(hub, HttpHub)
    assert hub.name == "http://127.0.0.1:7080"
    hub.close()


def test_a_bucket_is_a_hub_in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    hub = followers_hub(FollowSettings(bucket="s3://models/desktop", endpoint="http://127.0.0.1:9"))
    assert hub.name == "s3://models/desktop at http://127.0.0.1:9"
    with pytest.raises(ValidationError):
        PublishSettings(bucket="https://models")


def test_a_repository_is_a_hub_at_hugging_face_or_where_its_endpoint_says() -> None:
    hub = followers_hub(FollowSettings(repository="ada/desktop", endpoint="http://127.0.0.1:9"))
    assert hub.name == "http://127.0.0.1:9/ada/desktop"
    with pytest.raises(ValidationError):
        FollowSettings(repository="desktop")


def test_versions_are_in_one_place() -> None:
    with pytest.raises(ValidationError, match="set one of them"):
        PublishSettings(repository="ada/desktop", bucket="s3://models")
    with pytest.raises(ValidationError, match="set one of them"):
        FollowSettings(repository="ada/desktop", url="http://127.0.0.1:7080")


def test_who_uses_no_bucket_and_no_repository_pays_for_no_client() -> None:
    program = "import sys, publish, publish.places; sys.exit(bool({'boto3', 'huggingface_hub'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
