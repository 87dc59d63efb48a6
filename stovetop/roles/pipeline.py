"""Annotator and archiver, and what they tell the control server of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from control import EventType
from control.api import ReportedEvent
from ingest.pipeline import Pipeline, PipelineSettings
from ingest.types import DEAD, SAMPLES, STEPS
from stovetop.play import stop_on_signals
from stovetop.reporting import Telling
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Annotate and archive until told to stop."""
    stop = stop_on_signals()
    pipeline = Pipeline(_knowing_ages(settings), settings.log.open(), settings.archive.open())
    with Telling(settings, lambda: _figures(pipeline, settings.run)):
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
    for component, part in (("annotator", health.annotator), ("archiver", health.archiver)):
        if part is not None:
            body: dict[str, Any] = {"component": component, **msgspec.to_builtins(part)}
            yield ReportedEvent(run=run, type=EventType.PIPELINE, body=body)
