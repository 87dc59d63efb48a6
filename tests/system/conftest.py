"""Services for these tests, each on a data folder of its own; whatever is left of one is ended with its test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.system.service import APP, Service

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny app's base model and base shards, made once."""
    sys.path.insert(0, str(APP))
    try:
        from thumbnail_training import write_base, write_base_shard
    finally:
        sys.path.remove(str(APP))
    folder = tmp_path_factory.mktemp("thumbnail")
    write_base(folder / "base")
    write_base_shard(folder / "shards")
    return folder


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
