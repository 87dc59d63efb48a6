"""The gate between a channel of candidates and the channel that is served.

    publish -> `candidate` -> finite? drifted? the trainer's figures? the app's own? -> `stable`, by rule or by hand

Every decision is recorded with its figures, before the channel moves. A candidate is judged once: after a crash the
recorded decision stands.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from publish import durable
from publish.base import LastCommitted
from publish.catalogue import Catalogue, Known, fetch
from publish.checks import Check, Figures, Rule, drift, figures_keep, finite
from publish.errors import Unreadable, VersionMissing
from publish.hub import ReadableHub
from publish.recall import RecallSettings

FORMAT = 1
logger = logging.getLogger(__name__)

Evaluation = Callable[[Path], Figures]
"""An app's plug-in: a version's folder to figures by name, such as `{"score": 0.93}`."""


class GateSettings(BaseModel):
    """`channel` is where candidates come in; those that pass go on to `target`, unless `by_hand`, when an operator
    promotes them. `loss` rules figures of the trainer's evaluation, `app` those of the app's own. `alarms` is what
    followers may cause, also where the gate is not enabled."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = False
    channel: str = "candidate"
    target: str = "stable"
    by_hand: bool = False
    at_most_drift: float | None = Field(0.5, gt=0, description="of the weights, as a share of their length")
    loss: Mapping[str, Rule] = {}
    app: Mapping[str, Rule] = {}
    alarms: RecallSettings = RecallSettings()


class Decision(msgspec.Struct, frozen=True):
    """What the gate made of one candidate. `standing` is the version that it was held against; None: there was none.
    `app` holds the app's figures, for the next candidate to be held against."""

    format: int
    version: int
    manifest_sha256: str
    at: float
    passed: bool
    standing: int | None
    checks: tuple[Check, ...]
    app: Mapping[str, float] = {}

    @property
    def reason(self) -> str:
        """Why it was refused; empty for one that passed."""
        return "; ".join(f"{check.name}: {check.reason}" for check in self.checks if not check.passed)


_decode_decision = msgspec.json.Decoder(Decision).decode


class Gate:
    """Judges candidates. `root` keeps the decisions and a copy of the version that stands.

    It judges in the publisher's thread: an app whose evaluation takes long delays the next version, never training.
    """

    def __init__(
        self, settings: GateSettings, root: Path, hub: ReadableHub, evaluate: Evaluation | None = None
    ) -> None:
        self.settings = settings
        self._root = root
        self._hub = hub
        self._evaluate = evaluate
        durable.make_folder(root / "decisions")
        durable.sweep(root / "tmp")
        self._last = LastCommitted(root / "standing", root / "tmp")

    def judge(self, known: Known, folder: Path, catalogue: Catalogue) -> Decision:
        """Decide on a candidate whose files lie in `folder`, and record it. Raises HubError where what stands cannot be
        read now, and OSError."""
        recorded = self.decision(known.manifest.version)
        if recorded is not None and recorded.manifest_sha256 == known.digest:
            return recorded
        standing = self._standing(catalogue)
        files = {name: folder / name for name in known.manifest.files}
        checks = [finite(files)]
        if checks[0].passed:  # else nothing else says anything
            checks += self._compare(known, files, standing)
        app: Mapping[str, float] = {}
        if all(check.passed for check in checks) and self._evaluate is not None:
            app, check = self._ask_the_app(folder, standing)
            checks.append(check)
        decision = Decision(
            format=FORMAT,
            version=known.manifest.version,
            manifest_sha256=known.digest,
            at=time.time(),
            passed=all(check.passed for check in checks),
            standing=standing.manifest.version if standing else None,
            checks=tuple(checks),
            app=app,
        )
        durable.replace_file(self._decision(decision.version), msgspec.json.encode(decision), alone=True)
        return decision

    def decision(self, version: int) -> Decision | None:
        """What was decided on a version; None where it was never judged, or the record is of another format."""
        try:
            decision = _decode_decision(self._decision(version).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return decision if decision.format == FORMAT else None

    def _compare(self, known: Known, files: Mapping[str, Path], standing: Known | None) -> list[Check]:
        checks = []
        if self.settings.at_most_drift is not None and standing is not None:
            try:
                checks.append(drift(files, self._files(standing), self.settings.at_most_drift))
            except (Unreadable, VersionMissing) as error:  # no later try does better; an operator may still promote
                checks.append(Check("drift", False, {}, f"what stands cannot be compared with: {error}"))
        if self.settings.loss:
            figures = numbers(known.manifest.evaluation)
            before = numbers(standing.manifest.evaluation) if standing else {}
            checks.append(figures_keep("loss", figures, before, self.settings.loss))
        return checks

    def _ask_the_app(self, folder: Path, standing: Known | None) -> tuple[Figures, Check]:
        assert self._evaluate is not None
        before = self.decision(standing.manifest.version) if standing else None
        try:
            figures = numbers(self._evaluate(folder))
        except Exception as error:  # a candidate that the app cannot even evaluate is not served
            logger.exception("the app's evaluation failed")
            return {}, Check("app", False, {}, f"its evaluation failed ({type(error).__name__}: {error})")
        kept = {name: value for name, value in figures.items() if math.isfinite(value)}
        return kept, figures_keep("app", figures, before.app if before else {}, self.settings.app)

    def _standing(self, catalogue: Catalogue) -> Known | None:
        pointer = self._hub.channel(self.settings.target)
        return catalogue.read(pointer.version) if pointer is not None else None

    def _files(self, standing: Known) -> Mapping[str, Path]:
        """The files of the version that stands: fetched once, checked against what was signed."""
        if (kept := self._last.files(standing)) is not None:
            return kept
        with self._last.scratch() as scratch:
            self._last.keep(standing, fetch(self._hub, standing, scratch / "fetched"))
        found = self._last.files(standing)
        assert found is not None, "it was kept just now"
        return found

    def _decision(self, version: int) -> Path:
        return self._root / "decisions" / f"{version:06d}.json"


def numbers(figures: Mapping[str, Any]) -> Figures:
    """The figures that are numbers, by name; those of a group, such as a source's, as `group.name`."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
