"""The trainer's process: the app's recipe over the mixture of its sources."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from prometheus_client import CollectorRegistry, start_http_server

from control import Command, Report
from dataset import (
    HistorySource,
    InteractiveMixture,
    LiveSource,
    RemoteOptions,
    ShardSource,
    Source,
    make_interactive_dataset,
)
from ingest.plugins import load_plugin
from stovetop.errors import ConfigurationError
from stovetop.reporting import control_url
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings
from trainer import EmaSettings, Every, InteractiveSettings, train_run
from trainer.recipe import Recipe, TrainingContext

Decode = Callable[[Mapping[str, bytes]], Mapping[str, Any]]


def run(settings: Settings, begin_at: Path | None = None) -> None:
    """Train from where the run stands, until it is stopped. A run that begins at a checkpoint of another one publishes
    nothing."""
    data, make = made(settings)
    if settings.train.metrics_port is not None:
        registry = CollectorRegistry()
        registry.register(data.metrics)
        start_http_server(settings.train.metrics_port, "127.0.0.1", registry)
    control = interactive(settings)
    if begin_at is not None:
        alone = {"begin_at": begin_at, "outbox": None, "publish": Every()}
        control = control.model_copy(update=alone)
    sys.exit(train_run(make, control))


def repeat(settings: Settings, run: str, until: int | None) -> Sequence[tuple[Command, Report]]:
    """Train as the run of that name was trained, under the name that the settings give; returns what did not come off."""
    _, make = made(settings)
    alone = {"outbox": None, "publish": Every(), "checkpoint": Every()}
    trainer = make(interactive(settings).model_copy(update=alone))
    return list(trainer.replay(settings.runs / run, until).failed)


def made(settings: Settings) -> tuple[InteractiveMixture, Callable[[InteractiveSettings], Any]]:
    """The data, and what makes the app's trainer over it."""
    if settings.app.recipe is None:
        raise ConfigurationError("app.recipe is not set; name the app's training recipe as module:name")
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    recipe: Recipe = load_plugin(settings.app.recipe)
    data = mixture(settings)

    def make(control: InteractiveSettings) -> Any:
        return recipe(
            TrainingContext(
                data=data,
                control=control,
                folder=settings.runs / settings.run,
                seed=settings.mixture.seed,
                base_model=settings.app.base_model,
                options=settings.train.options,
            )
        )

    return data, make


def mixture(settings: Settings) -> InteractiveMixture:
    """The app's sources: `base` (where it has base shards), `history` behind `live`, and `live`."""
    decode: Decode | None = load_plugin(settings.app.to_tensors) if settings.app.to_tensors else None
    decoding: dict[str, Any] = {} if decode is None else {"decode": decode}
    archive, chosen = settings.archive.open_to_read(), settings.mixture
    sources: dict[str, Source] = {}
    if settings.app.base_shards is not None:
        kept = settings.archive
        remote = RemoteOptions(kept.endpoint, kept.region, kept.cache, kept.cache_bytes)
        sources["base"] = ShardSource(settings.app.base_shards, remote=remote, **decoding)
    sources["history"] = HistorySource(archive, **decoding)
    sources["live"] = LiveSource(
        settings.log.open(), archive=archive, max_lag=chosen.max_lag, max_age=chosen.max_lag_seconds, **decoding
    )
    return make_interactive_dataset(sources, chosen.weights, chosen.seed, workers=chosen.workers)


def interactive(settings: Settings) -> InteractiveSettings:
    """How the trainer is steered, and what it saves and publishes by itself."""
    chosen = settings.train
    return InteractiveSettings.model_validate(
        {
            "url": control_url(settings),
            "starts": False,  # the supervisor begins it, also after a crash; people use `stovetop start`
            "token": local_token(settings, Holder.ROLES),
            "run": settings.run,
            "folder": settings.runs / settings.run,
            "checkpoint": Every(seconds=chosen.checkpoint_seconds),
            "keep_checkpoints": chosen.keep_checkpoints,
            "publish": Every(seconds=chosen.publish_seconds),
            "outbox": settings.publish.outbox,
            "channel": settings.trained_to,
            "ema": None if chosen.ema_decay is None else EmaSettings(decay=chosen.ema_decay),
        }
    )
