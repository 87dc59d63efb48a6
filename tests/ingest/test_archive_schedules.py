"""Over random schedules of archivers that crash, sleep and wake up late, the chain has no gap and no overlap."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.memory import MemoryLog
from tests.ingest.schedules import World, fate_in_force
from tests.ingest.stores import KINDS, make_store


def run(kind: str, request: pytest.FixtureRequest, folder: Path, seed: int, steps: int) -> None:
    log = MemoryLog()
    store = make_store(kind, request, folder, log)
    with fate_in_force():
        World(store, log, seed).run(steps)


@pytest.mark.parametrize("kind", KINDS)
def test_over_a_few_schedules_each_sample_is_in_exactly_one_shard(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for seed in range(30 if kind == "directory" else 2):
        run(kind, request, tmp_path / str(seed), seed, 30)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_over_two_hundred_schedules_each_sample_is_in_exactly_one_shard(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for seed in range(1000, 1200):
        run(kind, request, tmp_path / str(seed), seed, 60)
