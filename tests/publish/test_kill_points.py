"""Writers killed with SIGKILL right before every file-system call that they make; see programs/kill_points.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "programs" / "kill_points.py"

# Between the calls of a quick run, so that it makes about a dozen trials; a long run takes every call.
STRIDES = {
    "Publish": 29,
    "HandOver": 10,
    "FirstKey": 4,
    "Judge": 67,
    "Operate": 8,
    "Follow": 13,
    "FollowApart": 67,
    "Build": 4,
}


def sweep(scenario: str, folder: Path, stride: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(PROGRAM), scenario, str(folder), str(stride)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    for how, found in json.loads(ran.stdout).items():
        assert found["failures"] == [], f"{how}: {ran.stderr[-3000:]}"
        assert found["trials"] >= 1


@pytest.mark.parametrize("scenario", STRIDES)
def test_a_killed_writer_leaves_nothing_torn_and_a_restart_loses_nothing(scenario: str, tmp_path: Path) -> None:
    sweep(scenario, tmp_path, STRIDES[scenario])


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", STRIDES)
def test_a_writer_is_killed_at_every_single_call(scenario: str, tmp_path: Path) -> None:
    sweep(scenario, tmp_path, 1)


# Hubs on the network

PROGRAM_REMOTE = PROGRAM.with_name("kill_remote.py")
QUICK = {("s3", "Publish"): 90, ("repository", "Publish"): 40, ("embedded", "Follow"): 15}
"""Between the calls of a quick run, which makes about four trials."""
LONG = [
    ("s3", "Publish"),
    ("s3", "Operate"),
    ("s3", "Follow"),
    ("repository", "Publish"),
    ("repository", "Operate"),
    ("repository", "Follow"),
    ("embedded", "Follow"),
    ("juicefs", "Publish"),
]


def sweep_remote(place: str, scenario: str, folder: Path, stride: int) -> dict[str, int]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(PROGRAM_REMOTE), place, scenario, str(folder), str(stride)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["failures"] == [], ran.stderr[-3000:]
    assert found["trials"] >= 1
    return found


@pytest.mark.parametrize(("place", "scenario"), QUICK)
def test_a_kill_at_a_call_over_the_network_loses_and_tears_nothing(place: str, scenario: str, tmp_path: Path) -> None:
    sweep_remote(place, scenario, tmp_path, QUICK[place, scenario])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("place", "scenario"), LONG)
def test_a_kill_at_every_single_call_over_the_network_loses_and_tears_nothing(
    place: str, scenario: str, tmp_path: Path
) -> None:
    found = sweep_remote(place, scenario, tmp_path, 1)
    assert found["trials"] >= 0.8 * found["calls"], "some runs make fewer calls than the one that was counted, not most"
