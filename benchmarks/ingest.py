"""Durable steps a second through the gateway into Apache Kafka, beside kafka-python alone with one record a step.

    python -m benchmarks.ingest [--rounds N] [--seconds N] [--json]

Both write to the same broker, in turns, after both have warmed it up; the gateway does HTTP, validation, deduplication
and transactions on top. The client, kafka-python and the gateway are processes of their own; kafka-python takes the
better of two sizes of batches. What the client itself can post is measured against a server that only reads and
answers. Half of the gateway's rate is offered for its latency. Then packing is compared with a record a step, by the
best rate whose acknowledgements keep a bound; and two gateways share the work. The log has two shares: one gateway has
both, two have one each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from auth.tokens import Scope, TokenStore
from benchmarks.broker import broker
from benchmarks.pairs import middle, ratio
from benchmarks.result import Result, Target
from examples.desktop.findings import quantile

TOKEN = "token-of-the-benchmark"
SIZES = {1: 256, 10: 64, 100: 8, 500: 2}
"""Kilobytes of a step, and how many steps are in a request."""
SEATS = 32
PACKING_SEATS = (2, 8, 32)
PACKING_GUESSES = {"packed": 40_000, "unpacked": 15_000}
P99_BOUND = 0.25
GUESSES = {1: 40_000, 10: 12_000, 100: 1_800, 500: 450}
"""Steps a second, as those for packing, for a turn to take about as long as it should."""
BATCHES = (900_000, 2_000_000)
KEPT_BYTES = 200_000_000
"""That a partition keeps: more would be written to the disk while the next turn is measured."""
BROKER = {
    "log.segment.bytes": "67108864",
    "log.segment.delete.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
}
TARGETS = (
    Target("1kb_ratio", ">=", 1.0),
    Target("10kb_ratio", ">=", 0.9),
    Target("100kb_ratio", ">=", 0.9),
    Target("500kb_ratio", ">=", 0.9),
    Target("packing_ratio", ">=", 3.0),
)


def run(rounds: int, seconds: float, sizes: Sequence[int], parts: Sequence[str]) -> Result:
    """All measurements."""
    result = Result("ingest", TARGETS)
    with (
        tempfile.TemporaryDirectory(prefix="stovetop-ingest-") as name,
        broker(Path(name) / "kafka", settings=BROKER) as servers,
    ):
        folder = Path(name)
        _make_topic(servers)
        TokenStore(folder / "tokens.json").add("bench", [Scope.INGEST], TOKEN)
        if "rate" in parts:
            with gateways(folder, servers, 1) as running:
                for size in sizes:
                    _compare(running, servers, size, rounds, seconds, result)
                result.note(gateway_peak_rss_mb=running.peak / 1e6)
        if "packing" in parts:
            _packing(folder, servers, rounds, seconds, result)
        if "two" in parts:
            _two(folder, servers, rounds, seconds, result)
    return result


class Running:
    """Gateways on the topics of one prefix, and the most memory that one of them took."""

    def __init__(self, urls: list[str], processes: list[subprocess.Popen[str]], prefix: str) -> None:
        self.urls, self._processes, self.prefix = urls, processes, prefix
        self.peak = 0

    def look(self) -> None:
        """Read the memory."""
        for process in self._processes:
            self.peak = max(self.peak, psutil.Process(process.pid).memory_info().rss)


@contextmanager
def gateways(folder: Path, servers: str, count: int, record_bytes: int = 500_000, shares: int = 2) -> Iterator[Running]:
    """So many gateways on one log."""
    processes: list[subprocess.Popen[str]] = []
    prefix = f"bench{time.monotonic_ns()}"
    try:
        urls: list[str] = []
        for number in range(count):
            arguments = [str(folder), servers, prefix, str(record_bytes), str(shares), str(number), str(KEPT_BYTES)]
            command = [sys.executable, "-m", "benchmarks.gateways", *arguments]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            processes.append(process)
            assert process.stdout is not None
            urls.append(f"http://127.0.0.1:{int(process.stdout.readline())}")
        for url in urls:
            _await_ready(url)
        yield Running(urls, processes, prefix)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def _compare(running: Running, servers: str, size: int, rounds: int, seconds: float, result: Result) -> None:
    together = SIZES[size]
    steps = int(GUESSES[size] * seconds)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in BATCHES:  # as often as kafka-python: the broker compiles what it does often, for minutes
        _load(running, size, together, SEATS, steps)
    batch = max(BATCHES, key=lambda each: _rate(_alone(servers, size, steps, each)))
    for number in range(rounds):
        for mine in (True, False) if number % 2 else (False, True):
            if mine:
                ours.append(_rate(_load(running, size, together, SEATS, steps)))
                running.look()
            else:
                theirs.append(_rate(_alone(servers, size, steps, batch)))
    compared = ratio(ours, theirs)
    rate = middle(ours)
    half = _load(running, size, together, SEATS, int(rate / 2 * seconds), rate / 2)
    result.note(
        **{
            f"{size}kb_steps_per_s": rate,
            f"{size}kb_mb_per_s": rate * size / 1000,
            f"{size}kb_alone_steps_per_s": middle(theirs),
            f"{size}kb_ratio": compared.mean,
            f"{size}kb_client_bound_steps_per_s": _client_bound(size, steps),
            f"{size}kb_half_load_p99_ms": quantile(half["latencies"], 0.99) * 1000,
        }
    )
    words = f"{compared} of kafka-python alone, one record a step in batches of at most {batch:,} bytes"
    result.remark(**{f"{size}kb_ratio": words})


def _client_bound(size: int, steps: int) -> float:
    """What the client posts to a server that only reads and answers, in steps a second."""
    command = [sys.executable, "-m", "benchmarks.loads", "answer"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        server = Running([process.stdout.readline().strip()], [process], prefix="")
        return _rate(_load(server, size, SIZES[size], SEATS, steps))
    finally:
        process.kill()
        process.wait()


def _packing(folder: Path, servers: str, rounds: int, seconds: float, result: Result) -> None:
    """The best rates at 1 KB that keep the bound, with steps packed into records and with one in each."""
    rates: dict[str, list[float]] = {"packed": [], "unpacked": []}
    with gateways(folder, servers, 1) as packed, gateways(folder, servers, 1, record_bytes=1) as unpacked:
        both = [("packed", packed), ("unpacked", unpacked)]
        for name, running in both:
            _load(running, 1, SIZES[1], SEATS, int(PACKING_GUESSES[name] * seconds))  # warms it
        for number in range(rounds):
            for name, running in both if number % 2 else reversed(both):
                rates[name].append(_best_within_bound(running, int(PACKING_GUESSES[name] * seconds)))
    result.note(**{f"{name}_steps_per_s": middle(each) for name, each in rates.items()})
    words = f"best rates at which 99 % of the requests are acknowledged within {P99_BOUND:g} s"
    if min(*rates["packed"], *rates["unpacked"]) > 0:
        compared = ratio(rates["packed"], rates["unpacked"])
        result.note(packing_ratio=compared.mean)
        result.remark(packing_ratio=f"{compared}: {words}")
    else:
        result.remark(
            packing_ratio=f"none, as a round had no rate at which 99 % were acknowledged within {P99_BOUND:g} s"
        )


def _best_within_bound(running: Running, steps: int) -> float:
    """Steps a second with as many seats as are best; 0 where the bound is kept with none of `PACKING_SEATS`."""
    best = 0.0
    for seats in PACKING_SEATS:
        told = _load(running, 1, SIZES[1], seats, steps)
        if quantile(told["latencies"], 0.99) <= P99_BOUND:
            best = max(best, _rate(told))
    return best


def _two(folder: Path, servers: str, rounds: int, seconds: float, result: Result) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    with gateways(folder, servers, 1) as one, gateways(folder, servers, 2) as two:
        for number in range(-1, rounds):
            for count, running in ((1, one), (2, two)) if number % 2 else ((2, two), (1, one)):
                rate = _rate(_load(running, 1, SIZES[1], SEATS, int(GUESSES[1] * seconds)))
                if number >= 0:
                    rates[count].append(rate)
    compared = ratio(rates[2], rates[1])
    result.note(
        one_gateway_steps_per_s=middle(rates[1]),
        two_gateways_steps_per_s=middle(rates[2]),
        two_gateways_ratio=compared.mean,
    )
    result.remark(
        two_gateways_ratio=f"{compared} at 1 KB, with client and broker on the same {os.cpu_count()} processors"
    )


def _alone(servers: str, size: int, steps: int, batch: int) -> dict[str, Any]:
    return _program("alone", servers, "alone", str(size * 1000), str(steps), str(batch))


def _rate(told: dict[str, Any]) -> float:
    return float(told["steps"] / told["seconds"])


def _load(running: Running, size: int, together: int, seats: int, steps: int, pace: float = 0.0) -> dict[str, Any]:
    urls = ",".join(running.urls)
    return _program(urls, TOKEN, str(size * 1000), str(together), str(seats), str(steps), str(pace))


def _program(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loads", *arguments]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def _make_topic(servers: str) -> None:
    limits = {"max.message.bytes": "2097152", "retention.bytes": str(KEPT_BYTES)}
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.create_topics([NewTopic("alone", 4, 1, topic_configs=limits)])


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} is not ready")
        time.sleep(0.1)


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="about, of one turn")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--parts", nargs="*", default=["rate", "packing", "two"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    run(given.rounds, given.seconds, given.sizes, given.parts).show(as_json=given.json)


if __name__ == "__main__":
    main()
