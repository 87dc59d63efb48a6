"""The gateway against its own description: whatever that allows or forbids is answered, as described, and never by 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.ingest.gateways import INGEST, READ, RunningGateway, running, seqs, steps, stored

EXAMPLES, MANY = 5, 300
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


@schemathesis.serializer("application/x-tar", "application/x-ndjson")
def as_it_is(context: Any, value: Any) -> bytes:
    """Bodies of these types are bytes, or what somebody takes for such."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), max_open_sessions=10**6) as it:
        yield it


def conforms(gateway: RunningGateway, examples: int) -> int:
    """Ask every operation so many things, half of them wrong; returns how many operations there are."""
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    session_id, count = gateway.open(), 0
    gateway.post(session_id, steps(0, 3))
    for found in schema.get_all_operations():
        operation = found.ok()
        token = READ if operation.path == "/metrics" else INGEST
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation, mode, token, session_id, examples)
        count += 1
    return count


def _ask(operation: Any, mode: GenerationMode, token: str, session_id: str, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        if known and "session_id" in (case.path_parameters or {}):
            case.path_parameters["session_id"] = session_id
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS, timeout=30)

    try:
        ask()
    except Exception as error:
        if type(error).__name__ != "Unsatisfiable":  # there is nothing that it forbids
            raise


def test_every_operation_keeps_to_its_description(gateway: RunningGateway) -> None:
    assert conforms(gateway, EXAMPLES) >= 12
    _all_is_well(gateway)


@pytest.mark.soak
def test_every_operation_keeps_to_its_description_for_long(tmp_path: Path) -> None:
    with running(tmp_path, max_open_sessions=10**6) as gateway:
        conforms(gateway, MANY)
        _all_is_well(gateway)


def _all_is_well(gateway: RunningGateway) -> None:
    assert gateway.bare.get("/readyz").json() == {"ready": True}
    for session_id in {record.session_id for record in stored(gateway.log)}:
        found = seqs(gateway.log, session_id)
        assert found == list(range(len(found)))


def test_the_examples_of_the_description_are_taken(gateway: RunningGateway) -> None:
    paths = gateway.bare.get("/openapi.json").json()["paths"]
    opened = gateway.http.post("/v1/sessions", json=_example(paths, "/v1/sessions"))
    assert opened.status_code == 201
    session_id = opened.json()["session_id"]
    lines = paths["/v1/sessions/{session_id}/steps"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    assert gateway.post_body(session_id, lines["example"].encode(), 0).json()["results"] == {"all": "ok"}
    minted = gateway.http.post("/v1/tokens", json={**_example(paths, "/v1/tokens"), "session_id": session_id})
    assert minted.status_code == 201
    end = {**_example(paths, "/v1/sessions/{session_id}/end"), "next_seq": 1}
    assert gateway.http.post(f"/v1/sessions/{session_id}/end", json=end).status_code == 200


def _example(paths: dict[str, Any], path: str) -> dict[str, Any]:
    example: dict[str, Any] = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
    return example
