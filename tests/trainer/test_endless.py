"""A run that goes on and on keeps to its bounds: memory, events, the Trainer's own history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from auth import Scope, TokenStore
from control import ControlClient, ControlSettings, EventType
from control.server import ControlThread
from tests.trainer.trainings import Run
from tests.waiting import until
from trainer.callback import KEPT_LOG_HISTORY

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]


def test_thousands_of_steps_take_no_more_memory_than_a_thousand(training: Callable[..., Run], tmp_path: Path) -> None:
    tokens = TokenStore(tmp_path / "tokens.json")
    secret = tokens.mint("operator", [Scope.OPERATE])
    bounds = ControlSettings(port=0, data=tmp_path / "control", keep_metrics=1000, keep_passing=1000)
    with ControlThread(bounds, tokens) as server, ControlClient(server.url, secret) as client:
        run = training(
            max_steps=6000,
            logging_strategy="steps",
            logging_steps=1,
            settings={
                "url": server.url,
                "token": secret,
                "run": "long",
                "checkpoint": {"steps": 500},
                "keep_checkpoints": 2,
            },
        )
        run.trainer._given_link = None
        used: dict[int, int] = {}
        for step in (2000, 6000):
            run.at(step, lambda step=step: used.update({step: psutil.Process().memory_info().rss}))  # type: ignore[misc]
        run.train()
        assert used[6000] - used[2000] < 32 << 20
        assert len(run.trainer.state.log_history) <= KEPT_LOG_HISTORY
        assert len(run.trainer.steering.checkpoints.all()) == 2
        assert len(run.trainer.accelerator._dataloaders) <= 1

        def thinned() -> bool:
            page = client.history(0, run="long", types=[EventType.METRICS], limit=5000)
            return not page.more and len(page.events) < 2500

        until(thinned, seconds=300)
        (loss,) = client.series("long", ["loss"], points=5000).series
        assert (loss.steps[-1], len(loss.steps) > 1000) == (6000, True)
