"""The gateway's doors over real HTTP: what is taken, what is refused, and what a refusal says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ingest.types import SessionOpened, Step, StepsAppended
from tests.ingest.gateways import INGEST, READ, RunningGateway, running, seqs, shape, step, steps, stored, tar


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), max_step_bytes=50_000, max_body_bytes=200_000, max_steps=40) as it:
        yield it


def problem(reply: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert body["type"] == f"urn:stovetop:problem:{slug}"
    assert body["status"] == status
    assert body["retryable"] is (status in (408, 429) or status >= 500)
    assert body["request_id"] == reply.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_session_is_opened_recorded_and_told_its_limits(gateway: RunningGateway) -> None:
    reply = gateway.http.post("/v1/sessions", json={"app": "desktop", "metadata": {"screen": [64, 48], "fps": 15}})
    assert reply.status_code == 201
    body = reply.json()
    assert reply.headers["location"] == f"/v1/sessions/{body['session_id']}"
    assert (body["state"], body["next_seq"], body["durable_through"]) == ("open", 0, -1)
    assert body["limits"]["max_step_bytes"] == 50_000
    (opened,) = stored(gateway.log, body["session_id"])
    assert isinstance(opened, SessionOpened)
    assert (opened.app, opened.metadata) == ("desktop", {"screen": [64, 48], "fps": 15})
    assert abs(opened.time - time.time()) < 60


def test_ids_that_are_given_sort_by_time(gateway: RunningGateway) -> None:
    ids = []
    for _ in range(3):
        ids.append(gateway.open())
        time.sleep(0.002)  # the clock of the ids counts milliseconds
    assert ids == sorted(set(ids))


def test_opening_again_with_the_same_body_finds_the_session_as_it_is(gateway: RunningGateway) -> None:
    body = {"app": "desktop", "session_id": "chosen-by-app-1", "metadata": {"a": 1, "b": 2}}
    assert gateway.http.post("/v1/sessions", json=body).status_code == 201
    gateway.post("chosen-by-app-1", steps(0, 3))
    again = gateway.http.post("/v1/sessions", json={**body, "metadata": {"b": 2, "a": 1}})
    assert (again.status_code, again.json()["next_seq"]) == (200, 3)
    problem(gateway.http.post("/v1/sessions", json={**body, "metadata": {}}), 409, "session-exists")
    assert shape(gateway.log, "chosen-by-app-1") == ["opened", "steps"]


def test_an_idempotency_key_opens_once(gateway: RunningGateway) -> None:
    headers = {"Idempotency-Key": "key-1"}
    first = gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=headers)
    again = gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["session_id"] == again.json()["session_id"]
    other = gateway.http.post("/v1/sessions", json={"app": "other"}, headers=headers)
    problem(other, 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/app"),
        ({"app": "a b"}, "/app"),
        ({"app": "desktop", "session_id": "short"}, "/session_id"),
        ({"app": "desktop", "session_id": "x" * 65}, "/session_id"),
        ({"app": "desktop", "session_id": "with.a.dot"}, "/session_id"),
        ({"app": "desktop", "session_id": "__hidden__"}, "/session_id"),
        ({"app": "desktop", "metadata": [1]}, "/metadata"),
        ({"app": "desktop", "colour": "red"}, "/colour"),
        ({"app": "desktop", "metadata": {"n": 10**30}}, ""),
        ([1, 2], ""),
    ],
)
def test_an_opening_of_a_wrong_shape_says_where(gateway: RunningGateway, body: Any, pointer: str) -> None:
    refused = problem(gateway.http.post("/v1/sessions", json=body), 422, "schema-violation")
    assert refused["errors"][0]["pointer"] == pointer


# --- appending -------------------------------------------------------------------------------------------------------


def test_steps_come_back_from_the_log_as_they_were_posted(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    sent = [
        step(0, is_reset=True, model_version="000042"),
        step(1, inputs=None, mood="curious", nested={"list": [1, 2.5, None, "é"]}),
    ]
    reply = gateway.post(session_id, sent)
    assert reply.status_code == 200
    assert reply.json() == {"next_seq": 2, "accepted_through": 1, "durable_through": 1, "results": {"all": "ok"}}
    record = stored(gateway.log, session_id)[1]
    assert isinstance(record, StepsAppended)
    first, second = record.steps
    assert first == Step(
        session_id, 0, 1_763_800_000.0, first.received_at, {"x": 0, "y": 7}, is_reset=True, model_version="000042"
    )
    assert second.inputs is None
    assert second.extra == {"mood": "curious", "nested": {"list": [1, 2.5, None, "é"]}}
    assert abs(first.received_at - time.time()) < 60


def test_a_tar_brings_members_beside_each_step(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    body = tar(
        {
            "000000.json": b'{"seq": 0, "time": 1}',
            "000000.png": b"\x89PNG-0",
            "000001.left.npy": b"left",
            "000001.json": b'{"seq": 1, "time": 2}',
            "000002.json": b'{"seq": 2, "time": 3}',
        }
    )
    reply = gateway.post_body(session_id, body, 0, "application/x-tar")
    assert reply.json()["results"] == {"all": "ok"}
    record = stored(gateway.log, session_id)[1]
    assert isinstance(record, StepsAppended)
    assert [each.members for each in record.steps] == [{"png": b"\x89PNG-0"}, {"left.npy": b"left"}, {}]


def test_steps_that_come_again_are_duplicates_and_written_once(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    assert gateway.post(session_id, steps(0, 5)).json()["results"] == {"all": "ok"}
    again = gateway.post(session_id, steps(0, 5)).json()
    assert again == {"next_seq": 5, "accepted_through": 4, "durable_through": 4, "results": {"all": "duplicate"}}
    overlapping = gateway.post(session_id, steps(3, 7)).json()
    assert overlapping["results"] == {"3": "duplicate", "4": "duplicate", "5": "ok", "6": "ok"}
    assert seqs(gateway.log, session_id) == list(range(7))


def test_the_same_step_in_another_writing_is_no_conflict(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    gateway.post_body(session_id, b'{"seq":0,"time":1,"inputs":{"x":1,"y":2},"a":1}', 0)
    again = gateway.post_body(
        session_id, b'{ "a":1, "inputs":{"y":2, "x":1}, "time":1.0, "seq":0, "is_eos":false}\n', 0
    )
    assert again.json()["results"] == {"all": "duplicate"}
    as_tar = tar({"000000.json": b'{"seq":0,"time":1,"inputs":{"x":1,"y":2},"a":1}'})
    assert gateway.post_body(session_id, as_tar, 0, "application/x-tar").json()["results"] == {"all": "duplicate"}


def test_a_step_with_other_content_is_a_conflict_and_nothing_is_taken(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    gateway.post(session_id, steps(0, 3))
    changed = [step(2, inputs={"x": 99}), step(3)]
    body = problem(gateway.post(session_id, changed), 409, "step-conflict")
    assert (body["seq"], body["expected_seq"]) == (2, 3)
    body = problem(
        gateway.post_body(session_id, tar({"000000.json": b'{"seq":0,"time":1}'}), 0, "application/x-tar"),
        409,
        "step-conflict",
    )
    assert seqs(gateway.log, session_id) == [0, 1, 2]


def test_a_gap_is_refused_with_the_seq_to_go_on_from(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    gateway.post(session_id, steps(0, 3))
    assert problem(gateway.post(session_id, steps(5, 7)), 409, "sequence-gap")["expected_seq"] == 3
    assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 3


def test_a_session_of_many_steps_believes_what_is_too_long_ago(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    for first in range(0, 320, 40):
        assert gateway.post(session_id, steps(first, first + 40)).status_code == 200
    assert gateway.post(session_id, [step(0, inputs={"other": 1})]).json()["results"] == {"all": "duplicate"}
    problem(gateway.post(session_id, [step(319 - 255, inputs={"other": 1})]), 409, "step-conflict")


WRONG_STEPS = [
    ({"seq": 1, "time": 1}, "/1/seq"),
    ({"seq": "0", "time": 1}, "/1/seq"),
    ({"seq": True, "time": 1}, "/1/seq"),
    ({"time": 1}, "/1/seq"),
    ({"seq": 3}, "/1/time"),
    ({"seq": 3, "time": "now"}, "/1/time"),
    ({"seq": 3, "time": True}, "/1/time"),
    ({"seq": 3, "time": -1}, "/1/time"),
    ({"seq": 3, "time": 1_763_800_000_123}, "/1/time"),
    ({"seq": 3, "time": 1, "inputs": []}, "/1/inputs"),
    ({"seq": 3, "time": 1, "is_eos": 1}, "/1/is_eos"),
    ({"seq": 3, "time": 1, "is_reset": None}, "/1/is_reset"),
    ({"seq": 3, "time": 1, "model_version": 42}, "/1/model_version"),
    ({"seq": 3, "time": 1, "model_version": "v" * 200}, "/1/model_version"),
    ({"seq": 3, "time": 1, "big": 2**64}, "/1"),
    ([1], "/1"),
    ("text", "/1"),
    (None, "/1"),
]


@pytest.mark.parametrize(("wrong", "pointer"), WRONG_STEPS)
def test_a_step_of_a_wrong_shape_refuses_a_strict_request_and_says_where(
    gateway: RunningGateway, wrong: Any, pointer: str
) -> None:
    session_id = gateway.open()
    gateway.post(session_id, steps(0, 2))
    reply = gateway.post(session_id, [step(2), wrong], first_seq=2, prefer="respond-async, handling=strict")
    refused = problem(reply, 422, "schema-violation")
    assert refused["errors"][0]["pointer"] == pointer
    assert seqs(gateway.log, session_id) == [0, 1]


@pytest.mark.parametrize(("wrong", "pointer"), WRONG_STEPS)
def test_a_step_of_a_wrong_shape_keeps_its_place_and_does_not_block_its_neighbours(
    gateway: RunningGateway, wrong: Any, pointer: str
) -> None:
    session_id = gateway.open()
    gateway.post(session_id, steps(0, 2))
    reply = gateway.post(session_id, [step(2), wrong, step(4)], first_seq=2)
    if not isinstance(wrong, dict) or pointer.endswith("/seq"):
        problem(reply, 422, "schema-violation")  # it is not the step that it should be
        assert seqs(gateway.log, session_id) == [0, 1]
        return
    results = reply.json()["results"]
    assert (results["2"], results["4"]) == ("ok", "ok")
    assert results["3"]["result"] == "dead_letter"
    assert results["3"]["pointer"] == pointer.removeprefix("/1")
    assert results["3"]["detail"]
    assert gateway.post(session_id, [step(2), wrong, step(4)], first_seq=2).json()["results"]["3"] == results["3"]
    problem(gateway.post(session_id, [step(3)], first_seq=3), 409, "step-conflict")
    taken = [
        each for record in stored(gateway.log, session_id) if isinstance(record, StepsAppended) for each in record.steps
    ]
    assert [each.seq for each in taken] == [0, 1, 2, 3, 4]
    rejected = taken[3].rejected
    assert rejected is not None
    assert json.loads(rejected.original or b"") == wrong
    assert taken[4].rejected is None


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"",
        b"NaN",
        b'{"seq":0,"time":NaN}',
        b'{"seq":0,"time":1e999}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"a":"\\ud800"}',
    ],
)
def test_what_is_not_json_is_a_bad_request(gateway: RunningGateway, line: bytes) -> None:
    session_id = gateway.open()
    problem(gateway.post_body(session_id, line + b"\n" + line, 0), 400, "invalid-request")


def test_a_deeply_nested_step_is_a_dead_letter(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    for seq, depth, result in ((0, 25, "ok"), (1, 40, "dead_letter")):
        body = b'{"seq":%d,"time":1,"inputs":{"a":' % seq + b"[" * depth + b"]" * depth + b"}}"
        (found,) = gateway.post_body(session_id, body, seq).json()["results"].values()
        assert (found if isinstance(found, str) else found["result"]) == result


def test_a_wide_step_is_taken(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    assert gateway.post(session_id, [step(0, rows=[[n] for n in range(200)])]).status_code == 200


@pytest.mark.parametrize(
    "files",
    [
        {"000000.png": b"x"},
        {"000001.json": b'{"seq":1,"time":1}'},
        {"000000.json": b'{"seq":0,"time":1}', "000002.json": b'{"seq":2,"time":1}'},
        {"000001.json": b'{"seq":1,"time":1}', "000000.json": b'{"seq":0,"time":1}'},
        {"../000000.json": b"{}"},
        {"/etc/000000.json": b"{}"},
        {"000000": b"{}"},
        {"000000.JSON": b"{}"},
        {"000000.a__b": b"{}"},
        {"step.json": b"{}"},
        {f"000000.m{number}": b"" for number in range(20)},
        {},
    ],
    ids=lambda files: ",".join(files)[:40],
)
def test_a_tar_that_does_not_hold_the_steps_in_order_is_refused(
    gateway: RunningGateway, files: dict[str, bytes]
) -> None:
    session_id = gateway.open()
    problem(gateway.post_body(session_id, tar(files), 0, "application/x-tar"), 400, "invalid-request")
    assert seqs(gateway.log, session_id) == []


def test_a_member_that_comes_twice_is_refused(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    one = tar({"000000.json": b'{"seq":0,"time":1}', "000000.png": b"1"})[:-1024]
    two = tar({"000000.png": b"2"})
    refused = problem(gateway.post_body(session_id, one + two, 0, "application/x-tar"), 400, "invalid-request")
    assert refused["errors"][0]["code"] == "duplicate-member"


def test_limits_are_told_and_held(gateway: RunningGateway) -> None:
    limits = gateway.http.get("/v1/limits").json()
    assert (limits["max_body_bytes"], limits["max_step_bytes"], limits["max_steps"]) == (200_000, 50_000, 40)
    session_id = gateway.open()
    body = problem(gateway.post(session_id, [step(0, pad="x" * 60_000)]), 413, "step-too-large")
    assert body["limit"] == 50_000
    assert body["actual"] > 60_000
    body = problem(gateway.post_body(session_id, bytes(300_000), 0), 413, "body-too-large")
    assert (body["limit"], body["actual"]) == (200_000, 300_000)
    body = problem(gateway.post(session_id, steps(0, 41)), 413, "too-many-steps")
    assert (body["limit"], body["actual"]) == (40, 41)
    files = {f"{seq:06d}.json": b'{"seq":%d,"time":1}' % seq for seq in range(41)}
    problem(gateway.post_body(session_id, tar(files), 0, "application/x-tar"), 413, "too-many-steps")
    problem(
        gateway.http.post("/v1/sessions", json={"app": "a", "metadata": {"x": "y" * 70_000}}), 413, "body-too-large"
    )
    assert gateway.post(session_id, steps(0, 40)).status_code == 200


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(gateway: RunningGateway) -> None:
    session_id = gateway.open()

    def endless() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(10_000)

    headers = {"Content-Type": "application/x-ndjson", "Ingest-First-Seq": "0"}
    reply = gateway.http.post(f"/v1/sessions/{session_id}/steps", content=endless(), headers=headers)
    assert problem(reply, 413, "body-too-large")["limit"] == 200_000


def test_headers_are_checked(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    path, body = f"/v1/sessions/{session_id}/steps", b'{"seq":0,"time":1}'
    good = {"Content-Type": "application/x-ndjson; charset=utf-8", "Ingest-First-Seq": "0"}

    def send(**changed: str | None) -> httpx.Response:
        headers = {**good, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return gateway.http.post(path, content=body, headers={k: v for k, v in headers.items() if v is not None})

    problem(send(Ingest_First_Seq=None), 400, "missing-first-seq")
    for wrong in ("-1", "one", "1.0", "", "9" * 17, "9007199254740992"):
        problem(send(Ingest_First_Seq=wrong), 400, "invalid-request")
    problem(send(Content_Type="text/plain"), 415, "unsupported-media-type")
    problem(send(Content_Type=None), 415, "unsupported-media-type")
    refused = send(Content_Encoding="br")
    problem(refused, 415, "unsupported-encoding")
    assert refused.headers["accept-encoding"] == "gzip, zstd"
    assert send(Content_Encoding="identity").status_code == 200


# --- ending ----------------------------------------------------------------------------------------------------------


def test_a_step_with_is_eos_ends_the_session_and_its_request_may_come_again(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    batch = [step(0), step(1, is_eos=True)]
    assert gateway.post(session_id, batch).json()["results"] == {"all": "ok"}
    assert gateway.post(session_id, batch).json()["results"] == {"all": "duplicate"}
    assert problem(gateway.post(session_id, [step(2)]), 410, "session-closed")["next_seq"] == 2
    problem(gateway.post(session_id, [step(7)]), 410, "session-closed")
    state = gateway.http.get(f"/v1/sessions/{session_id}").json()
    assert (state["state"], state["ended"], state["next_seq"]) == ("ended", "eos", 2)
    assert shape(gateway.log, session_id) == ["opened", "steps", "ended:eos"]


def test_nothing_follows_the_end_within_a_request(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    body = problem(gateway.post(session_id, [step(0, is_eos=True), step(1)]), 422, "schema-violation")
    assert body["errors"][0]["code"] == "after-end"


def test_a_session_is_ended_once_when_all_its_steps_are_there(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    gateway.post(session_id, steps(0, 4))
    path = f"/v1/sessions/{session_id}/end"
    assert problem(gateway.http.post(path, json={"next_seq": 6}), 409, "sequence-gap")["expected_seq"] == 4
    for _ in range(2):
        reply = gateway.http.post(path, json={"next_seq": 4})
        assert (reply.status_code, reply.json()["ended"]) == (200, "client")
    assert gateway.http.post(path).status_code == 200
    assert shape(gateway.log, session_id) == ["opened", "steps", "ended:client"]


def test_a_session_that_nobody_opened_is_unknown(gateway: RunningGateway) -> None:
    problem(gateway.http.get("/v1/sessions/never-opened"), 404, "session-unknown")
    problem(gateway.post("never-opened", steps(0, 1)), 404, "session-unknown")
    problem(gateway.http.post("/v1/sessions/never-opened/end"), 404, "session-unknown")


# --- doors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/limits"),
        ("POST", "/v1/sessions"),
        ("GET", "/v1/sessions/some-session"),
        ("POST", "/v1/sessions/some-session/steps"),
        ("POST", "/v1/sessions/some-session/end"),
        ("GET", "/metrics"),
    ],
)
def test_no_door_opens_without_a_token_of_its_scope(gateway: RunningGateway, method: str, path: str) -> None:
    without = problem(gateway.bare.request(method, path), 401, "invalid-token")
    assert without["detail"].startswith("send the header")
    wrong = gateway.bare.request(method, path, headers={"Authorization": "Bearer wrong"})
    problem(wrong, 401, "invalid-token")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    token, needed = (INGEST, "read") if path == "/metrics" else (READ, "ingest")
    other = gateway.bare.request(method, path, headers={"Authorization": f"Bearer {token}"})
    assert problem(other, 403, "insufficient-scope")["required_scope"] == needed


def test_health_needs_no_token_and_metrics_count(gateway: RunningGateway) -> None:
    assert gateway.bare.get("/livez").json() == {"ready": True}
    assert gateway.bare.get("/readyz").json() == {"ready": True}
    session_id = gateway.open()
    headers = {"Authorization": f"Bearer {READ}"}
    before = _metric(gateway.bare.get("/metrics", headers=headers).text, 'ingest_steps_total{result="ok"}')
    gateway.post(session_id, steps(0, 7))
    text = gateway.bare.get("/metrics", headers=headers).text
    assert _metric(text, 'ingest_steps_total{result="ok"}') == before + 7
    assert _metric(text, "ingest_open_sessions") >= 1
    assert _metric(text, "ingest_inflight_bytes") == 0
    assert session_id not in text


def test_the_description_names_every_door_and_problems(gateway: RunningGateway) -> None:
    document = gateway.bare.get("/openapi.json").json()
    assert {"/v1/sessions", "/v1/sessions/{session_id}/steps", "/v1/limits", "/readyz"} <= document["paths"].keys()
    body = document["paths"]["/v1/sessions/{session_id}/steps"]["post"]["requestBody"]
    assert set(body["content"]) == {"application/x-tar", "application/x-ndjson"}
    assert "Problem" in document["components"]["schemas"]


def test_other_paths_and_methods_are_problems_too(gateway: RunningGateway) -> None:
    problem(gateway.http.get("/v2/sessions"), 404, "not-found")
    reply = gateway.http.delete("/v1/limits")
    problem(reply, 405, "method-not-allowed")
    assert reply.headers["allow"] == "GET"


def test_a_request_keeps_the_id_that_its_client_gave_it(gateway: RunningGateway) -> None:
    reply = gateway.http.get("/v1/sessions/never-opened", headers={"X-Request-Id": "trace-7"})
    assert problem(reply, 404, "session-unknown")["request_id"] == "trace-7"
    reply = gateway.http.get("/v1/limits", headers={"X-Request-Id": "not an id!"})
    assert reply.headers["x-request-id"] != "not an id!"


def test_concurrent_requests_for_one_session_are_taken_in_order_and_once(gateway: RunningGateway) -> None:
    session_id = gateway.open()
    outcomes: list[int] = []

    def post_all() -> None:
        with httpx.Client(base_url=gateway.url, headers=gateway.http.headers) as http:
            for first in range(0, 60, 3):
                body = b"\n".join(b'{"seq":%d,"time":1}' % seq for seq in range(first, first + 3))
                headers = {"Content-Type": "application/x-ndjson", "Ingest-First-Seq": str(first)}
                reply = http.post(f"/v1/sessions/{session_id}/steps", content=body, headers=headers)
                outcomes.append(reply.status_code)

    threads = [threading.Thread(target=post_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {200}
    assert seqs(gateway.log, session_id) == list(range(60))


def _metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))
