"""Decoders are made at import: msgspec takes a type apart when it is met first, which two threads must not do at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stovetop

ROOT = Path(stovetop.__file__).parents[1]
ROOMS = ("auth", "control", "dataset", "ingest", "publish")
"""Those where several threads decode."""
SOURCES = sorted(
    source for room in ROOMS for source in (ROOT / room).rglob("*.py") if "node_modules" not in source.parts
)


def typed_decodings(source: Path) -> list[int]:
    """The lines where `msgspec.….decode(…, type=…)` takes a type apart when it is called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("msgspec.msgpack.decode", "msgspec.json.decode", "msgspec.convert")
        and any(keyword.arg == "type" for keyword in node.keywords)
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(ROOT).as_posix())
def test_no_type_is_taken_apart_by_the_thread_that_meets_it_first(source: Path) -> None:
    assert typed_decodings(source) == []
