"""The spool: on disk before anybody is told, in order, bounded, whole after a crash at any byte."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from ingest.errors import GatewayError, LogCorrupt, LogUnavailable, SpoolFull
from ingest.gateway import spool as spool_module
from ingest.gateway.outage import OutageProof
from ingest.gateway.spool import Spool
from ingest.log import Append
from ingest.memory import MemoryLog
from ingest.sessions import STATE_PREFIX, Batch, Opening, SessionIndex, SessionRules, digest_of
from ingest.types import EndReason, Step
from tests.ingest.gateways import seqs, shape


def append(number: int) -> Append:
    return Append("steps", 0, "session1", b"%d" % number, 1.0)


def numbers(spool: Spool) -> list[int]:
    return [int(entry.appends[0].value) for _, entry in spool.first(1 << 30)]


def test_what_was_put_comes_back_in_order_also_in_another_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    for number in range(5):
        spool.put([append(number)], {"a": b"x", "b": None})
    assert numbers(spool) == list(range(5))
    spool.close()
    spool = Spool(tmp_path, 1 << 20)
    assert numbers(spool) == list(range(5))
    assert spool.first(1)[0][1].state == {"a": b"x", "b": None}
    spool.forget(spool.first(1 << 20)[2][0])
    assert numbers(spool) == [3, 4]
    spool.put([append(5)], {})
    assert numbers(spool) == [3, 4, 5]
    spool.forget(1 << 40)
    assert spool.bytes == 0
    assert list(tmp_path.glob("*.spool")) == []
    spool.close()


def test_it_is_bounded_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000)
    spool.put([append(0)], {"pad": bytes(800)})
    with pytest.raises(SpoolFull, match="of at most 1000"):
        spool.put([append(1)], {"pad": bytes(800)})
    assert numbers(spool) == [0]
    spool.close()


def test_segments_go_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 200)
    spool = Spool(tmp_path, 1 << 20)
    for number in range(20):
        spool.put([append(number)], {"pad": bytes(60)})
    segments = len(list(tmp_path.glob("*.spool")))
    assert segments > 5
    spool.forget(10)
    assert len(list(tmp_path.glob("*.spool"))) < segments
    spool.close()
    assert numbers(Spool(tmp_path, 1 << 20)) == list(range(10, 20))


def test_a_torn_end_is_cut_off_and_damage_before_others_is_an_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    for number in range(4):
        spool.put([append(number)], {})
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    whole = path.read_bytes()
    size = len(whole) // 4
    for cut in {*random.sample(range(1, len(whole)), 20), len(whole) - 1}:
        path.write_bytes(whole[:cut])
        spool = Spool(tmp_path, 1 << 20)
        assert numbers(spool) == list(range(cut // size))
        spool.put([append(9)], {})
        assert numbers(spool)[-1] == 9
        spool.close()
        for each in tmp_path.glob("*.spool"):
            each.unlink()
    damaged = bytearray(whole)
    damaged[size + 20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LogCorrupt, match=f"the entry at byte {size} is damaged"):
        Spool(tmp_path, 1 << 20)


def test_a_second_gateway_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    with pytest.raises(GatewayError, match=r"log\.folder of its own"):
        Spool(tmp_path, 1 << 20)
    spool.close()


@pytest.mark.parametrize("committed", [False, True], ids=["lost", "taken"])
def test_the_commit_whose_fate_was_unknown_is_in_the_log_once(tmp_path: Path, committed: bool) -> None:
    log = MemoryLog()
    writer = log.writer("gateway")
    index = SessionIndex(SessionRules(1))
    draft = index.draft()
    draft.open(Opening("app", session_id="session-a"))
    writer.commit(draft.appends, draft.state())
    index.adopt(draft)

    spool = Spool(tmp_path, 1 << 20)
    proof = OutageProof(writer, spool)
    real, writer.commit = writer.commit, _failing(writer.commit, committed)  # type: ignore[method-assign]
    for first in (0, 3, 6):
        draft = index.draft()
        draft.append(_batch("session-a", first, 3))
        proof.commit(draft.appends, draft.state())
        index.adopt(draft)
        assert proof.spooling
    writer.commit = real  # type: ignore[method-assign]
    proof.drain()
    _until(lambda: not proof.spooling, proof)
    assert seqs(log, "session-a") == list(range(9))
    assert shape(log, "session-a")[0] == "opened"
    stored = writer.state(STATE_PREFIX)["session/session-a"]
    assert msgspec.msgpack.decode(stored)["next_seq"] == 9
    spool.close()


def test_ids_that_were_forgotten_meanwhile_stay_used(tmp_path: Path) -> None:
    log = MemoryLog()
    writer = log.writer("gateway")
    index = SessionIndex(SessionRules(1, ended_seconds=0.0))
    spool = Spool(tmp_path, 1 << 20)
    proof = OutageProof(writer, spool)
    real = writer.commit
    for name in ("session-a", "session-b", "session-c"):
        draft = index.draft()
        draft.open(Opening("app", session_id=name))
        draft.end(name, None, EndReason.CLIENT)
        proof.commit(draft.appends, draft.state())
        index.adopt(draft)
        draft = index.draft()
        assert draft.expire() == 1
        proof.commit(draft.appends, draft.state())
        index.adopt(draft)
        writer.commit = _failing(real, False)  # type: ignore[method-assign]
    writer.commit = real  # type: ignore[method-assign]
    _until(lambda: not proof.spooling, proof)
    again = SessionIndex(SessionRules(1), writer.state(STATE_PREFIX))
    assert all(name in again.forgotten for name in ("session-a", "session-b", "session-c"))
    spool.close()


def _failing(commit, taken: bool):  # type: ignore[no-untyped-def]
    calls: list[int] = []

    def fail(appends, state=None):  # type: ignore[no-untyped-def]
        calls.append(1)
        if taken and len(calls) == 1:
            commit(appends, state)
        raise LogUnavailable("no broker answers")

    return fail


def _batch(session_id: str, first: int, count: int) -> Batch:
    steps = tuple(Step(session_id, seq, 1.0, 2.0, {"x": seq}) for seq in range(first, first + count))
    return Batch(session_id, first, steps, tuple(map(digest_of, steps)), (10,) * count)


def _until(true, proof: OutageProof) -> None:  # type: ignore[no-untyped-def]
    import time

    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        proof.drain()
        time.sleep(0.01)
