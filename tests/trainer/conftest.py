from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auth import Scope, TokenStore
from control import ControlClient, ControlSettings
from control.server import ControlThread
from tests.trainer.trainings import Run


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., Run]:
    """Makes small trainings, each in a folder of its own unless one is named."""
    count = iter(range(100))

    def make(folder: Path | None = None, **given: Any) -> Run:
        return Run(folder or tmp_path / f"run-{next(count)}", **given)

    return make


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ControlClient]:
    """A client of a control server of the test's own, with a token that may operate."""
    tokens = TokenStore(tmp_path / "tokens.json")
    secret = tokens.mint("operator", [Scope.OPERATE])
    with (
        ControlThread(ControlSettings(port=0, data=tmp_path / "control"), tokens) as server,
        ControlClient(server.url, secret) as client,
    ):
        yield client
