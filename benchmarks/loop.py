"""How long a click takes through the whole loop, with the demo's model and settings, all processes on this machine.

Phase 1 floods the gateway to measure how many live samples a second the trainer consumes. Phase 2 posts at half of that
and follows every step by its key: acknowledged, trained on, in a served version. Phase 3 posts 200 steps a second and
watches how soon their samples can be read from the log, and what memory the processes use.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import psutil
from diffusers import UNet2DModel

from benchmarks.posting import Posted, Posters
from benchmarks.result import Result, Target
from examples.desktop.base_data import write_base_shards
from examples.desktop.demo import CONFIG
from examples.desktop.findings import quantile
from ingest import SAMPLES, Annotated, LogReader
from publish import DirectoryHub, Follower, LiveModel, Status, decode_manifest
from publish.loading import Pretrained
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings, load_settings
from stovetop.up import Service
from trainer import RunFolder, Trained, trained_along

TARGETS = (
    Target("ack_to_trained_p99_s", "<=", 1.0),
    Target("checkpoint_to_served_p95_s", "<=", 3.0),
    Target("click_to_served_p95_s", "<=", 15.0),
    Target("ack_to_readable_p99_s", "<=", 0.2),
    Target("memory_growth_ratio", "<=", 1.1),
)
WEIGHTS = {"base": 0.3, "history": 0.2, "live": 0.5}
STEADY = 200.0
FLOOD = 150.0
WARM_UP = 20.0


def run(seconds: float) -> Result:
    """The three phases, `seconds` each."""
    result = Result("loop", TARGETS)
    with tempfile.TemporaryDirectory(prefix="stovetop-loop-") as folder:
        data = Path(folder)
        write_base_shards(data / "base", 4_000)
        consumed = _flood(data / "flood", data / "base", seconds)
        result.note(live_consumed_per_s=consumed, posted_per_s=consumed / 2)
        _follow_clicks(data / "half", data / "base", seconds * 1.5, consumed / 2, result)
        _steady(data / "steady", data / "base", seconds, result)
    return result


def _flood(data: Path, base: Path, seconds: float) -> float:
    """Live samples a second that the trainer consumes when there are always enough."""
    with _Running(data, base, WEIGHTS) as running, running.posters(FLOOD):
        running.wait_for_training()
        time.sleep(seconds)
        times = [entry.time for _, entry in running.trained() for _ in entry.keys.get("live", ())]
    half = times[-1] - seconds / 2
    late = [at for at in times if at >= half]
    return (len(late) - 1) / (late[-1] - late[0])


def _follow_clicks(data: Path, base: Path, seconds: float, rate: float, result: Result) -> None:
    with _Running(data, base, WEIGHTS) as running:
        followed = running.follow()
        with running.posters(rate) as posters:
            running.wait_for_training()
            begun = time.time()
            time.sleep(seconds)
            ended = time.time()
            time.sleep(20.0)  # for the last clicks of the window to be served
        posted = {entry.key: entry for entry in posters.posted if begun <= entry.acked <= ended}
        entries = list(running.trained())
        trained = {key: entry for _, entry in entries for key in entry.keys.get("live", ())}
        completed = {entry.step: entry.time for _, entry in entries}
        waits = [trained[key].time - entry.acked for key, entry in posted.items() if key in trained]
        served = sorted((at, running.step_of(version)) for version, at in followed.items())
        clicks = list(_served(posted, {key: entry.step for key, entry in trained.items()}, served))
        handed = [at - completed[step] for at, step in served if step in completed]
    result.note(
        clicks_followed=len(waits),
        clicks_not_trained=len(posted) - len(waits),
        ack_to_trained_p50_s=quantile(waits, 0.5),
        ack_to_trained_p99_s=quantile(waits, 0.99),
        versions_served=len(handed),
        checkpoint_to_served_p50_s=quantile(handed, 0.5),
        checkpoint_to_served_p95_s=quantile(handed, 0.95),
        click_to_served_p50_s=quantile(clicks, 0.5),
        click_to_served_p95_s=quantile(clicks, 0.95),
    )


def _served(posted: dict[str, Posted], trained: dict[str, int], served: Sequence[tuple[float, int]]) -> Iterator[float]:
    for key, entry in posted.items():
        step = trained.get(key)
        if step is not None:
            at = next((at for at, reached in served if reached >= step), None)
            if at is not None:
                yield at - entry.sent


def _steady(data: Path, base: Path, seconds: float, result: Result) -> None:
    with _Running(data, base, WEIGHTS) as running:
        reading = _Reading(running.settings)
        with running.posters(STEADY, seats=10) as posters:
            running.wait_for_training()
            time.sleep(WARM_UP)
            before = running.memory()
            begun = time.time()
            time.sleep(seconds)
            ended = time.time()
            after = running.memory()
        readable = reading.close()
        posted = [entry for entry in posters.posted if begun <= entry.acked <= ended]
    waits = [max(0.0, readable[entry.key] - entry.acked) for entry in posted if entry.key in readable]
    result.note(
        steady_steps_per_s=len(posted) / seconds,
        ack_to_readable_p50_s=quantile(waits, 0.5),
        ack_to_readable_p99_s=quantile(waits, 0.99),
        steps_without_sample=len(posted) - len(waits),
        memory_before_mb=before / 1e6,
        memory_after_mb=after / 1e6,
        memory_growth_ratio=after / before,
    )


class _Running:
    """A service with the desktop's settings on a fresh data folder."""

    def __init__(self, data: Path, base: Path, weights: dict[str, float]) -> None:
        environment = {"STOVETOP_APP__BASE_SHARDS": str(base), "STOVETOP_MIXTURE__WEIGHTS": json.dumps(weights)}
        self.settings = load_settings(CONFIG, data=data)
        self._service = Service(self.settings, CONFIG, environment)
        self._follower: Follower[UNet2DModel] | None = None

    def __enter__(self) -> _Running:
        self._service.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.close()
        self._service.close()

    def posters(self, rate: float, seats: int = 8) -> Posters:
        return Posters(self._service.doors.gateway, local_token(self.settings, Holder.APP), rate, seats)

    def trained(self) -> Iterator[tuple[str, Trained]]:
        return trained_along(RunFolder(self.settings.runs / self.settings.run))

    def wait_for_training(self) -> None:
        deadline = time.monotonic() + 120.0
        while not any(True for _ in self.trained()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was trained in 120 s; see {self.settings.data / 'logs'}")
            time.sleep(0.2)

    def follow(self) -> dict[int, float]:
        """Serve the channel here, as an app would; the mapping gets each version and when it began to serve."""
        served: dict[int, float] = {}

        def tell(status: Status) -> None:
            if status.version is not None:
                served.setdefault(status.version, time.time())

        live: LiveModel[UNet2DModel] = LiveModel(Pretrained(UNet2DModel))
        keys = (self._service.doors.public_key,)
        hub = DirectoryHub(self.settings.publish.hub, create=True)
        self._follower = Follower(hub, "stable", keys, self.settings.data / "cache", live, tell=tell)
        self._follower.start()
        return served

    def step_of(self, version: int) -> int:
        hub = DirectoryHub(self.settings.publish.hub)
        return decode_manifest(hub.manifest(version), f"version {version:06d}").step

    def memory(self) -> int:
        """Resident bytes of every process of the service, children included."""
        total = 0
        for pid in self._service.supervisor.processes.values():
            process = psutil.Process(pid)
            total += sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))
        return total


class _Reading(threading.Thread):
    """Follows the samples in the log and notes when each could be read."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._log = settings.log.open()
        self._ended = threading.Event()
        self._readable: dict[str, float] = {}
        self.start()

    def close(self) -> dict[str, float]:
        time.sleep(1.0)
        self._ended.set()
        self.join()
        return self._readable

    def run(self) -> None:
        reader = self._log.reader()
        offsets = [0] * reader.partitions(SAMPLES)
        while not self._ended.is_set():
            reader.wait(0.2)
            for partition in range(len(offsets)):
                offsets[partition] = self._take(reader, partition, offsets[partition])
        reader.close()

    def _take(self, reader: LogReader, partition: int, offset: int) -> int:
        fetch = reader.fetch(SAMPLES, partition, offset)
        now = time.time()
        for record in fetch.records:
            for sample in msgspec.msgpack.decode(record.value, type=Annotated).samples:
                self._readable[sample.key] = now
        return fetch.next_offset


def main() -> None:
    """`python -m benchmarks.loop [--seconds N] [--json]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=45.0, help="of each phase")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    run(given.seconds).show(as_json=given.json)


if __name__ == "__main__":
    main()
