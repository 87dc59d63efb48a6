"""A real training under torchrun, on two gloo ranks of which one runs dry, and then on one: all is trained once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.livedata import key, open_log, post
from tests.trainer.programs import torchrun_ranks
from trainer import RunFolder, trained_along

ROOT = Path(__file__).parents[2]
EVEN, ODD = range(0, 124, 2), range(1, 25, 2)
"""Live samples of the two partitions: 62 for rank 0, 12 for rank 1, which also reads 15 or so of the 30 base rows."""


def torchrun(folder: Path, ranks: int, until: int) -> list[Any]:
    """Run it; the last step and the sum of all weights of each rank."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *(torchrun_ranks.__file__, str(folder), str(until)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads((folder / f"ended-{ranks}-{rank}.json").read_text()) for rank in range(ranks)]


def trained(folder: Path, rank: int) -> list[Any]:
    return [json.loads(line) for line in (folder / f"trained-{rank}.jsonl").read_text().splitlines()]


@pytest.mark.timeout(700)
def test_two_ranks_one_of_them_dry_train_in_step_and_one_goes_on_with_what_is_left(tmp_path: Path) -> None:
    writer = open_log(tmp_path / "log").writer("annotator")
    post(writer, EVEN)
    post(writer, ODD)
    writer.close()
    base = {f"base/{number}" for number in range(torchrun_ranks.BASE)}
    # parts of 15 rows, in runs of 8: rank 1 has every second place of each
    dry_after = (len(ODD) + len(base) // 2) // 2

    first, second = torchrun(tmp_path, 2, dry_after)
    assert first == second  # the same step, and the same weights of the model
    assert abs(first[0] - dry_after) <= 1  # it neither hung nor went on with one rank
    ours, theirs = trained(tmp_path, 0), trained(tmp_path, 1)
    versions = [version for _, version, _ in ours]
    assert [entry[:2] for entry in ours] == [entry[:2] for entry in theirs]
    assert versions == sorted(versions)
    assert set(versions) == {0, 1}
    assert versions.index(1) == 3  # the change was said after the third step, and shows in the fourth
    live = [each for told in (ours, theirs) for _, _, keys in told for each in keys["live"]]
    assert set(live) & {key(number) for number in EVEN}
    assert set(live) & {key(number) for number in ODD}

    left = (len(EVEN) + len(ODD) + len(base) - 4 * first[0]) // 2
    ((step, _),) = torchrun(tmp_path, 1, first[0] + left)
    assert step == first[0] + left
    along = [entry.keys for _, entry in trained_along(RunFolder(tmp_path / "run"))]
    everything = {name: sorted(each for keys in along for each in keys.get(name, [])) for name in ("base", "live")}
    assert everything["live"] == sorted(key(number) for number in (*EVEN, *ODD))
    assert everything["base"] == sorted(base)
