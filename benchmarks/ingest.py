"""Durable steps a second through the gateway into Apache Kafka, beside kafka-python alone with one record a step.

    python -m benchmarks.ingest [--rounds N] [--seconds N] [--json]

Both write to the same broker, in turns; the gateway does HTTP, validation, deduplication and transactions on top. The
client, kafka-python and the gateway are processes of their own. Then packing is compared with a record a step, by the
best rate whose acknowledgements keep a bound; half of the gateway's rate is offered for its latency; and two gateways
share the work.
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
P99_BOUND = 0.25
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
    with tempfile.TemporaryDirectory(prefix="stovetop-ingest-") as name, broker(Path(name) / "kafka") as servers:
        folder = Path(name)
        _make_topic(servers)
        TokenStore(folder / "tokens.json").add("bench", [Scope.INGEST], TOKEN)
        if "rate" in parts:
            with gateways(folder, servers, 1) as running:
                for size in sizes:
                    _compare(running, servers, size, rounds, seconds, result)
                result.note(gateway_peak_rss_mb=running.peak / 1e6)
        if "packing" in parts:
            _packing(folder, servers, seconds, result)
        if "two" in parts:
            _two(folder, servers, seconds, result)
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
def gateways(folder: Path, servers: str, count: int, record_bytes: int = 500_000, shares: int = 4) -> Iterator[Running]:
    """So many gateways on one log."""
    processes: list[subprocess.Popen[str]] = []
    prefix = f"bench{time.monotonic_ns()}"
    try:
        urls: list[str] = []
        for number in range(count):
            arguments = [str(folder), servers, prefix, str(record_bytes), str(shares), str(number)]
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
    guess = {1: 20_000, 10: 8_000, 100: 900, 500: 220}[size]
    steps = int(guess * seconds)
    ours: list[float] = []
    theirs: list[float] = []
    _load(running, size, together, SEATS, max(together * SEATS, steps // 8))  # warm
    for _ in range(rounds):
        told = _load(running, size, together, SEATS, steps)
        ours.append(told["steps"] / told["seconds"])
        running.look()
        told = _program("alone", servers, "alone", str(size * 1000), str(steps))
        theirs.append(told["steps"] / told["seconds"])
    compared = ratio(ours, theirs)
    rate = middle(ours)
    result.note(
        **{
            f"{size}kb_steps_per_s": rate,
            f"{size}kb_mb_per_s": rate * size / 1000,
            f"{size}kb_alone_steps_per_s": middle(theirs),
            f"{size}kb_ratio": compared.mean,
        }
    )
    half = _load(running, size, together, SEATS, int(rate / 2 * seconds), rate / 2)
    result.note(**{f"{size}kb_half_load_p99_ms": quantile(half["latencies"], 0.99) * 1000})
    result.remark(**{f"{size}kb_ratio": f"{compared} of kafka-python alone, one record a step"})


def _packing(folder: Path, servers: str, seconds: float, result: Result) -> None:
    """The best rate at 1 KB whose acknowledgements keep the bound, with steps packed into records and with one in each."""
    best = {"packed": 0.0, "unpacked": 0.0}
    for name, record_bytes in (("packed", 500_000), ("unpacked", 1)):
        with gateways(folder, servers, 1, record_bytes) as running:
            for seats in PACKING_SEATS:
                told = _load(running, 1, SIZES[1], seats, int(15_000 * seconds))
                if quantile(told["latencies"], 0.99) <= P99_BOUND:
                    best[name] = max(best[name], told["steps"] / told["seconds"])
    result.note(packed_steps_per_s=best["packed"], unpacked_steps_per_s=best["unpacked"])
    if best["unpacked"]:
        result.note(packing_ratio=best["packed"] / best["unpacked"])
    result.remark(packing_ratio=f"best rates at which 99 % of the requests are acknowledged within {P99_BOUND:g} s")


def _two(folder: Path, servers: str, seconds: float, result: Result) -> None:
    rates = []
    for count in (1, 2):
        with gateways(folder, servers, count) as running:
            told = _load(running, 1, SIZES[1], SEATS, int(20_000 * seconds))
            rates.append(told["steps"] / told["seconds"])
    result.note(
        one_gateway_steps_per_s=rates[0], two_gateways_steps_per_s=rates[1], two_gateways_ratio=rates[1] / rates[0]
    )
    result.remark(two_gateways_ratio=f"at 1 KB, with client and broker on the same {os.cpu_count()} processors")


def _load(running: Running, size: int, together: int, seats: int, steps: int, pace: float = 0.0) -> dict[str, Any]:
    urls = ",".join(running.urls)
    return _program(urls, TOKEN, str(size * 1000), str(together), str(seats), str(steps), str(pace))


def _program(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loads", *arguments]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def _make_topic(servers: str) -> None:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.create_topics([NewTopic("alone", 4, 1, topic_configs={"max.message.bytes": "2097152"})])


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
