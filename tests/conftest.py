"""Servers that tests of several rooms share, started once a run when the first test asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import s3_servers


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """An S3 service that honours conditional writes."""
    with s3_servers.credentials(), s3_servers.moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def juicefs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 service that ignores conditional writes."""
    with s3_servers.credentials(), s3_servers.juicefs_server(tmp_path_factory.mktemp("juicefs")) as endpoint:
        yield endpoint
