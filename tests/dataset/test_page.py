"""The code of docs/dataset.md does what the page says."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import dataset
from tests.dataset.streams import json_copy

PAGE = Path(__file__).parents[2] / "docs" / "dataset.md"


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """What the page's blocks define."""
    names: dict[str, Any] = {"dataclass": dataclass, "islice": islice, "json": json, "Path": Path, **vars(dataset)}
    names["__name__"] = __name__
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    yield names
    names["register_source"].__globals__["_factories"].pop("table", None)


def test_the_page_s_source_is_read_and_resumed_without_loss_or_repetition(page: dict[str, Any], tmp_path: Path) -> None:
    written = [f"visit {number}" for number in range(40)]
    for part in range(2):
        lines = [json.dumps({"text": text}) + "\n" for text in written[part::2]]
        (tmp_path / f"{part}.jsonl").write_text("".join(lines))
    data = page["mixture"](tmp_path)
    trained = page["train"](data, 5)
    state = json_copy(data.state_dict())
    next(iter(dataset.MixtureLoader(data, 4, collate=lambda rows: {"rows": rows})))  # fetched, and never trained
    again = page["mixture"](tmp_path)
    again.load_state_dict(state)
    again.set_weights({"base": 0})
    trained += page["train"](again, (40 - sum("visit" in text for text in trained)) // 4)
    visits = [text for text in trained if text.startswith("visit")]
    assert len(visits) == len(set(visits)) > 36
    assert set(visits) <= set(written)
    data.close()
    again.close()


def test_a_line_that_is_half_written_is_read_once_it_is_whole(page: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    path.write_text('{"text": ')
    reader = page["Lines"](tmp_path).open(dataset.Share(), {})
    assert reader.poll() is None
    with path.open("a") as file:
        file.write('"whole"}\n')
    deadline = time.monotonic() + 30
    while (item := reader.poll()) is None:  # it looks again in a moment
        assert time.monotonic() < deadline
    assert item.sample == {"text": "whole"}
    reader.close()


def test_the_page_s_source_takes_no_more_than_twenty_lines() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (source,) = [block for block in blocks if "class Lines(" in block]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20


def test_the_page_s_kind_of_source_is_added_while_it_is_read(page: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text('{"text": "visit"}\n')
    data = page["mixture"](tmp_path)
    anew = data.reconstructed(sources={"more": {"kind": "table", "arguments": {"name": "faq"}, "weight": 5}})
    anew.load_state_dict(data.state_dict())
    assert any(text.startswith("faq") for text in page["train"](anew, 3))
