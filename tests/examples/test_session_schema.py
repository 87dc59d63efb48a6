"""The desktop's session schema says the same as its inputs do: what one takes, the other takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import examples.desktop
from examples.desktop.errors import InvalidInputs
from examples.desktop.inputs import Inputs
from ingest.schemas import SessionSchemas

FILE = Path(examples.desktop.__file__).parent / "session_schema.json"
SCHEMA = SessionSchemas({"desktop": str(FILE)}).get("desktop", "1")

KEYS = st.one_of(st.lists(st.text(max_size=34), max_size=18), st.none(), st.integers())
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "x": st.one_of(st.integers(-2, 40), st.text(max_size=2), st.booleans(), st.none()),
        "y": st.one_of(st.integers(-2, 30), st.just(1.5)),
        "is_left_click": st.one_of(st.booleans(), st.just("yes"), st.just(1)),
        "is_right_click": st.booleans(),
        "keys_down": KEYS,
        "keys_up": KEYS,
        "more": st.integers(),
    },
)


@given(st.one_of(INPUTS, st.none(), st.just([])))
def test_the_schema_and_the_inputs_agree(inputs: Any) -> None:
    assert SCHEMA is not None
    try:
        Inputs.parse(inputs)
        fits = True
    except InvalidInputs:
        fits = False
    found = SCHEMA.check({"seq": 0, "time": 1.0, "inputs": inputs})
    assert (found is None) == fits, (inputs, found)


@pytest.mark.parametrize(
    "step", [{"inputs": None, "is_reset": True}, {"is_reset": True}, {"inputs": {"x": 31, "y": 23}}]
)
def test_a_reset_needs_no_inputs(step: Mapping[str, Any]) -> None:
    assert SCHEMA is not None
    assert SCHEMA.check({"seq": 0, "time": 1.0, **step}) is None
