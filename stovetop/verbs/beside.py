"""The settings of a run that is trained beside the running service."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from stovetop.doors import Doors
from stovetop.settings import Settings, load_settings


def beside(config: Path | None, run: str) -> Settings:
    """The settings with another run, at the control server that is there: `up` may have taken another port."""
    settings = load_settings(config, run=run)
    there = urlsplit(Doors.read(settings).control)
    control = settings.control.model_copy(update={"host": there.hostname or "127.0.0.1", "port": there.port})
    train = settings.train.model_copy(update={"metrics_port": None})
    return settings.model_copy(update={"control": control, "train": train})
