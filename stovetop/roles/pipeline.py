"""Annotator and archiver, and what they tell the control server of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from control import EventType
from control.api import ReportedEvent
from ingest.errors import LogError
from ingest.log import LogReader
from ingest.pipeline import Pipeline, PipelineSettings
from ingest.types import DEAD, SAMPLES, STEPS
from stovetop.play import stop_on_signals
from stovetop.reporting import Telling
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Annotate and archive until told to stop."""
    stop = stop_on_signals()
    pipeline = Pipeline(_knowing_ages(settings), settings.log.open(), settings.archive.open())
    log = _LogFigures(settings)
    # The log's figures have a thread of their own: one that does not answer is not to silence the others.
    with Telling(settings, lambda: _figures(pipeline, settings.run)), Telling(settings, log.told):
        pipeline.run(stop)


def _knowing_ages(settings: Settings) -> PipelineSettings:
    """The pipeline's settings; the keeper is told when the log forgets, for its certificates."""
    chosen = settings.pipeline
    ages = {
        STEPS: settings.gateway.retention.max_age,
        SAMPLES: chosen.annotator.samples.max_age,
        DEAD: chosen.annotator.dead.max_age,
    }
    keeping = chosen.keeping.model_copy(update={"log_ages": ages | dict(chosen.keeping.log_ages)})
    return chosen.model_copy(update={"keeping": keeping})


def _figures(pipeline: Pipeline, run: str) -> Iterator[ReportedEvent]:
    health = pipeline.health
    heard = {"annotator": {}, "archiver": {"heard_at": pipeline.archiver_heard}}
    for component, part in (("annotator", health.annotator), ("archiver", health.archiver)):
        if part is not None:
            body: dict[str, Any] = {"component": component, **msgspec.to_builtins(part), **heard[component]}
            yield ReportedEvent(run=run, type=EventType.PIPELINE, body=body)


class _LogFigures:
    """How far the log has come, asked from one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kind = "SQLite" if settings.log.bootstrap_servers is None else "Kafka"
        self._reader: LogReader | None = None

    def told(self) -> Iterator[ReportedEvent]:
        """The records ever appended to the steps, or why the log does not answer."""
        body: dict[str, Any] = {"component": "log", "kind": self._kind}
        if self._settings.log.bootstrap_servers is not None:
            body["where"] = f"the brokers at {self._settings.log.bootstrap_servers}"
        try:
            reader = self._reader = self._reader or self._settings.log.open().reader()
            body["end"] = sum(reader.bounds(STEPS, number).end for number in range(reader.partitions(STEPS)))
            if reader.silent:
                body["problem"] = f"No broker answers at {self._settings.log.bootstrap_servers}."
        except (LogError, OSError) as error:
            body["problem"] = f"The log does not answer: {error}"[:300]
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        yield ReportedEvent(run=self._settings.run, type=EventType.PIPELINE, body=body)
