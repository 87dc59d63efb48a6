"""What mixing costs a sample, and how soon a change of weights shows, beside what other libraries offer.

Microseconds a sample are for sources that cost next to nothing, measured in turns. Batches are stale when they are
trained after the trainer has received a change of weights, and hold rows that were drawn by the old ones: counted inside
an `InteractiveTrainer` up to the first optimizer step that is wholly on the new weights.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from transformers.utils import logging

from benchmarks import delay
from benchmarks.mixers import PEERS, Batches, installed, ours, ours_one_by_one
from benchmarks.pairs import best, middle, ratio
from benchmarks.result import Result, Target

TARGETS = (
    Target("mixing_cost_ratio", "<=", 1.0),
    Target("stale_batches_ours_most", "==", 0),
)
SIZE = 64
WARM_UP = 40
LAYOUTS = ((0, 2), (2, 2), (2, 4), (4, 2), (4, 4))
"""Workers, and batches that each prefetches (of no meaning without workers)."""
ACCUMULATIONS = (1, 4)


def run(rounds: int, samples: int) -> Result:
    """Both parts."""
    result = Result("mixture", TARGETS)
    _cost(rounds, samples, result)
    _delays(result)
    return result


def _cost(rounds: int, samples: int, result: Result) -> None:
    own = {"ours": ours, "ours_one_by_one": ours_one_by_one}
    mixers = {**own, **{name: make for name, make in PEERS.items() if installed(name)}}
    batches = {name: make(SIZE) for name, make in mixers.items()}
    count = samples // SIZE
    costs: dict[str, list[float]] = {name: [] for name in mixers}
    for each in batches.values():
        _microseconds(each, WARM_UP)
    for _ in range(rounds):
        for name, each in batches.items():
            costs[name].append(_microseconds(each, count))
    result.note(**{f"mixing_{name}_us": middle(measured) for name, measured in costs.items()})
    result.remark(**{f"mixing_{name}_us": "not installed" for name in PEERS if name not in mixers})
    result.remark(
        mixing_us=f"processor time a sample, in batches of {SIZE}; every source gives one object and counts what it gave",
        mixing_ours_one_by_one_us="of sources that are polled for every sample, as those of most peers are",
    )
    peers = [name for name in mixers if name not in own]
    if peers:
        fastest = best(costs, peers, lower=True)
        compared = ratio(costs["ours"], costs[fastest])
        result.remark(mixing_fastest_peer=fastest)
        result.note(
            mixing_cost_ratio=compared.mean, mixing_cost_ratio_low=compared.low, mixing_cost_ratio_high=compared.high
        )


def _delays(result: Result) -> None:
    counted = {name: _stale(make, name) for name, make in _streams().items()}
    for name, cells in counted.items():
        known = [stale for stale in cells.values() if stale is not None]
        if len(known) == len(cells):
            result.note(**{f"stale_batches_{cell}": float(stale) for cell, stale in cells.items() if stale is not None})
            result.note(**{f"stale_batches_{name}_most": float(max(known))})
        else:
            result.remark(**{f"stale_batches_{name}": f"the old weights went on for all of {delay.NEVER} batches"})
    missing = [name for name, (module, _) in delay.PEERS.items() if not installed(module)]
    result.remark(**{f"stale_batches_{name}": "not installed" for name in missing})
    result.remark(stale_batches_shared_memory="a mixer of one's own in a DataLoader, which reads weights at every draw")


def _streams() -> dict[str, Callable[[int, int, int], int | None]]:
    def of(name: str) -> Callable[[int, int, int], int | None]:
        return lambda workers, prefetch, accumulation: delay.peer(name, workers, prefetch, accumulation)

    peers = {name: of(name) for name, (module, _) in delay.PEERS.items() if installed(module)}
    return {"ours": delay.ours, **peers}


def _stale(count: Callable[[int, int, int], int | None], name: str) -> dict[str, int | None]:
    return {
        f"{name}_{workers}x{prefetch}_accumulating_{accumulation}": count(workers, prefetch, accumulation)
        for workers, prefetch in LAYOUTS
        for accumulation in ACCUMULATIONS
    }


def _microseconds(batches: Batches, count: int) -> float:
    begun = time.process_time()
    for _ in range(count):
        next(batches)
    return (time.process_time() - begun) / (count * SIZE) * 1e6


def main() -> None:
    """`python -m benchmarks.mixture [--rounds N] [--samples N] [--json]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of measuring every mixer in turn")
    parser.add_argument("--samples", type=int, default=20_000, help="of each mixer in a round")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of other libraries, about themselves
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    run(given.rounds, given.samples).show(as_json=given.json)


if __name__ == "__main__":
    main()
