"""Servers and tokens for the tests of control."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control import ControlClient, FakeActor
from tests.control.servers import Served, ServedProcess

Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers with the settings given, and ends them."""
    made: list[Served] = []

    def start(**settings: Any) -> Served:
        made.append(Served(tmp_path / f"server{len(made)}", **settings))
        return made[-1]

    yield start
    for served in made:
        served.close()


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server with default settings at a free port."""
    return serve()


@pytest.fixture
def client(served: Served) -> ControlClient:
    """A client of that server that may operate."""
    return served.client


@pytest.fixture
def trainer(served: Served) -> Iterator[FakeActor]:
    """A fake trainer of the run `demo` that obeys everything."""
    with FakeActor(served.url, served.tokens.operate) as actor:
        yield actor


@pytest.fixture
def served_process(tmp_path: Path) -> Iterator[ServedProcess]:
    """A server as a process of its own."""
    process = ServedProcess(tmp_path)
    yield process
    process.close()
