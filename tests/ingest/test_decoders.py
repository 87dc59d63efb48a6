"""Decoders are made at import: msgspec takes a type apart when it is met first, which two threads must not do at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ingest

SOURCES = sorted(Path(ingest.__file__).parent.rglob("*.py"))


def typed_decodings(source: Path) -> list[int]:
    """The lines where `msgspec.….decode(…, type=…)` takes a type apart when it is called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("msgspec.msgpack.decode", "msgspec.json.decode", "msgspec.convert")
        and any(keyword.arg == "type" for keyword in node.keywords)
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(SOURCES[0].parent).as_posix())
def test_no_type_is_taken_apart_by_the_thread_that_meets_it_first(source: Path) -> None:
    assert typed_decodings(source) == []
