"""Fetching in a process of its own: the same versions, the same refusals, and no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from publish import FollowSettings
from publish.fetcher import Fetcher, place_of
from tests.publish.conftest import Follow, Kitchen
from tests.publish.parts import litter, served_value
from tests.waiting import until


@pytest.fixture
def children() -> Iterator[None]:
    """Fails where a test leaves a process behind."""
    before = _children()
    yield
    assert _children() <= before


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.usefixtures("children")
def test_versions_come_through_a_process_that_may_die_and_refuses_what_is_damaged(
    kitchen: Kitchen, follow: Follow
) -> None:
    follower, live = follow(apart=True)
    kitchen.publish(1)
    follower.step()
    assert served_value(live) == 1
    (child,) = [pid for pid in _children() if b"publish.fetching" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, 0) or os.nice(0) == 19

    kitchen.publish(2)
    follower.step()
    assert (served_value(live), follower.status().rebuilt) == (2, 1)

    os.kill(child, signal.SIGKILL)
    kitchen.publish(3)
    until(lambda: follower.step() or served_value(live) == 3, "the version after the process was killed")

    versions = kitchen.root / "cache" / "versions"
    until(lambda: len(list(versions.iterdir())) == 2, "it forgets what neither is served nor was before")

    kitchen.publish(4)
    (kitchen.root / "hub" / "deltas" / "000004").unlink()
    weights = next((kitchen.root / "hub" / "versions" / "000004").glob("*.safetensors"))
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    follower.step()
    assert served_value(live) == 3
    assert follower.status().error.startswith("DigestMismatch: model-00001-of-00002.safetensors")
    assert not litter(kitchen.root / "cache")


@pytest.mark.usefixtures("children")
def test_a_hub_that_is_away_is_told_as_such(kitchen: Kitchen, follow: Follow) -> None:
    kitchen.publish(1)
    follower, live = follow(apart=True)
    (kitchen.root / "hub" / "versions" / "000001" / "manifest.json").unlink()
    follower.step()
    assert follower.status().error.startswith("VersionMissing: version 000001")
    assert live.current is None


def test_a_hub_that_cannot_be_opened_again_is_refused(kitchen: Kitchen, tmp_path: Path) -> None:
    class Wrapped:
        name = "a hub in memory"

    with pytest.raises(ValueError, match=r"a hub in memory: only a hub that says how it is opened again"):
        place_of(Wrapped(), tmp_path, ())  # type: ignore[arg-type]
    assert place_of(kitchen.hub, tmp_path, (str(kitchen.key.public),)) == FollowSettings(
        hub=kitchen.root / "hub", cache=tmp_path, trusted_keys=(str(kitchen.key.public),)
    )


PARENT = """
import sys, time
from publish import FollowSettings
from publish.fetcher import Fetcher
fetcher = Fetcher(FollowSettings.model_validate_json(sys.argv[1]))
fetcher.start()
print(fetcher._process.pid, flush=True)
time.sleep(60)
"""


def test_the_process_ends_with_the_one_that_started_it(kitchen: Kitchen, tmp_path: Path) -> None:
    place = place_of(kitchen.hub, tmp_path / "cache", (str(kitchen.key.public),))
    command = [sys.executable, "-c", PARENT, place.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        until(lambda: gone(child), "the end of a process whose parent was killed", 60)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_closed_fetcher_starts_no_process(kitchen: Kitchen, tmp_path: Path) -> None:
    fetcher = Fetcher(place_of(kitchen.hub, tmp_path / "cache", (str(kitchen.key.public),)))
    fetcher.close()
    fetcher.start()
    assert not [pid for pid in _children() if b"publish.fetching" in Path(f"/proc/{pid}/cmdline").read_bytes()]
