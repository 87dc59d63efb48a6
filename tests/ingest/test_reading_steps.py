"""A plain step is read on a short way: it must say the same as the long one, of whatever comes."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.errors import IngestError
from ingest.gateway.wire import MAX_DEPTH, Rules, WireStep, batch_of
from ingest.schemas import SessionSchema
from ingest.sessions import Batch
from ingest.settings import GatewaySettings

LONG_WAY = Rules(GatewaySettings(), SessionSchema("desktop", "1", {}))
SHORT_WAY = Rules(GatewaySettings())

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
said = st.fixed_dictionaries(
    {"seq": st.just(7) | anything, "time": st.floats(0, 2e11) | anything},
    optional={
        "inputs": st.dictionaries(st.text(max_size=3), anything, max_size=4) | anything,
        "is_reset": st.booleans() | anything,
        "is_eos": st.booleans() | anything,
        "model_version": st.text(max_size=4) | anything,
        "note": anything,
    },
)


def read(text: bytes, rules: Rules, **members: bytes) -> Batch | str:
    try:
        batch = batch_of([WireStep("/0", text, members)], "session-1", 7, rules)
    except IngestError as error:
        return f"{type(error).__name__}: {error}"
    steps = tuple(msgspec.structs.replace(step, received_at=0.0) for step in batch.steps)
    if steps[0].rejected is not None:  # its time is when it came
        steps = (msgspec.structs.replace(steps[0], time=0.0),)
    return msgspec.structs.replace(batch, steps=steps)


@given(said)
@example({"seq": 7, "time": 1})
@example({"seq": 7, "time": 1e11})
@example({"seq": 7, "time": math.nextafter(1e11, 0)})
@example({"seq": 7, "time": -1})
@example({"seq": 7.0, "time": 1.0})
@example({"seq": 7, "time": True})
@example({"seq": 7, "time": 1.0, "inputs": {"id": 2**64}})
@example({"seq": 7, "time": 1.0, "inputs": {"id": 2**64 - 1, "to": -(2**63)}})
@example({"seq": 7, "time": 1.0, "model_version": "v" * 128})
@example({"seq": 7, "time": 1.0, "model_version": "v" * 129})
def test_both_ways_take_the_same_of_a_step(step: dict[str, Any]) -> None:
    text = json.dumps(step).encode()
    assert read(text, SHORT_WAY) == read(text, LONG_WAY)
    assert read(text, SHORT_WAY, png=b"frame") == read(text, LONG_WAY, png=b"frame")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"seq": 7, "time": 1, "seq": 7}',
        b'{"seq": 7, "time": 1, "seq": 8}',
        b'{"seq": 7, "time": 1e999}',
        b'{"seq": 7, "time": NaN}',
        b'{"seq": 7, "time": 1, "inputs": {"text": "\xff"}}',
        b'{"seq": 7, "time": 1, "inputs": {"text": "\\ud800"}}',
        b'{"seq": 7, "time": 1} ',
        b'{"seq": 7, "time": 1} x',
        b'{"seq": 7, "time": 1, "inputs": {"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}}",
        b'{"seq": 7, "time": 1, "inputs": {"a": ' + b"[" * 99 + b"]" * 99 + b"}}",
        b'{"seq": 7, "time": 1, "inputs": {"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        b'{"seq": 7, "time": 1, "inputs": {"brackets": "' + b"[{" * 99 + b'"}}',
    ],
)
def test_both_ways_say_the_same_of_a_text_that_is_odd(text: bytes) -> None:
    assert read(text, SHORT_WAY) == read(text, LONG_WAY)
