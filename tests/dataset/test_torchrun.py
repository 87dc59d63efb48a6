"""Two ranks over gloo, under torchrun: the same weights at the same step, each sample on one of them, and one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.sqlite import Layout, SqliteLog
from tests.dataset.programs import two_ranks
from tests.dataset.streams import annotated, key

ROOT = Path(__file__).parents[2]


def torchrun(folder: Path, ranks: int, steps: int) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *(two_ranks.__file__, str(folder), str(steps)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def trained(folder: Path, rank: int) -> list[Any]:
    """What a rank trained: version, live keys, base keys and number of ranks, step by step."""
    return [json.loads(line) for line in (folder / f"trained-{rank}.jsonl").read_text().splitlines()]


@pytest.mark.soak  # tests/trainer/test_torchrun.py is the quick one, and trains
@pytest.mark.timeout(420)
def test_two_ranks_obey_at_the_same_step_read_each_sample_once_and_one_rank_goes_on(tmp_path: Path) -> None:
    writer = SqliteLog(tmp_path / "log", Layout(partitions=2)).writer("annotator")
    writer.commit([annotated(number % 2, [key(number)], float(number)) for number in range(400)])
    writer.close()

    torchrun(tmp_path, ranks=2, steps=9)
    first, second = trained(tmp_path, 0), trained(tmp_path, 1)
    assert [entry[0] for entry in first] == [entry[0] for entry in second] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    torchrun(tmp_path, ranks=1, steps=12)
    alone = trained(tmp_path, 0)[9:]
    assert [entry[0] for entry in alone] == [3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    assert {entry[3] for entry in alone} == {1}

    live = [each for entry in [*first, *second, *alone] for each in entry[1]]
    assert len(live) == len(set(live)) > 40
    # each partition was read in order, by one rank, and on by the one that is left: what is trained has no hole
    for partition in range(2):
        own = sorted(each for each in live if int(each[-9:-3]) % 2 == partition)
        assert own == [key(number) for number in range(partition, 400, 2)][: len(own)]
    ours, theirs = ([each for entry in told for each in entry[2]][:20] for told in (first, second))
    assert len({*ours, *theirs}) == len(ours) + len(theirs)  # an epoch is one of both ranks together
