"""Samples a second of three mixed sources, decoded to tensors, beside three other libraries on the same data and workers.

All are measured in turns, each from a fresh start behind a warm-up, so that what else the machine does meets all alike,
and each worker may be as many batches ahead when the clock starts, in all libraries;
ratios are those of turns in the same round, with an interval that holds the mean with 95 %. The memory of the process
that mixes and of its workers is watched while the stream is read without a pause.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from benchmarks.pairs import best, middle, ratio
from benchmarks.result import Result, Target
from benchmarks.streams import BATCH, PEERS, Data, Pipeline, ours, readable, write

SIZES = {10: 4800, 100: 2400}
"""Kilobytes of a sample, and how many samples are written."""
WORKERS = (0, 2)
WARM_UP = 12
CELLS = tuple((size, workers) for size in SIZES for workers in WORKERS)


@dataclass(frozen=True)
class Turn:
    """Wall seconds and processor seconds (of all processes) a sample."""

    wall: float
    processor: float


def run(rounds: int, memory_seconds: float, cells: Sequence[tuple[int, int]] = CELLS) -> Result:
    """Some sizes and numbers of workers, then memory."""
    torch.set_num_threads(1)  # as in the workers: what is compared is loading, not how threads share two cores
    result = Result("stream", _targets(cells, memory_seconds))
    peers = readable()
    result.remark(**{f"{name}": "not installed" for name in PEERS if name not in peers})
    with tempfile.TemporaryDirectory(prefix="stovetop-stream-") as folder:
        wanted = (size for size in SIZES if size == max(SIZES) or size in dict(cells))
        written = {size: write(Path(folder) / f"{size}kb", SIZES[size], size * 1000) for size in wanted}
        for size, workers in cells:
            _compare({"ours": ours, **peers}, written[size], size, workers, SIZES[size], rounds, result)
        _memory(written[max(SIZES)], memory_seconds, result)
    return result


def _targets(cells: Sequence[tuple[int, int]], memory_seconds: float) -> tuple[Target, ...]:
    rates = tuple(Target(f"{size}kb_{workers}_workers_ratio", ">=", 1.0) for size, workers in cells)
    return (*rates, Target("memory_growth_ratio", "<=", 1.05)) if memory_seconds > 0 else rates


def _compare(
    pipelines: dict[str, Pipeline], data: Data, size: int, workers: int, samples: int, rounds: int, result: Result
) -> None:
    cell = f"{size}kb_{workers}_workers"
    batches = int(samples * 0.85) // BATCH - WARM_UP  # less than one epoch, which some cannot go beyond
    turns: dict[str, list[Turn]] = {name: [] for name in pipelines}
    for number in range(rounds):
        order = list(pipelines)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            turns[name].append(_turn(pipelines[name], data, workers, batches))
    rates = {name: [1 / turn.wall for turn in measured] for name, measured in turns.items()}
    costs = {name: [turn.processor for turn in measured] for name, measured in turns.items()}
    for name in pipelines:
        rate = middle(rates[name])
        result.note(
            **{
                f"{cell}_{name}_samples_per_s": rate,
                f"{cell}_{name}_mb_per_s": rate * size / 1000,
                f"{cell}_{name}_processor_us": middle(costs[name]) * 1e6,
            }
        )
    if len(pipelines) > 1:
        others = [name for name in pipelines if name != "ours"]
        fastest, cheapest = best(rates, others), best(costs, others, lower=True)
        faster, cheaper = ratio(rates["ours"], rates[fastest]), ratio(costs[cheapest], costs["ours"])
        result.note(**{f"{cell}_ratio": faster.mean, f"{cell}_processor_ratio": cheaper.mean})
        result.remark(
            **{
                f"{cell}_ratio": f"{faster} of {fastest}, the fastest of the others",
                f"{cell}_processor_ratio": f"{cheaper} of {cheapest}, the cheapest of the others",
            }
        )


def _turn(pipeline: Pipeline, data: Data, workers: int, batches: int) -> Turn:
    with closing(pipeline(data, workers)) as stream:  # type: ignore[type-var]  # all are generators
        for _ in range(WARM_UP):
            next(stream)
        begun, spent = time.perf_counter(), _processor_seconds()
        for _ in range(batches):
            next(stream)
        samples = batches * BATCH
        return Turn((time.perf_counter() - begun) / samples, (_processor_seconds() - spent) / samples)


def _processor_seconds() -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _family())


def _memory(data: Data, seconds: float, result: Result) -> None:
    """Resident bytes of every process of the stream: the last quarter of the time beside the second."""
    if seconds <= 0:
        return
    readings: list[dict[int, int]] = []
    with closing(ours(data, 2)) as stream:  # type: ignore[type-var]
        begun = last = time.monotonic()
        while last - begun < seconds:
            next(stream)
            now = time.monotonic()
            if now - last >= min(1.0, seconds / 40):
                readings.append({process.pid: process.memory_info().rss for process in _family()})
                last = now
    quarter = len(readings) // 4
    workers = set.intersection(*(set(reading) for reading in readings[quarter:]))
    grown = {
        pid: middle([reading[pid] for reading in readings[-quarter:]])
        / middle([reading[pid] for reading in readings[quarter : 2 * quarter]])
        for pid in workers
    }
    result.note(
        memory_seconds=seconds,
        memory_processes=len(grown),
        memory_mb=middle([sum(reading.values()) for reading in readings[-quarter:]]) / 1e6,
        memory_growth_ratio=max(grown.values()),
    )


def _family() -> list[psutil.Process]:
    process = psutil.Process()
    return [process, *process.children(recursive=True)]


def main() -> None:
    """`python -m benchmarks.stream [--rounds N] [--memory-seconds N] [--cell KBxWORKERS] [--json]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of measuring every library in turn")
    parser.add_argument("--memory-seconds", type=float, default=60.0, help="to watch memory for (600 in full, 0: not)")
    parser.add_argument("--cell", choices=[f"{size}x{workers}" for size, workers in CELLS], help="measure only this")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of other libraries, about themselves
    cells = [cell for cell in CELLS if given.cell in (None, f"{cell[0]}x{cell[1]}")]
    run(given.rounds, given.memory_seconds, cells).show(as_json=given.json)


if __name__ == "__main__":
    main()
