"""What the gateway's OpenAPI document says beyond what the framework finds out by itself."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel

from ingest.gateway.replies import Consent
from ingest.gateway.wire import NDJSON, TAR

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; see `type`", "content": PROBLEM},
    "5XX": {"description": "Not now; send the same again after Retry-After", "content": PROBLEM},
}

_STEP = {
    "seq": 0,
    "time": 1763800000.123,
    "inputs": {"x": 31, "y": 7, "is_left_click": True, "is_right_click": False, "keys_down": [], "keys_up": []},
    "model_version": "000042",
}
EXAMPLES: dict[str, Any] = {
    "OpenSession": {"app": "desktop", "metadata": {"screen": [64, 48], "fps": 15}},
    "EndSession": {"next_seq": 130},
    "MintToken": {"session_id": "0198f1d2a3b47c5d8e9f0a1b2c3d4e5f", "seconds": 600},
}

STEPS_BODY: dict[str, Any] = {
    "parameters": [
        {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "handling=strict"},
        {"name": "traceparent", "in": "header", "schema": {"type": "string"}},
    ],
    "requestBody": {
        "required": True,
        "description": "The steps Ingest-First-Seq, Ingest-First-Seq + 1, …: one JSON object a line, or a tar in"
        " WebDataset layout (000120.json beside 000120.png …).",
        "content": {
            NDJSON: {"schema": {"type": "string"}, "example": msgspec.json.encode(_STEP).decode()},
            TAR: {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
WHOLE_BODY: dict[str, Any] = {
    "parameters": [{"name": "traceparent", "in": "header", "schema": {"type": "string"}}],
    "requestBody": {
        "required": True,
        "description": "A tar in WebDataset layout with all steps from Ingest-First-Seq (0) on; its first member may be"
        " session.json, what POST /v1/sessions takes, for a session that is not open yet.",
        "content": {TAR: {"schema": {"type": "string", "format": "binary"}}},
    },
}


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """Bodies are read by hand, within the budget; so the framework has to be told what they are."""
    content = {"schema": model.model_json_schema(ref_template="#/components/schemas/{model}"), "example": {}}
    content["schema"].pop("$defs", None)
    content["example"] = EXAMPLES[model.__name__]
    return {"requestBody": {"content": {"application/json": content}}}


def describe(app: FastAPI) -> None:
    """Add the problem's own schema, and the models that only bodies name."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            generate()["components"]["schemas"].update(_schemas())
        return generate()

    app.openapi = described  # type: ignore[method-assign]


def _schemas() -> dict[str, Any]:
    return {"Problem": _PROBLEM, "Consent": Consent.model_json_schema()}


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; `retryable` says whether the same bytes may succeed later.",
    "required": ["type", "title", "status", "detail", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string"},
        "expected_seq": {"type": "integer"},
        "seq": {"type": "integer"},
        "limit": {"type": "number"},
        "actual": {"type": "integer"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
    "example": {
        "type": "urn:stovetop:problem:sequence-gap",
        "title": "Steps are missing before those that were sent",
        "status": 409,
        "detail": "session '0198f1d2…' goes on at seq 130, but 140 was sent",
        "instance": "/v1/sessions/0198f1d2…/steps",
        "retryable": False,
        "expected_seq": 130,
        "request_id": "5f1d9c0a7b3e2846",
    },
}
