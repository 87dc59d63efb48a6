"""One file, every key also from the environment, and refusals that name the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from stovetop.errors import ConfigurationError
from stovetop.settings import load_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "stovetop.toml"
    file.write_text(text)
    return file


def test_every_folder_that_was_not_set_has_its_place_under_data(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'data = "here"\n'))
    data = tmp_path / "here"
    assert settings.data == data
    assert settings.log.folder == data / "log"
    assert settings.archive.folder == data / "shards"
    assert settings.control.data == data / "control"
    assert settings.publish.hub == settings.follow.hub == data / "hub"
    assert settings.publish.key == data / "keys" / "publisher.key"


def test_relative_paths_count_from_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, '[log]\nfolder = "logs"\n[archive]\nfolder = "/srv/shards"\n'))
    assert settings.log.folder == tmp_path / "logs"
    assert settings.archive.folder == Path("/srv/shards")


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, 'run = "file"\n[gateway]\nport = 1111\nmax_steps = 5\n')
    monkeypatch.setenv("STOVETOP_GATEWAY__PORT", "2222")
    settings = load_settings(file)
    assert (settings.run, settings.gateway.port, settings.gateway.max_steps) == ("file", 2222, 5)
    assert load_settings(file, run="given").run == "given"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gateway]\nport = 70000\n", "gateway.port: 70000: Input should be less than or equal to 65535"),
        ("[gateway]\nprot = 1\n", "gateway.prot"),
        ("[mixtures]\nweights = {}\n", "mixtures"),
        ("run = 'a/b'\n", "run: 'a/b'"),
        ("this is not toml", "stovetop.toml"),
    ],
)
def test_a_mistake_is_refused_with_the_file_the_key_and_the_value(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(tmp_path, text))
    assert told in str(caught.value)


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_settings(tmp_path / "none.toml")


def test_the_apps_session_schema_is_one_of_the_gateways(tmp_path: Path) -> None:
    text = '[app]\nname = "desk"\nsession_schema = "desk.json"\n[gateway.schemas]\nother = "plugins:SCHEMA"\n'
    settings = load_settings(write(tmp_path, text))
    assert settings.gateway.schemas == {"desk": str(tmp_path / "desk.json"), "other": "plugins:SCHEMA"}
    assert load_settings(write(tmp_path, "")).gateway.schemas == {}
