"""`stovetop doctor` finds what is wrong with an installation, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from auth import Scope, TokenStore
from ingest.shards import DirectoryStore
from stovetop import diagnosis
from stovetop.diagnosis import PACKAGES, Finding, State, diagnose
from stovetop.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def settings_in(folder: Path, text: str = "") -> Settings:
    file = folder / "stovetop.toml"
    file.write_text(f'data = "{folder / "data"}"\n{text}')
    settings = load_settings(file)
    settings.data.mkdir(parents=True, exist_ok=True)
    return settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A folder in which a service could be started."""
    made = settings_in(tmp_path)
    TokenStore(made.tokens).mint("kiosk", [Scope.INGEST])
    return made


def found(settings: Settings, check: str) -> list[Finding]:
    return [finding for finding in diagnose(settings) if finding.check == check]


def test_where_all_is_well_every_part_is_looked_at_and_nothing_is_left_behind(settings: Settings) -> None:
    findings = {finding.check: finding for finding in diagnose(settings)}
    wanted = {
        "packages",
        "sqlite",
        "crc32c",
        "open files",
        "memory",
        "disk",
        "clock",
        "tokens",
        "secrets",
        "log",
        "archive",
    }
    assert wanted <= findings.keys()
    for check in ("packages", "sqlite", "clock", "tokens", "secrets", "log", "archive"):
        assert findings[check].state is State.OK, findings[check]
    assert f"all {len(PACKAGES)}" in findings["packages"].what
    assert "kiosk" in findings["tokens"].what
    assert not list(settings.archive.folder.rglob("*.tar*")), "the shard that was tried is gone"
    assert all(finding.way_out for finding in findings.values() if finding.state is not State.OK)


def test_a_package_of_ours_that_another_one_shadows_fails_the_verb_and_few_files_are_warned_of(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    shadow = tmp_path / "elsewhere" / "trainer"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("")
    command = (
        f"ulimit -n 512; exec {sys.executable} -m stovetop.cli doctor --json --config {tmp_path / 'stovetop.toml'}"
    )
    environment = {**os.environ, "PYTHONPATH": f"{shadow.parent}:{ROOT}"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["healthy"] is False
    (packages,) = [each for each in told["findings"] if each["check"] == "packages" and each["state"] == "fail"]
    assert f"`trainer` is found at {shadow / '__init__.py'}" in packages["what"]
    assert "PYTHONPATH" in packages["way_out"]
    (files,) = [each for each in told["findings"] if each["check"] == "open files"]
    assert (files["state"], files["way_out"].partition(":")[0]) == ("warn", "ulimit -n 4096")
    assert settings.data.exists()


def test_secrets_that_others_may_read_and_a_torn_token_file_are_named(settings: Settings) -> None:
    settings.tokens.chmod(0o644)
    (secrets,) = found(settings, "secrets")
    assert secrets.state is State.FAIL
    assert secrets.way_out == f"chmod 600 {settings.tokens}"
    settings.tokens.write_text("{")
    (tokens,) = found(settings, "tokens")
    assert tokens.state is State.FAIL
    assert str(settings.tokens) in tokens.what
    settings.tokens.unlink()
    (tokens,) = found(settings, "tokens")
    assert tokens.state is State.WARN
    assert "stovetop token" in tokens.way_out


def test_a_port_that_something_else_has_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = found(settings_in(tmp_path, f"[gateway]\nport = {port}\n"), "port")
    (mine,) = [finding for finding in ports if "gateway" in finding.what]
    assert mine.state is State.WARN
    assert f"127.0.0.1:{port}" in mine.what


def test_a_clock_that_is_off_and_a_full_disk_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "time", SimpleNamespace(time=lambda: time.time() + 60, time_ns=time.time_ns))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=diagnosis.TOO_LITTLE // 2))
    (clock,) = found(settings, "clock")
    assert clock.state is State.WARN
    assert "60.0 s behind" in clock.what
    disks = found(settings, "disk")
    assert {finding.state for finding in disks} == {State.FAIL}
    assert all("make room" in finding.way_out for finding in disks)


def test_a_broker_that_does_not_answer_and_an_archive_that_takes_nothing_fail(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]  # nobody listens
        kafka = (
            f'[log]\nbackend = "kafka"\nbootstrap_servers = "127.0.0.1:{port}"\n[log.kafka]\npatience_seconds = 0.5\n'
        )
        (log,) = found(settings_in(tmp_path, kafka), "log")
    assert log.state is State.FAIL
    assert log.what.startswith("kafka: ")
    assert log.way_out
    (tmp_path / "a-file").write_text("")
    (archive,) = found(settings_in(tmp_path, f'[archive]\nfolder = "{tmp_path / "a-file"}"\n'), "archive")
    assert archive.state is State.FAIL
    assert archive.way_out


def test_a_store_that_overwrites_is_found_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwriting(store: DirectoryStore, staged: Path, path: Path) -> bool:
        shutil.copy(staged, path)
        return True

    monkeypatch.setattr(DirectoryStore, "_linked", overwriting)
    (archive,) = found(settings, "archive")
    assert archive.state is State.FAIL
    assert "a second shard of one name was not refused" in archive.what


def test_a_check_that_fails_itself_is_a_finding_and_the_others_are_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise RuntimeError("no library")

    monkeypatch.setattr(diagnosis.apsw, "sqlite_lib_version", broken)
    findings = {finding.check: finding for finding in diagnose(settings)}
    assert findings["libraries"].state is State.FAIL
    assert "RuntimeError: no library" in findings["libraries"].what
    assert findings["archive"].state is State.OK
