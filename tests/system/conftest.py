"""Services for these tests, each on a data folder of its own; whatever is left of one is ended with its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.system.service import Service, packaged

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny app's base model and base shards, made once."""
    return packaged(tmp_path_factory.mktemp("thumbnail"))


@pytest.fixture(scope="module")
def make_service(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeService]:
    """Makes services that are not up yet."""
    made: list[Service] = []

    def make(environment: Mapping[str, str] | None = None) -> Service:
        made.append(Service(tmp_path_factory.mktemp("service"), base, environment))
        return made[-1]

    yield make
    for service in made:
        service.close()
