"""A live log and a mixture over it, for the trainings of these tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from dataset import InteractiveMixture, make_interactive_dataset
from ingest import SAMPLES, Annotated, Append, LogWriter, Sample, StepOutcome
from ingest.sqlite import SqliteLog
from tests.trainer.sentences import LENGTH, WORDS, Sentences


def words(members: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    """What the model takes, of a live sample."""
    number = json.loads(members["json"])["number"]
    row = (torch.arange(LENGTH) * (number + 3)) % WORDS
    return {"input_ids": row, "labels": row}


def key(number: int) -> str:
    """The key of the sample of that number."""
    return f"visit/{number:06d}-00"


def post(writer: LogWriter, numbers: Iterable[int], time: float = 1000.0) -> None:
    """Put samples into the log, one a record, on two partitions in turn."""
    appends = []
    for number in numbers:
        sample = Sample("visit", number, 0, time + number, {"json": json.dumps({"number": number}).encode()})
        record = Annotated("visit", (StepOutcome(number, 1),), (sample,))
        appends.append(Append(SAMPLES, number % 2, "visit", msgspec.msgpack.encode(record), time + number))
    writer.commit(appends)


def open_log(folder: Path) -> SqliteLog:
    """The log of a folder."""
    return SqliteLog(folder)


def mixture(log: SqliteLog, weights: Mapping[str, float] | None = None, **changes: Any) -> InteractiveMixture:
    """Made-up sentences and the live log."""
    sources: dict[str, Any] = {"base": Sentences(64), "live": log}
    return make_interactive_dataset(sources, weights or {"base": 0.5, "live": 0.5}, decode=either, **changes)


def either(element: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sentences as they are, and live samples decoded."""
    return words(element) if "json" in element else element
