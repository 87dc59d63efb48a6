"""What a swap costs those who are being served: a steady load on a `LiveModel` while versions arrive, and without.

    python -m benchmarks.serve [--versions N] [--clients N] [--windows N] [--between SECONDS] [--beside] [--json]

Each request pins the model, takes several denoising steps of it, and looks at the stamps that every part carries, at the
first step and after the last: they must be one version's, and the one that the request was told. At the end the channel is
rolled back.

What is measured is the serving side, so the publisher has made its versions before, and moves the channel to one after
the other; what training and encoding take from a machine that they share with serving is `benchmarks.publish`'s. With
`--beside`, each version is made while requests are served, by a process on the same machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.pairs import pooled, ratio
from benchmarks.result import Result, Target
from examples.desktop.findings import quantile
from publish import DirectoryHub, Follower, LiveModel, Outbox, Publisher, Served, SigningKey, Ticket, put
from publish.loading import Modules

TARGETS = (
    Target("failed", "==", 0),
    Target("mixed", "==", 0),
    Target("p99_ratio", "<=", 1.1),
    Target("rollback_seconds", "<=", 1.0),
)
STEPS, LAYERS, WIDTH = 4, 6, 512
BACK = -1
"""An order to the publisher: take the channel back."""


class Part(nn.Module):
    """A layer that carries the number of its version."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("stamp", torch.zeros(1))

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        """A denoising step's share."""
        return torch.tanh(self.layer(frame))


def model() -> nn.Sequential:
    """The served architecture."""
    return nn.Sequential(*(Part() for _ in range(LAYERS)))


def weights(version: int) -> dict[str, torch.Tensor]:
    """A version's, all parts stamped, which a finetuning step of 1e-5 parts from its neighbour."""
    torch.manual_seed(0)
    state = model().state_dict()
    moved = torch.Generator().manual_seed(version)
    return {
        name: torch.full_like(value, version)
        if "stamp" in name
        else value + 1e-5 * torch.randn(value.shape, generator=moved)
        for name, value in state.items()
    }


class Load:
    """Clients that ask one request after the other; counts what went wrong and times what did not."""

    def __init__(self, live: LiveModel[nn.Sequential], clients: int) -> None:
        self._live = live
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.seconds: list[float] = []
        self.failed = self.mixed = 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            try:
                with self._live.use() as served, torch.no_grad():
                    whole = _stamps(served)
                    frame = torch.ones(1, WIDTH)
                    for _ in range(STEPS):
                        frame = served.module(frame)
                    whole |= _stamps(served)
                    if whole != {float(served.version or 0)}:
                        self.mixed += 1
            except Exception:
                self.failed += 1
            self.seconds.append(time.perf_counter() - began)
            time.sleep(0.002)  # else the clients alone would be the load on the machine


def _stamps(served: Served[nn.Sequential]) -> set[float]:
    return {float(value) for name, value in served.module.named_buffers() if name.endswith("stamp")}


def publish_from(root: Path, orders: Any, made: Any, versions: int, beside: bool) -> None:
    """A publisher in a process of its own, as in a service: each order is a version to show, None the end."""
    torch.set_num_threads(1)
    hub, outbox = DirectoryHub(root / "hub", create=True), Outbox(root / "outbox")
    publisher = Publisher(hub, outbox, SigningKey.load_or_create(root / "publisher.key"), keep=versions)

    def make(version: int, channel: str) -> None:
        def write(folder: Path) -> None:
            save_file(weights(version), folder / "model.safetensors")

        put(root / "outbox", write, Ticket("bench", "main", "seg1", version, ema=True, channel=channel))
        assert publisher.step() == 0.0

    with outbox.served():
        for version in range(1, 1 if beside else versions + 1):
            make(version, "made")
        made.set()
        while (version := orders.get()) is not None:
            if version == BACK:
                publisher.rollback_version("stable", by="bench")
            elif beside:
                make(version, "stable")
            else:
                publisher.promote_version("stable", version, by="bench")


def measure(result: Result, versions: int, clients: int, windows: int, between: float, beside: bool) -> None:
    """Windows of the same load without and with versions, in turns; then a rollback under it."""
    torch.set_num_threads(1)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        key = SigningKey.load_or_create(root / "publisher.key")
        orders, made = context.Queue(), context.Event()
        publisher = context.Process(target=publish_from, args=(root, orders, made, versions + 1, beside), daemon=True)
        publisher.start()
        made.wait()
        live: LiveModel[nn.Sequential] = LiveModel(Modules(model))
        follower = Follower(DirectoryHub(root / "hub"), "stable", [key.public], root / "cache", live, apart=True)

        def wait_for(version: int) -> None:
            while follower.status().version != version:
                time.sleep(0.02)

        quiet, busy = Seen(), Seen()
        follower.start()
        orders.put(1)
        wait_for(1)
        each, step = versions // windows, 1
        for number in range(windows):
            for swapping in (number % 2 == 0, number % 2 == 1):  # each kind comes first as often as the other
                window = time.monotonic()
                with Load(live, clients) as load:
                    for _ in range(each):
                        began = time.monotonic()
                        if swapping:
                            step += 1
                            orders.put(step)
                            wait_for(step)
                        time.sleep(max(0.0, between - (time.monotonic() - began)))
                (busy if swapping else quiet).add(load, time.monotonic() - window)
        with Load(live, clients) as last:
            began = time.perf_counter()
            orders.put(BACK)
            while follower.status().version != step - 1:
                time.sleep(0.001)
            rollback = time.perf_counter() - began
        follower.close()
        orders.put(None)
        publisher.join(20)
        busy.failed += last.failed
        busy.mixed += last.mixed
        _note(result, quiet, busy, rollback, follower.status().swaps, step - 1)


class Seen:
    """What the loads of one kind met, window by window."""

    def __init__(self) -> None:
        self.windows: list[list[float]] = []
        self.failed = self.mixed = 0
        self.took = 0.0

    def add(self, load: Load, took: float) -> None:
        """One more window, of `took` seconds."""
        self.windows.append(load.seconds)
        self.took += took
        self.failed += load.failed
        self.mixed += load.mixed

    @property
    def seconds(self) -> list[float]:
        """Of all requests."""
        return [value for window in self.windows for value in window]

    def p99s(self) -> list[float]:
        """One of each window."""
        return [quantile(window, 0.99) for window in self.windows]


def _note(result: Result, quiet: Seen, busy: Seen, rollback: float, swaps: int, versions: int) -> None:
    against = ratio(busy.p99s(), quiet.p99s())
    together = pooled(busy.windows, quiet.windows, 0.99)
    result.note(
        requests=len(busy.seconds),
        windows=len(busy.windows),
        swaps=swaps,
        seconds_a_version=busy.took / versions,
        failed=busy.failed + quiet.failed,
        mixed=busy.mixed + quiet.mixed,
        p50_quiet_ms=1000 * quantile(quiet.seconds, 0.5),
        p50_swapping_ms=1000 * quantile(busy.seconds, 0.5),
        p99_quiet_ms=1000 * quantile(quiet.seconds, 0.99),
        p99_swapping_ms=1000 * quantile(busy.seconds, 0.99),
        p99_ratio=against.mean,
        p99_ratio_pooled=together.mean,
        rollback_seconds=rollback,
    )
    result.remark(
        p99_ratio=f"of the windows' p99, swapping by quiet: {against}",
        p99_ratio_pooled=f"p99 of all requests, swapping by quiet: {together}",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=100)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--windows", type=int, default=10, help="of each kind, with as many versions in each")
    parser.add_argument("--between", type=float, default=0.25, help="seconds between two versions")
    parser.add_argument("--beside", action="store_true", help="make the versions meanwhile, on this machine")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = Result("serve", TARGETS)
    measure(result, given.versions, given.clients, given.windows, given.between, given.beside)
    result.show(as_json=given.json)


if __name__ == "__main__":
    main()
