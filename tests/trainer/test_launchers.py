"""Two gloo ranks under torchrun and accelerate: every command acts on both at the same step, and a pause outlasts the
process group's time-out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from control import ControlClient, Outcome, RunStatus
from tests.trainer.programs.two_ranks import TIMEOUT
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "trainer" / "programs" / "two_ranks.py"


def launched(by: str, folder: Path, client: ControlClient) -> subprocess.Popen[bytes]:
    """Two ranks of the program, by a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    if by == "torchrun":
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    else:
        # its launcher of several processes; the program itself stays on the CPU
        options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
        more = ["--dynamo_backend", "no", "--main_process_port", port, "--num_cpu_threads_per_process", "1"]
        launcher = ["-m", "accelerate.commands.launch", *options, *more]
    folder.mkdir()
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, *launcher, str(PROGRAM), str(folder), client.url, client._token],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.parametrize("by", ["torchrun", pytest.param("accelerate", marks=pytest.mark.soak)])
@pytest.mark.timeout(300)
def test_every_command_acts_on_both_ranks(by: str, tmp_path: Path, client: ControlClient) -> None:
    folder = tmp_path / "ranks"
    process = launched(by, folder, client)

    def step() -> int:
        assert process.poll() is None, (folder / "said.txt").read_text()[-3000:]
        runs = client.runs().runs
        return (runs[0].step or 0) if runs else 0

    def done(command: str, **arguments: Any) -> Any:
        record = client.send(command, arguments, run="ranks")
        assert record.outcome is Outcome.SUCCESS, record
        return record

    try:
        until(lambda: step() >= 2)
        slowed = done("update_optimizer", lr={"scale": 0.5}, weight_decay=0.1, max_grad_norm=0.5)
        paused = done("pause_training")
        began = time.monotonic()
        saved = done("save_checkpoint")
        assert done("do_evaluate").after["eval_loss"] > 0
        layer = "transformer.h.0.mlp"
        done("model_layer_operation", layer_name=layer, operation_name="reset_parameters")
        done("model_layer_parameter_update", layer_name="transformer.drop", param_name="p", value=0.0)
        done("update_training", max_steps=900_000)
        for wrong in (
            ("load_checkpoint", {"uuid": "nobody"}),
            ("update_optimizer", {"lr": {"value": -1}}),
            ("update_dataset", {"path": "x"}),
            ("update_dataset_runtime_hyperparameters", {"weights": {"a": 1}}),
            ("publish_checkpoint", {}),
            ("model_layer_operation", {"layer_name": layer, "operation_name": "requires_grad_"}),
        ):
            assert client.send(*wrong, run="ranks").outcome is Outcome.REJECTED
        until(lambda: time.monotonic() - began > TIMEOUT + 2)  # as long as nobody could wait in a collective
        assert client.run("ranks").status is RunStatus.PAUSED
        assert client.run("ranks").step == paused.step == saved.after["step"]
        done("resume_training")
        until(lambda: step() > paused.step + 1)
        done("load_checkpoint", uuid=saved.after["uuid"], branch_name="b")
        until(lambda: client.run("ranks").branch == "b" and step() > paused.step)
        done("stop_training", save=True)
        assert process.wait(90) == 0, (folder / "said.txt").read_text()[-3000:]
    finally:
        if process.poll() is None:
            process.terminate()  # a launcher ends its ranks
        process.wait()
    first, second = (json.loads((folder / f"told-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    rates = {int(number): rate for number, rate in first["rates"].items()}
    assert next(number for number, rate in sorted(rates.items()) if rate == 5e-4) == slowed.takes_effect_at
