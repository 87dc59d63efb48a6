"""Whole sessions, put as one tar: streamed, resumable, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ingest.errors import InvalidBody
from ingest.ustar import Member, TarStream, archive, members
from tests.ingest.conftest import Run
from tests.ingest.gateways import INGEST, RunningGateway, running, seqs, shape, step, tar, tokens_in
from tests.waiting import until

OPENING = {"session.json": json.dumps({"app": "desktop", "metadata": {"fps": 15}}).encode()}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), max_step_bytes=20_000, max_steps=16) as it:
        yield it


def whole(first: int, end: int, opening: bool = True, pad: int = 0) -> bytes:
    files = dict(OPENING) if opening else {}
    for seq in range(first, end):
        files[f"{seq:06d}.json"] = json.dumps(step(seq)).encode()
        files[f"{seq:06d}.bin"] = bytes([seq % 256]) * (100 + pad)
    return tar(files)


def put(gateway: RunningGateway, session_id: str, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/x-tar", **headers}
    return gateway.http.put(f"/v1/sessions/{session_id}", content=body, headers=headers)


def test_a_whole_session_is_opened_taken_and_ended_by_one_call_that_may_come_again(gateway: RunningGateway) -> None:
    body = whole(0, 50)
    first = put(gateway, "whole-session-1", body)
    assert first.status_code == 201, first.text
    assert first.json() == {
        "session_id": "whole-session-1",
        "state": "ended",
        "next_seq": 50,
        "durable_through": 49,
        "ended": "client",
        "taken": 50,
        "duplicates": 0,
        "dead_letters": 0,
        "results": {},
    }
    again = put(gateway, "whole-session-1", body)
    assert (again.status_code, again.json()["taken"], again.json()["duplicates"]) == (200, 0, 50)
    assert seqs(gateway.log, "whole-session-1") == list(range(50))
    assert shape(gateway.log, "whole-session-1")[0] == "opened"
    assert shape(gateway.log, "whole-session-1").count("ended:client") == 1


def test_what_tar_and_webdataset_write_is_taken(gateway: RunningGateway) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name, content in {**OPENING, "000000.json": json.dumps(step(0, is_eos=True)).encode()}.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    reply = put(gateway, "whole-session-2", stream.getvalue())
    assert (reply.status_code, reply.json()["ended"]) == (201, "eos")


def test_a_broken_upload_is_resumed_by_the_same_call_or_by_the_rest(gateway: RunningGateway) -> None:
    body = whole(0, 60)
    for session_id, cut in (("whole-broken-1", len(body) // 2), ("whole-broken-2", len(body) // 3)):
        refused = put(gateway, session_id, body[:cut])
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["code"] == "truncated-tar"
        known = gateway.http.get(f"/v1/sessions/{session_id}").json()
        assert known["state"] == "open"
        assert 0 < known["next_seq"] < 60
        assert refused.json()["next_seq"] == known["next_seq"]
    assert put(gateway, "whole-broken-1", body).json()["next_seq"] == 60
    rest = put(gateway, "whole-broken-2", whole(known["next_seq"], 60), **{"Ingest-First-Seq": str(known["next_seq"])})
    assert (rest.json()["state"], rest.json()["taken"]) == ("ended", 60 - known["next_seq"])
    for session_id in ("whole-broken-1", "whole-broken-2"):
        assert seqs(gateway.log, session_id) == list(range(60))


def test_a_connection_that_breaks_off_leaves_what_came_and_the_call_is_made_again(gateway: RunningGateway) -> None:
    body, port = whole(0, 60), int(gateway.url.rpartition(":")[2])
    head = (
        "PUT /v1/sessions/whole-broken-3 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        f"Authorization: Bearer {INGEST}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        until(lambda: len(seqs(gateway.log, "whole-broken-3")) > 0, "some of it is durable")
    assert put(gateway, "whole-broken-3", body).json()["next_seq"] == 60
    assert seqs(gateway.log, "whole-broken-3") == list(range(60))


def test_a_session_that_is_open_needs_no_opening_and_steps_that_were_posted_count(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    gateway.post(session_id, [{**step(0)}])
    files = {f"{seq:06d}.json": json.dumps(step(seq)).encode() for seq in range(3)}
    reply = put(gateway, session_id, tar(files)).json()
    assert (reply["taken"], reply["duplicates"], reply["state"]) == (2, 1, "ended")


def test_faulty_steps_are_named_and_counted(gateway: RunningGateway) -> None:
    files = dict(OPENING)
    for seq in range(130):
        files[f"{seq:06d}.json"] = json.dumps(step(seq, **({"time": "no"} if seq else {}))).encode()
    reply = put(gateway, "whole-faulty", tar(files)).json()
    assert (reply["taken"], reply["dead_letters"], len(reply["results"])) == (130, 129, 100)
    assert reply["results"]["1"]["pointer"] == "/time"


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"000000.json": b'{"seq":0,"time":1}'}, 400, "missing-member"),
        ({**OPENING, "000001.json": b'{"seq":1,"time":1}'}, 400, "out-of-order"),
        ({"000000.json": b'{"seq":0,"time":1}', **OPENING}, 400, "out-of-order"),
        ({**OPENING, "000000.png": b"x"}, 400, "missing-member"),
        ({**OPENING, "000000.json": b"{"}, 400, "invalid-json"),
        ({**OPENING, "000000.json": b'{"seq":1,"time":1}'}, 422, "wrong-seq"),
        ({**OPENING, "000000.json": b'{"seq":0,"time":1}', "000000.big": bytes(30_000)}, 400, "member-too-large"),
        ({"session.json": b"{}"}, 422, "missing"),
        ({"session.json": b"["}, 400, "invalid-json"),
        ({**OPENING, "sub/000000.json": b"{}"}, 400, "invalid-name"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_tar_that_is_no_session_is_refused(
    gateway: RunningGateway, files: dict[str, bytes], status: int, code: str
) -> None:
    reply = put(gateway, f"whole-wrong-{status}-{code}-{len(files)}", tar(files))
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (status, code)


def test_a_whole_session_is_only_a_tar_and_needs_a_token(gateway: RunningGateway) -> None:
    reply = gateway.http.put("/v1/sessions/whole-1", content=b"{}", headers={"Content-Type": "application/x-ndjson"})
    assert reply.status_code == 415
    assert gateway.bare.put("/v1/sessions/whole-1", content=b"").status_code == 401


def test_an_encoded_tar_is_taken_too(gateway: RunningGateway) -> None:
    reply = put(gateway, "whole-gzip", gzip.compress(whole(0, 40)), **{"Content-Encoding": "gzip"})
    assert reply.json()["next_seq"] == 40


def test_a_session_of_many_times_the_budget_passes_through_little_memory(tmp_path: Path, run_program: Run) -> None:
    tokens_in(tmp_path)
    limits = {"port": 0, "budget_bytes": 12 << 20, "max_session_bytes": 1 << 30}
    process = run_program("run_gateway", tmp_path, json.dumps(limits))
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    resident = psutil.Process(process.pid).memory_info
    before, peak = resident().rss, 0

    def body() -> Iterator[bytes]:
        nonlocal peak
        yield tar(OPENING)[:-1024]
        for seq in range(200):
            content = json.dumps(step(seq)).encode()
            yield archive([Member(f"{seq:06d}.json", content), Member(f"{seq:06d}.bin", bytes(600_000))])[:-1024]
            peak = max(peak, resident().rss)
        yield bytes(1024)

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {INGEST}"}, timeout=60) as http:
        headers = {"Content-Type": "application/x-tar"}
        reply = http.put("/v1/sessions/whole-large-1", content=body(), headers=headers)
        assert (reply.status_code, reply.json()["next_seq"]) == (201, 200), reply.text
    assert peak - before < 60 << 20, "120 MB went through"


def test_in_pieces_of_any_size_a_tar_reads_the_same() -> None:
    body = whole(0, 5)
    expected = list(members(body, 100))
    for size in (1, 7, 511, 512, 513, 5_000, len(body)):
        stream = TarStream(10_000)
        found = [each for start in range(0, len(body), size) for each in stream.feed(body[start : start + size])]
        stream.finish()
        assert found == expected
    for cut in (0, 100, 512, len(body) - 1025, len(body) - 1, len(body) - 512):
        stream = TarStream(10_000)
        list(stream.feed(body[:cut]))
        with pytest.raises(InvalidBody, match="ends"):
            stream.finish()
    stream = TarStream(10_000)
    list(stream.feed(body))
    with pytest.raises(InvalidBody, match="follows"):
        list(stream.feed(b"x"))
