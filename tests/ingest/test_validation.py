"""A step with a fault: told at once, kept with the reason, fed to no annotator, and in nobody's way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from auth.tokens import Scope
from ingest.annotator import Members
from ingest.annotator_state import annotator_progress
from ingest.annotator_worker import AnnotatorWorker
from ingest.dead_letters import DeadLetters
from ingest.entries import record_entries, record_of
from ingest.errors import PluginError, SchemaError
from ingest.log import Log
from ingest.records import annotated
from ingest.schemas import SessionSchema, SessionSchemas
from ingest.types import Rejection, Step, StepOutcome, StepsAppended
from tests.ingest.gateways import RunningGateway, running, shape, step, stored, tar, tokens_in

OPERATE = "secret-of-operate"
SCREEN = {
    "version": "1",
    "type": "object",
    "properties": {
        "inputs": {
            "type": ["object", "null"],
            "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 31}, "y": {"type": "integer"}},
            "required": ["x", "y"],
        }
    },
}
WIDE = {**SCREEN, "version": "2", "properties": {"inputs": {"properties": {"x": {"maximum": 63}}}}}
BOTH = [SCREEN, WIDE]


def schemas(folder: Path, *documents: Any) -> dict[str, str]:
    path = folder / "schema.json"
    path.write_text(json.dumps(documents if len(documents) > 1 else documents[0]))
    return {"desktop": str(path)}


class Noting:
    """An annotator that says which steps it was given."""

    def on_step(self, step: Step) -> Iterable[Members]:
        yield {"seq": str(step.seq).encode()}

    def on_end(self) -> Iterable[Members]:
        yield {"end": b""}


class CaughtUp(threading.Event):
    """Set once every step has its outcome, durably."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log, self._deadline = log, time.monotonic() + 20

    def is_set(self) -> bool:
        assert time.monotonic() < self._deadline, "not annotated in time"
        progress = annotator_progress(self._log)
        with closing(self._log.reader()) as reader:
            ends = [reader.bounds("steps", partition).end for partition in range(4)]
        return all(
            not end or (place in progress and progress[place].done >= (end, 0)) for place, end in enumerate(ends)
        )


def annotate(log: Log) -> None:
    AnnotatorWorker(log, Noting).run(CaughtUp(log))


def test_a_step_that_breaks_its_schema_is_told_and_the_rest_is_taken(tmp_path: Path) -> None:
    with running(tmp_path, schemas=schemas(tmp_path, SCREEN)) as gateway:
        session_id = gateway.open()
        sent = [step(0), step(1, inputs={"x": 99, "y": 1}), step(2, inputs=None), step(3, inputs={"x": 1})]
        reply = gateway.post(session_id, sent)
        assert reply.status_code == 200
        body = reply.json()
        assert (body["next_seq"], body["durable_through"]) == (4, 3)
        assert body["results"] == {
            "0": "ok",
            "1": {
                "result": "dead_letter",
                "reason": "maximum",
                "pointer": "/inputs/x",
                "detail": "99 is greater than the maximum of 31",
                "schema": "desktop/1",
            },
            "2": "ok",
            "3": {
                "result": "dead_letter",
                "reason": "required",
                "pointer": "/inputs",
                "detail": '"y" is a required property',
                "schema": "desktop/1",
            },
        }
        again = gateway.post(session_id, sent).json()["results"]
        assert (again["0"], again["1"]["result"]) == ("duplicate", "dead_letter"), "the first answer may have been lost"
        strict = gateway.post(session_id, [step(4, inputs={"x": -1, "y": 1})], prefer="handling=strict")
        assert (strict.status_code, strict.json()["errors"][0]["pointer"]) == (422, "/0/inputs/x")
        assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == 4


def test_each_faulty_step_gets_one_dead_outcome_and_its_neighbours_their_samples(tmp_path: Path) -> None:
    with running(tmp_path, schemas=schemas(tmp_path, SCREEN)) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, [step(0, inputs={"x": 99, "y": 1}), step(1), step(2, time="never", is_reset=True)])
        gateway.post(session_id, [step(3), step(4, inputs={"x": -1, "y": 0}), step(5)])
        body = tar({"000006.json": b'{"seq":6,"time":1,"inputs":{}}', "000006.png": b"\x89PNG"})
        gateway.post_body(session_id, body, 6, "application/x-tar")
        gateway.http.post(f"/v1/sessions/{session_id}/end")
        log = gateway.log
        annotate(log)
        outcomes, samples = _annotated(gateway)
        assert outcomes == [
            StepOutcome(0, 0, dead=True),
            StepOutcome(1, 1),
            StepOutcome(2, 1, dead=True),  # it is a reset, so the episode before it ended with it
            StepOutcome(3, 1),
            StepOutcome(4, 0, dead=True),
            StepOutcome(5, 1),
            StepOutcome(6, 0, dead=True),
        ]
        assert samples == [(1, "seq"), (2, "end"), (3, "seq"), (5, "seq"), (7, "end")]
        letters = sorted((letter for _, letter in DeadLetters(log).latest()), key=lambda letter: letter.step.seq)
        assert [letter.step.seq for letter in letters] == [0, 2, 4, 6]
        assert letters[0].problem == "maximum at /inputs/x: 99 is greater than the maximum of 31"
        assert letters[1].step.rejected == Rejection(
            "not-a-number",
            "Unix seconds are wanted, not a string",
            "/time",
            original=json.dumps(step(2, time="never", is_reset=True)).encode(),
        )
        assert letters[3].step.members == {"png": b"\x89PNG"}


def test_a_faulty_first_step_of_a_session_does_not_hide_its_beginning(tmp_path: Path) -> None:
    """Also not when the annotator starts over in the middle of the episode."""
    with running(tmp_path, schemas=schemas(tmp_path, SCREEN)) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, [step(0, inputs={}), step(1), step(2, inputs={})])
        annotate(gateway.log)
        gateway.post(session_id, [step(3, inputs={}), step(4, is_eos=True)])
        annotate(gateway.log)
        outcomes, samples = _annotated(gateway)
        assert [(each.seq, each.samples, each.dead) for each in outcomes] == [
            (0, 0, True),
            (1, 1, False),
            (2, 0, True),
            (3, 0, True),
            (4, 1, False),
        ]
        assert samples == [(1, "seq"), (4, "seq"), (5, "end")]


def test_a_retry_feeds_what_broke_only_the_schema_and_never_what_cannot_be_read(tmp_path: Path) -> None:
    with running(tmp_path, schemas=schemas(tmp_path, SCREEN)) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, [step(0), step(1, inputs={"x": 99, "y": 1}), step(2, time="never"), step(3)])
        annotate(gateway.log)
        headers = {"Authorization": f"Bearer {OPERATE}"}
        tokens_in(tmp_path).add("operator", [Scope.OPERATE], OPERATE)
        listed = gateway.bare.get("/v1/admin/dead-letters", headers=headers).json()["letters"]
        assert {letter["seq"]: letter["rejected"]["reason"] for letter in listed} == {1: "maximum", 2: "not-a-number"}
        for letter in listed:
            retried = gateway.bare.post(f"/v1/admin/dead-letters/{letter['id']}/retry", headers=headers)
            assert retried.status_code in (200, 202), retried.text
        annotate(gateway.log)
        outcomes, samples = _annotated(gateway)
        assert sorted((each.seq, each.samples, each.dead) for each in outcomes[4:]) == [(1, 1, False), (2, 0, True)]
        assert sorted(samples) == [(0, "seq"), (1, "seq"), (3, "seq")]


def test_a_rejection_quotes_no_keys_where_only_their_classes_are_kept(tmp_path: Path) -> None:
    strict = {"properties": {"inputs": {"properties": {"keys_down": {"items": {"maxLength": 3}}}}}}
    kept = {"keyboard": {"default": "classes"}, "schemas": schemas(tmp_path, strict)}
    with running(tmp_path, **kept) as gateway:
        session_id = gateway.open()
        keys = {"keys_down": ["hunter2", "Q"], "text": "hunter2"}
        sent = [step(0, inputs=keys), step(1, inputs=keys, time="never"), step(2, inputs="hunter2")]
        told = gateway.post(session_id, sent).json()["results"]
        assert "hunter2" in told["0"]["detail"], "the client may read its own"
        (record,) = [record for record in stored(gateway.log, session_id) if isinstance(record, StepsAppended)]
        assert "hunter2" not in str(record)
        assert record.steps[0].inputs == {"keys_down": ["other", "letter"]}
        assert json.loads(record.steps[1].rejected.original)["inputs"] == {"keys_down": ["other", "letter"]}  # type: ignore[union-attr,arg-type]
        assert gateway.post(session_id, sent).json()["next_seq"] == 3, "the same again is a duplicate"


def test_is_eos_ends_the_session_even_on_a_faulty_step(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, [step(0, time=None, is_eos=True)])
        assert shape(gateway.log, session_id) == ["opened", "steps", "ended:eos"]


def test_a_session_is_held_to_the_version_that_it_was_opened_with_also_after_a_restart(tmp_path: Path) -> None:
    wide = [step(0, inputs={"x": 50, "y": 0})]
    with running(tmp_path, schemas=schemas(tmp_path, SCREEN)) as gateway:
        older = gateway.open()
    with running(tmp_path, schemas=schemas(tmp_path, *BOTH)) as gateway:
        newer, chosen = gateway.open(), gateway.open(schema_version="1")
        assert gateway.http.post("/v1/sessions", json={"app": "desktop"}).json()["schema_version"] == "2"
        results = [gateway.post(each, wide).json()["results"] for each in (older, newer, chosen)]
        assert [found.get("all") for found in results] == [None, "ok", None]
        assert results[0]["0"]["schema"] == "desktop/1"
        unknown = gateway.http.post("/v1/sessions", json={"app": "desktop", "schema_version": "3"})
        assert (unknown.status_code, unknown.json()["versions"]) == (422, ["1", "2"])
        assert gateway.post(gateway.open(app="other"), wide).json()["results"] == {"all": "ok"}, "it has no schema"
        assert gateway.http.get("/v1/schemas").json() == {"desktop": ["1", "2"]}
        assert gateway.http.get("/v1/schemas/desktop/2").json() == WIDE
        assert gateway.http.get("/v1/schemas/desktop/9").status_code == 422
    with running(tmp_path, schemas=schemas(tmp_path, WIDE)) as gateway:
        assert gateway.post(chosen, [step(1, inputs={"x": 50, "y": 0})]).json()["results"] == {"all": "ok"}, "1 is gone"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "wrong"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "#/nothing"},
        {"pattern": "("},
        {"version": 1},
        [],
        [{"type": "object"}, {"type": "object"}],
        [{"version": "1"}, {"version": "1"}],
        "text",
    ],
    ids=repr,
)
def test_a_schema_that_is_none_is_refused_at_the_start(tmp_path: Path, document: Any) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(document))
    with pytest.raises(SchemaError, match="desktop"):
        SessionSchemas({"desktop": str(tmp_path / "schema.json")})


def test_a_schema_comes_from_a_plug_in_or_a_file(tmp_path: Path) -> None:
    assert SessionSchemas({"a": f"{__name__}:BOTH"}).versions() == {"a": ["1", "2"]}
    with pytest.raises(PluginError):
        SessionSchemas({"a": "no.such.module:SCHEMA"})
    with pytest.raises(SchemaError, match="cannot be read"):
        SessionSchemas({"a": str(tmp_path / "none.json")})
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SchemaError, match="not JSON"):
        SessionSchemas({"a": str(tmp_path / "bad.json")})


def test_a_pattern_takes_linear_time_and_details_are_bounded() -> None:
    schema = SessionSchema("a", "1", {"properties": {"k/~": {"pattern": "^(a+)+$"}}})
    found = schema.check({"k/~": "a" * 50_000 + "b"})
    assert found is not None
    assert (found.reason, found.pointer) == ("pattern", "/k~1~0")
    assert len(found.detail) <= 300


def test_a_rejection_and_a_trace_survive_the_archive() -> None:
    rejection = Rejection("maximum", "too much", "/inputs/x", "desktop/1", b'{"seq":0}')
    record = StepsAppended("session-1", (Step("session-1", 0, 1.0, 2.0, rejected=rejection),), "00-" + "1" * 32)
    assert [record_of(entry) for entry in record_entries(record, 7)] == [record]


def test_a_trace_goes_from_the_request_to_the_record_and_the_sample(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(tmp_path) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, [step(0)], traceparent=trace)
        gateway.post(session_id, [step(1)], traceparent="00-" + "0" * 32 + "-b7ad6b7169203331-01")
        records = [record for record in stored(gateway.log, session_id) if isinstance(record, StepsAppended)]
        assert [record.traceparent for record in records] == [trace, None]
        annotate(gateway.log)
        with closing(gateway.log.reader()) as reader:
            found = [
                sample.traceparent
                for partition in range(4)
                for record in reader.fetch("samples", partition, 0).records
                for sample in annotated(record).samples
            ]
        assert found == [trace, None]


def _annotated(gateway: RunningGateway) -> tuple[list[StepOutcome], list[tuple[int, str]]]:
    outcomes, samples = list[StepOutcome](), list[tuple[int, str]]()
    with closing(gateway.log.reader()) as reader:
        for partition in range(4):
            for record in reader.fetch("samples", partition, 0).records:
                value = annotated(record)
                outcomes += value.outcomes
                samples += [(sample.seq, next(iter(sample.members))) for sample in value.samples]
    return outcomes, samples
