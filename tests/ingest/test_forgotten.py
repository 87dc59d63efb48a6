"""An id that was used is never used again, however long ago that was."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.forgotten import CHUNK_BYTES, DIGEST_BYTES, Forgotten
from tests.ingest.gateways import running, seqs, step
from tests.waiting import until


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.text(min_size=1), min_size=1, max_size=5), max_size=8), st.integers(0, 600))
def test_what_was_added_is_found_also_after_a_restart_and_nothing_else_is(groups: list[list[str]], many: int) -> None:
    state: dict[str, bytes] = {}
    forgotten = Forgotten(state)
    for group in [*groups, [f"many-{number}" for number in range(many)], ["last"]]:
        key, value = forgotten.chunk(group)
        if value:
            state[key] = value
            forgotten.add(key, value)
    names = {name for group in groups for name in group} | {f"many-{number}" for number in range(many)} | {"last"}
    for known in (forgotten, Forgotten(state)):
        assert all(name in known for name in names)
        assert not any(f"other-{number}" in known for number in range(100))
    assert all(len(value) <= max(CHUNK_BYTES, 600 * DIGEST_BYTES) for value in state.values())


def test_a_forgotten_session_cannot_be_opened_again(tmp_path: Path) -> None:
    quick = {"ended_seconds": 0.1, "sweep_seconds": 0.05}
    with running(tmp_path, **quick) as gateway:
        for name in ("chosen-id-1", "chosen-id-2"):
            gateway.open(name)
            gateway.post(name, [step(0, is_eos=True)])
            until(lambda name=name: gateway.http.get(f"/v1/sessions/{name}").status_code == 404, "it is forgotten")  # type: ignore[misc]
        refused = gateway.http.post("/v1/sessions", json={"app": "desktop", "session_id": "chosen-id-1"})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:stovetop:problem:session-exists")
    with running(tmp_path, **quick) as gateway:
        for name in ("chosen-id-1", "chosen-id-2"):
            refused = gateway.http.post("/v1/sessions", json={"app": "desktop", "session_id": name})
            assert (refused.status_code, "ended long ago" in refused.json()["detail"]) == (409, True)
            assert seqs(gateway.log, name) == [0]
        gateway.open("chosen-id-3")
