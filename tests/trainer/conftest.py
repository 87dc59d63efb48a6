from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.trainings import Run


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., Run]:
    """Makes small trainings, each in a folder of its own unless one is named."""
    count = iter(range(100))

    def make(folder: Path | None = None, **given: Any) -> Run:
        return Run(folder or tmp_path / f"run-{next(count)}", **given)

    return make
