"""The lines of a commit: long contents go to disk, and a broken line is said to be one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publish.server import contents
from publish.server.contents import read_lines
from publish.server.repository import blob_oid, file_oid


def line(path: str, content: bytes) -> bytes:
    value = {"content": base64.b64encode(content).decode(), "path": path, "encoding": "base64"}
    return json.dumps({"key": "file", "value": value}).encode() + b"\n"


def read(body: bytes, scratch: Path) -> list[tuple[str, bytes]]:
    found = []
    for one in read_lines(io.BytesIO(body), scratch):
        value = json.loads(one.text)["value"]
        data = base64.b64decode(value["content"]) if one.content is None else one.content.read_bytes()
        if one.content is not None:
            assert value["content"] == ""
            assert one.digest.sha256 == hashlib.sha256(data).hexdigest()
            assert one.digest.size == len(data)
        found.append((value["path"], data))
    return found


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 400), max_size=6), short=st.integers(20, 200), piece=st.integers(1, 90))
def test_every_content_comes_out_as_it_went_in(
    sizes: list[int], short: int, piece: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = [(f"f{number}", bytes((number + at) % 256 for at in range(size))) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(contents, "SHORT", short)
        patched.setattr(contents, "PIECE", piece)
        assert read(b"".join(line(*file) for file in files), tmp_path_factory.mktemp("scratch")) == files


def test_a_large_content_takes_little_memory(tmp_path: Path) -> None:
    body = io.BytesIO(line("big", bytes(24 << 20)))
    tracemalloc.start()
    found = list(read_lines(body, tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0].digest.size == 24 << 20
    assert peak < 8 << 20
    assert found[0].content is not None
    assert file_oid(found[0].content) == blob_oid(bytes(24 << 20))


@pytest.mark.parametrize("cut", [100_000, 200_000])
def test_a_line_that_ends_in_its_content_or_is_no_base64_is_refused(tmp_path: Path, cut: int) -> None:
    whole = line("big", bytes(200_000))
    with pytest.raises(ValueError, match="ends within"):
        read(whole[:cut], tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="not base64"):
        read(whole.replace(b"AAAA", b"A*AA", 1), tmp_path / "other")
