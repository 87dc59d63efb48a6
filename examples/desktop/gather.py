"""Gathers what happened in a run from what its parts wrote: the log, the journals, the hub, and the control server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from diffusers import UNet2DModel

from control import ControlClient, Event, EventType
from control.api import AuditEntry, SeriesPage
from control.bodies import MixtureBody
from examples.desktop.evaluate import Evaluation, filmstrip
from examples.desktop.films import moments_of, shown_trial
from examples.desktop.findings import TASKS, Command, Findings, Seen, Shares, Strip, Version
from examples.desktop.model import Painter
from examples.desktop.scripted import Goal
from examples.desktop.world import LAUNCH_FRAMES, App
from ingest import SAMPLES, STEPS, Record, SessionOpened, StepsAppended
from ingest.records import annotated, session_record
from publish import DirectoryHub, Follower, LiveModel, Manifest, decode_manifest
from publish.loading import Pretrained
from stovetop.doors import Doors
from stovetop.errors import StovetopError
from stovetop.settings import Settings
from trainer import RunFolder, trained_along

__all__ = ["LastServed", "Served", "Told", "gather", "hear", "last_served", "strips"]


@dataclass(frozen=True)
class Served:
    """A line of the app's journal: from `time` on it served `version`."""

    time: float
    version: int | None

    @property
    def label(self) -> str:
        return "base" if self.version is None else f"{self.version:06d}"

    @classmethod
    def read(cls, path: Path) -> list[Self]:
        """All lines, oldest first."""
        if not path.exists():
            return []
        entries = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return [cls(entry["time"], entry["version"]) for entry in entries]

    @classmethod
    def newest(cls, path: Path) -> Self | None:
        """The last line, None before the first."""
        entries = cls.read(path)
        return entries[-1] if entries else None


@dataclass(frozen=True)
class LastServed:
    """The model that the channel names at the end, verified and loaded as any serving side would."""

    label: str
    model: UNet2DModel


@dataclass(frozen=True)
class Told:
    """What the control server had been told by the end: mixtures, curves, interventions."""

    mixtures: Sequence[Event]
    series: SeriesPage
    audit: Sequence[AuditEntry]


def hear(client: ControlClient, run: str) -> Told:
    """Ask the control server for what it was told of the run."""
    mixtures: list[Event] = []
    since, more = 0, True
    while more:
        page = client.history(since, run=run, types=[EventType.MIXTURE], limit=1000)
        mixtures += page.events
        since, more = page.last, page.more
    return Told(mixtures, client.series(run, points=2000), client.audit(limit=200).entries)


def last_served(settings: Settings, cache: Path, say: Callable[[str], None]) -> LastServed:
    """Follow the channel with a cache of our own until its version is there, verified.

    Raises StovetopError where nothing was published.
    """
    doors = Doors.read(settings)
    hub = DirectoryHub(settings.publish.hub)
    pointer = hub.channel(doors.channel)
    if pointer is None:
        raise StovetopError(f"nothing was published to {doors.hub}; see the logs in {settings.data / 'logs'}")
    live: LiveModel[UNet2DModel] = LiveModel(Pretrained(UNet2DModel))
    follower = Follower(hub, doors.channel, (doors.public_key,), cache, live)
    follower.start()
    deadline = time.monotonic() + 30.0
    while (served := live.current) is None or served.version != pointer.version:
        if time.monotonic() > deadline:
            raise StovetopError(f"version {pointer.version:06d} does not verify: {follower.status().error}")
        time.sleep(0.02)
    follower.close()
    say(f"verified version {served.label} against the publisher's key")
    return LastServed(served.label, served.module)


def strips(base: Painter, tuned: Painter) -> list[Strip]:
    """For both tasks, the first of a set of trials of its own as frames, at the same moments."""
    found = []
    for goal in TASKS:
        trial, truth = shown_trial(goal)
        moments = moments_of(len(truth))
        before, after = filmstrip(base, trial), filmstrip(tuned, trial)
        found.append(
            Strip(goal, moments, *([frames[moment] for moment in moments] for frames in (truth, before, after)))
        )
    return found


def gather(
    settings: Settings,
    data: Path,
    seed: int,
    opened: float,
    seconds: float,
    evaluations: tuple[Evaluation, Evaluation],
    shown: Sequence[Strip],
    told: Told,
) -> Findings:
    """Everything that the report shows. Times are counted from `opened`."""
    clicks, sessions, steps = _logged(settings)
    folder = RunFolder(settings.runs / settings.run)
    trained = {
        key: (segment, entry.step) for segment, entry in trained_along(folder) for key in entry.keys.get("live", ())
    }
    manifests = _manifests(settings)
    served = Served.read(data / "served.jsonl")
    first_served = {entry.version: entry.time for entry in reversed(served)}
    curves = {series.metric: _curve(series.steps, series.mean) for series in told.series.series}
    return Findings(
        seed=seed,
        seconds=seconds,
        train_steps=max((entry.step for _, entry in trained_along(folder)), default=0),
        launch_frames=LAUNCH_FRAMES[App.BROWSER],
        before=evaluations[0],
        after=evaluations[1],
        strips=shown,
        tries=_tries(data / "visits.jsonl", opened),
        versions=[
            Version(
                manifest.version,
                manifest.step,
                manifest.created_at - opened,
                None if (at := first_served.get(manifest.version)) is None else at - opened,
            )
            for manifest in manifests
        ],
        shares=list(_shares(told.mixtures, opened)),
        commands=[_command(entry, opened) for entry in reversed(told.audit)],
        loss=curves.get("loss", []),
        losses={name.removeprefix("loss/"): curve for name, curve in curves.items() if name.startswith("loss/")},
        lags=sorted(_lags(folder, clicks, trained, manifests, first_served)),
        sessions=sessions,
        steps=steps,
        live_samples=len(clicks),
        live_trained=len(clicks.keys() & trained.keys()),
    )


def _logged(settings: Settings) -> tuple[dict[str, float], int, int]:
    """When the step behind each live sample was received, by key; and the numbers of sessions and steps."""
    clicks: dict[str, float] = {}
    sessions = steps = 0
    for record in _records(settings, STEPS):
        told = session_record(record)
        sessions += isinstance(told, SessionOpened)
        steps += len(told.steps) if isinstance(told, StepsAppended) else 0
    for record in _records(settings, SAMPLES):
        for sample in annotated(record).samples:
            clicks[sample.key] = sample.time
    return clicks, sessions, steps


def _records(settings: Settings, topic: str) -> Iterator[Record]:
    reader = settings.log.open().reader()
    try:
        for partition in range(reader.partitions(topic)):
            offset, end = reader.bounds(topic, partition).start, reader.bounds(topic, partition).end
            while offset < end:
                fetch = reader.fetch(topic, partition, offset)
                offset = fetch.next_offset
                yield from fetch.records
    finally:
        reader.close()


def _manifests(settings: Settings) -> list[Manifest]:
    hub = DirectoryHub(settings.publish.hub)
    return [decode_manifest(hub.manifest(version), f"version {version:06d}") for version in hub.numbers()]


def _lags(
    folder: RunFolder,
    clicks: Mapping[str, float],
    trained: Mapping[str, tuple[str, int]],
    manifests: Sequence[Manifest],
    first_served: Mapping[int | None, float],
) -> Iterator[float]:
    """For each trained sample, seconds from its step's arrival until a version trained on it began to serve."""
    serving = [
        (
            first_served[manifest.version],
            {stretch.segment.id: stretch.until for stretch in folder.chain(manifest.segment)},
            manifest,
        )
        for manifest in manifests
        if manifest.version in first_served
    ]
    serving.sort(key=lambda entry: entry[0])
    for key, (segment, step) in trained.items():
        if key not in clicks:
            continue
        for at, chain, manifest in serving:
            until = manifest.step if segment == manifest.segment else chain.get(segment, -1)
            if until is not None and step <= until:
                yield at - clicks[key]
                break


def _tries(path: Path, opened: float) -> list[Seen]:
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return sorted(
        (Seen(entry["time"] - opened, Goal(entry["goal"]), entry["seen"]) for entry in entries),
        key=lambda seen: seen.time,
    )


def _shares(mixtures: Sequence[Event], opened: float) -> Iterator[Shares]:
    for event in mixtures:
        sources = MixtureBody.model_validate(event.body).sources
        shares = {name: source.seen for name, source in sources.items() if source.seen is not None}
        if shares and sum(shares.values()) > 0:
            yield Shares(event.time - opened, shares)


def _command(entry: AuditEntry, opened: float) -> Command:
    text = f"{entry.command} {json.dumps(entry.arguments)}"
    return Command(
        entry.time - opened, text, entry.author, entry.step, entry.outcome.value if entry.outcome else "open"
    )


def _curve(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in zip(steps, values, strict=True) if value is not None]
