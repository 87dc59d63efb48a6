"""What the parts of each run said last, and how fast their counters go up: the pulse behind the way of one click.

Kept in memory and filled by heartbeats within seconds; after a start of the server the store tells what was there.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from control.protocol import Event, EventType
from control.store import EventFilter, events
from control.store.readers import Readers

SILENT = 4.0
"""Seconds without a word after which a part counts as broken. Heartbeats come every second."""

WINDOW = 10.0
"""Seconds over which rates are taken."""

SEED = 200
HEARD = (EventType.PIPELINE, EventType.FOLLOWER, EventType.MIXTURE, EventType.METRICS)
COUNTERS: Mapping[str, str] = {
    "gateway": "steps",
    "log": "end",
    "annotator": "samples",
    "archiver": "entries",
}
"""The counter of each component that its rate is taken of."""


@dataclass(frozen=True)
class Beat:
    """What was said, and when it came."""

    at: float
    body: Mapping[str, Any]
    step: int | None = None


@dataclass(frozen=True)
class Heard:
    """What is known of one run: reports by component and by follower, the newest mixture and step, rates a second."""

    reports: Mapping[str, Beat] = field(default_factory=dict)
    followers: Mapping[str, Beat] = field(default_factory=dict)
    mixture: Beat | None = None
    step: Beat | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


class _Pulse:
    def __init__(self) -> None:
        self.reports: dict[str, Beat] = {}
        self.followers: dict[str, Beat] = {}
        self.mixture: Beat | None = None
        self.step: Beat | None = None
        self.counts: dict[str, deque[tuple[float, float]]] = defaultdict(deque)
        self.seeded = False

    def take(self, event: Event, at: float) -> None:
        beat = Beat(at, event.body, event.step)
        match event.type:
            case EventType.PIPELINE:
                component = str(event.body.get("component", ""))
                self.reports[component] = beat
                self.count(component, event.body.get(COUNTERS.get(component, "")), at)
            case EventType.FOLLOWER:
                self.followers[str(event.body.get("follower", ""))] = beat
            case EventType.MIXTURE:
                self.mixture = beat
            case EventType.METRICS if event.step is not None:
                self.step = beat
                self.count("step", event.step, at)
            case _:
                pass

    def count(self, name: str, value: object, at: float) -> None:
        if not isinstance(value, (int, float)):
            return
        counts = self.counts[name]
        if counts and value < counts[-1][1]:
            counts.clear()  # a new process counts from 0, a new branch from its fork
        counts.append((at, float(value)))
        while len(counts) > 2 and counts[1][0] < at - WINDOW:
            counts.popleft()

    def rates(self, now: float) -> dict[str, float]:
        found = {}
        for name, counts in self.counts.items():
            (first, low), (last, high) = counts[0], counts[-1]
            if now - last > WINDOW:
                found[name] = 0.0
            elif len(counts) > 1 and last - first >= 1.0:
                found[name] = (high - low) / (now - first if now - last > 2.0 else last - first)
        return found


class Beats:
    """All runs. `notice` hears every event on the server's loop; any thread may ask."""

    def __init__(self, readers: Readers, clock: Callable[[], float] = time.time) -> None:
        self._readers, self._clock = readers, clock
        self._runs: dict[str, _Pulse] = {}
        self._lock = threading.Lock()
        self.started = clock()

    def now(self) -> float:
        """The time, by this clock."""
        return self._clock()

    def notice(self, event: Event) -> None:
        """An event was stored."""
        if event.type not in HEARD:
            return
        with self._lock:
            self._runs.setdefault(event.run, _Pulse()).take(event, self._clock())

    def of(self, run: str) -> Heard:
        """What is known of a run; of the time before this server was started, what the store tells."""
        with self._lock:
            known = self._runs.get(run)
        if known is None or not known.seeded:
            self._seed(run)
        with self._lock:
            pulse = self._runs[run]
            return Heard(
                dict(pulse.reports),
                dict(pulse.followers),
                pulse.mixture,
                pulse.step,
                pulse.rates(self._clock()),
            )

    def _seed(self, run: str) -> None:
        connection = self._readers.connection()
        before = _Pulse()
        for kind in HEARD:
            for event in events.newest(connection, EventFilter(run=run, types=(kind,)), SEED):
                before.take(event, min(event.time, self._clock()))
        with self._lock:
            pulse = self._runs.setdefault(run, _Pulse())
            pulse.reports = {**before.reports, **pulse.reports}
            pulse.followers = {**before.followers, **pulse.followers}
            pulse.mixture, pulse.step = pulse.mixture or before.mixture, pulse.step or before.step
            pulse.seeded = True
