"""When what is served is worse than it may be: errors, latency and the app's own score, version by version.

    LiveModel.use, Alarms.score -> figures of each version -> rules -> back to the version before, and word to the publisher

A version is on probation for a while after it was flipped to. Later its figures say more about the world than about its
weights, and no alarm is raised by itself.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from publish.checks import Rule

KEPT = 3
"""Versions whose figures are kept."""


class AlarmSettings(BaseModel):
    """What a version on probation must keep. Figures are those of its last `window` requests, and are judged from `least`
    requests on; they are held against those of the version before where these are as many.

    The rules' figures are `failed` (a share of requests), `p95_seconds` and `score`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = False
    probation_seconds: float = Field(600.0, gt=0)
    least: int = Field(30, ge=1)
    window: int = Field(500, ge=1)
    failed: Rule | None = Rule(at_most=0.05)
    p95_seconds: Rule | None = Rule(at_most_worse=1.0)
    score: Rule | None = Field(None, description="of what the app reports; without one, its scores raise nothing")


class Alarm(msgspec.Struct, frozen=True):
    """Why a version is sent back, by which figures. `back_to` is the version before; None: the packaged base."""

    channel: str
    version: int
    back_to: int | None
    reason: str
    figures: Mapping[str, float]
    raised_at: float


@dataclass
class _Record:
    """One version's last requests."""

    window: int
    began: float
    seconds: deque[float] = field(init=False)
    failed: deque[bool] = field(init=False)
    scores: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.seconds, self.failed, self.scores = (deque(maxlen=self.window) for _ in range(3))

    def figures(self, least: int) -> dict[str, float]:
        """Those that rest on enough requests."""
        found: dict[str, float] = {}
        if len(self.failed) >= least:
            found["failed"] = sum(self.failed) / len(self.failed)
        if len(self.seconds) >= least:
            found["p95_seconds"] = sorted(self.seconds)[math.ceil(0.95 * len(self.seconds)) - 1]
        if len(self.scores) >= least:
            found["score"] = sum(self.scores) / len(self.scores)
        return found


class Alarms:
    """Watches one `LiveModel`. `clock` is in seconds, and only differences of it count."""

    def __init__(self, settings: AlarmSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def served(self, digest: str, seconds: float, *, failed: bool) -> None:
        """A request was answered by these weights, or failed with them; from any thread."""
        with self._lock:
            record = self._record(digest)
            record.failed.append(failed)
            if not failed:
                record.seconds.append(seconds)

    def score(self, digest: str, value: float) -> None:
        """The app's own figure for an answer of these weights, such as whether its user was content; from any thread."""
        with self._lock:
            self._record(digest).scores.append(value)

    def begin(self, digest: str) -> None:
        """These weights are served from now on; what was seen of them before is forgotten."""
        with self._lock:
            self._records.pop(digest, None)
            self._record(digest)

    def broken(self, digest: str, before: str) -> tuple[str, Mapping[str, float]]:
        """Why these weights may not stay, with the figures that say so; an empty reason where they may."""
        chosen = self.settings
        with self._lock:
            record = self._records.get(digest)
            if record is None or self._clock() - record.began > chosen.probation_seconds:
                return "", {}
            figures = record.figures(chosen.least)
            standing = self._records[before].figures(chosen.least) if before in self._records else {}
        rules = {"failed": chosen.failed, "p95_seconds": chosen.p95_seconds, "score": chosen.score}
        reasons = [
            f"{name}: {why}"
            for name, rule in rules.items()
            if rule is not None and name in figures and (why := rule.broken_by(figures[name], standing.get(name)))
        ]
        shown = {name: value for name, value in figures.items() if math.isfinite(value)}
        shown |= {f"before_{name}": value for name, value in standing.items() if math.isfinite(value)}
        return "; ".join(reasons), shown

    def _record(self, digest: str) -> _Record:
        record = self._records.get(digest)
        if record is None:
            record = self._records[digest] = _Record(self.settings.window, self._clock())
            while len(self._records) > KEPT:
                self._records.popitem(last=False)
        return record
