"""Deletion through the gateway: durable before it is answered, hidden from then on, never brought back by a retry."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import apsw
import httpx
import msgspec
import pytest

from auth.tokens import Scope
from ingest.archive_lane import ArchiverSettings
from ingest.archiver import Archiver
from ingest.certificates import Certificate, State
from ingest.dead_letters import DeadLetters
from ingest.deletions import Deletions
from ingest.errors import LogLocked
from ingest.keeper import Keeper
from ingest.metrics import PipelineCollector
from ingest.pipeline import PipelineHealth
from ingest.records import annotated as annotated_of
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from ingest.types import SAMPLES, STEPS, Point
from tests.ingest.gateways import RunningGateway, running, shape, step, steps, stored, tokens_in
from tests.ingest.keeping import AT_ONCE, annotating, archive, keep, process, sessions_in
from tests.ingest.visits import POISON, annotated
from tests.waiting import until

OPERATE = "secret-of-operate"


def acting(seq: int, do: Any = 1) -> dict[str, Any]:
    return {**step(seq), "inputs": {"do": do}}


def delete(gateway: RunningGateway, session_id: str, expected: int = 202) -> dict[str, Any]:
    reply = gateway.http.delete(f"/v1/sessions/{session_id}")
    assert reply.status_code == expected, reply.text
    body: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/v1/deletions/{body['deletion']}"
    return body


def problem(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["type"].rpartition(":")[2]


def test_after_a_deletion_nothing_is_taken_and_nothing_comes_back_also_after_a_restart(tmp_path: Path) -> None:
    opened = {"Idempotency-Key": "visit-1"}
    with running(tmp_path) as gateway:
        gateway.http.post("/v1/sessions", json={"app": "desktop", "session_id": "session-1"}, headers=opened)
        gateway.post("session-1", steps(0, 3))
        body = delete(gateway, "session-1")
        assert (body["state"], body["sessions"]) == ("pending", ["session-1"])
        assert shape(gateway.log, "session-1") == ["opened", "steps"], "the tombstone is a record of its own kind"
        assert stored(gateway.log, "session-1")[-1].session_id == "session-1"
        assert "session-1" in Deletions(gateway.log).open()
    for _ in range(2):
        with running(tmp_path) as gateway:
            gone = (410, "session-deleted")
            assert problem(gateway.post("session-1", steps(3, 4))) == gone
            assert problem(gateway.post("session-1", steps(0, 3))) == gone, "nor is a resent step told that it is there"
            assert problem(gateway.http.get("/v1/sessions/session-1")) == gone
            assert problem(gateway.http.post("/v1/sessions/session-1/end")) == gone
            again = {"app": "desktop", "session_id": "session-1"}
            assert problem(gateway.http.post("/v1/sessions", json=again)) == gone
            assert problem(gateway.http.post("/v1/sessions", json={"app": "desktop"}, headers=opened)) == gone
            assert gateway.http.post("/v1/sessions", json={"app": "desktop"}).status_code == 201


def test_a_second_deletion_changes_nothing_and_an_unknown_session_can_be_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.open("session-1")
        first = delete(gateway, "session-1")
        before = len(stored(gateway.log))
        assert delete(gateway, "session-1") == first
        assert len(stored(gateway.log)) == before
        unknown = delete(gateway, "never-seen-before")
        assert unknown["sessions"] == ["never-seen-before"]
        late = gateway.http.post("/v1/sessions", json={"app": "desktop", "session_id": "never-seen-before"})
        assert problem(late) == (410, "session-deleted")
        assert problem(gateway.http.delete("/v1/sessions/no.id")) == (400, "invalid-request")
        assert problem(gateway.http.get("/v1/deletions/session.other-one")) == (404, "deletion-unknown")
        assert problem(gateway.http.get("/v1/deletions/nonsense")) == (404, "deletion-unknown")


def test_a_subject_s_sessions_go_together_the_open_one_and_those_that_were_forgotten(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"subject_key": tmp_path / "keys" / "subjects.key", "sweep_seconds": 0.01}
    with running(tmp_path, ended_seconds=0.01, **settings) as gateway:
        for number in range(5):
            gateway.open(f"session-{number}", subject="ada@example.org")
        gateway.open("session-of-another", subject="bob@example.org")
        for number in range(4):
            gateway.http.post(f"/v1/sessions/session-{number}/end")
        until(lambda: gateway.http.get("/v1/sessions/session-0").status_code == 404, "it is forgotten")
        reply = gateway.http.delete("/v1/subjects/ada@example.org")
        assert reply.status_code == 202
        assert reply.json()["sessions"] == [f"session-{number}" for number in range(5)]
        assert gateway.http.delete("/v1/subjects/ada@example.org").json() == reply.json()
        assert problem(gateway.post("session-4", steps(0, 1))) == (410, "session-deleted")
        opening = {"app": "desktop", "subject": "ada@example.org"}
        assert problem(gateway.http.post("/v1/sessions", json=opening)) == (410, "subject-deleted")
        assert gateway.post("session-of-another", steps(0, 1)).status_code == 200
        assert gateway.http.delete("/v1/subjects/nobody").json()["sessions"] == []
    with running(tmp_path, **settings) as gateway:
        assert problem(gateway.http.post("/v1/sessions", json=opening)) == (410, "subject-deleted")
        named = gateway.http.get(f"/v1/deletions/{reply.json()['deletion']}").json()
        assert named["sessions"] == reply.json()["sessions"]


def test_of_a_subject_only_a_pseudonym_is_kept(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "subjects.key"
    with running(tmp_path, subject_key=key) as gateway:
        gateway.open("session-1", subject="ada@example.org")
        gateway.http.delete("/v1/subjects/ada@example.org")
    assert key.stat().st_mode & 0o777 == 0o600
    for file in (tmp_path / "log").iterdir():
        assert b"ada@" not in file.read_bytes(), file
    with running(tmp_path) as gateway:
        named = gateway.http.post("/v1/sessions", json={"app": "desktop", "subject": "ada"})
        assert problem(named) == (422, "subjects-unkeyed")
        assert problem(gateway.http.delete("/v1/subjects/ada")) == (422, "subjects-unkeyed")
    key.write_text("short")
    with pytest.raises(Exception, match=r"subjects\.key: not a key"), running(tmp_path, subject_key=key):
        pass


def test_who_may_delete(tmp_path: Path) -> None:
    with running(tmp_path, subject_key=tmp_path / "subjects.key") as gateway:
        tokens = tokens_in(tmp_path)
        tokens.add("operator", [Scope.OPERATE], OPERATE)
        for number in range(3):
            gateway.open(f"session-{number}", subject=f"person-{number}")
        bearer = {"Authorization": f"Bearer {OPERATE}"}
        assert gateway.bare.delete("/v1/sessions/session-0", headers=bearer).status_code == 202
        assert gateway.bare.delete("/v1/subjects/person-1", headers=bearer).status_code == 202
        assert gateway.http.delete("/v1/sessions/session-2").status_code == 202, "the app may too"
        reader = {"Authorization": "Bearer secret-of-read"}
        assert gateway.bare.delete("/v1/sessions/session-2", headers=reader).status_code == 403
        assert gateway.bare.delete("/v1/sessions/session-2").status_code == 401


def test_steps_and_the_deletion_in_one_commit_leave_the_tombstone_last(tmp_path: Path) -> None:
    """Many clients post and delete at once: whatever order they come in, no step stands behind its tombstone."""
    with running(tmp_path, settle_seconds=0.0) as gateway, futures.ThreadPoolExecutor(8) as pool:
        sessions = [gateway.open(f"session-{number}") for number in range(8)]

        def live(session_id: str) -> list[int]:
            statuses = []
            for seq in range(12):
                statuses.append(gateway.post(session_id, steps(seq, seq + 1)).status_code)
                if seq == 5:
                    pool.submit(delete, gateway, session_id, 202).result()
            return statuses

        for statuses in [live(session_id) for session_id in sessions[:4]]:
            assert statuses == [200] * 6 + [410] * 6
        racing = [pool.submit(gateway.post, name, steps(0, 5)) for name in sessions[4:] for _ in range(3)]
        racing += [pool.submit(gateway.http.delete, f"/v1/sessions/{name}") for name in sessions[4:]]  # type: ignore[arg-type]
        assert {future.result().status_code for future in racing} <= {200, 202, 410}
        for session_id in sessions:
            kinds = [type(record).__name__ for record in stored(gateway.log, session_id)]
            assert kinds.count("SessionDeleted") == 1
            assert kinds[-1] == "SessionDeleted", kinds


def test_the_annotator_drops_an_open_episode_and_buries_nothing_of_it(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        gateway.open("session-1")
        gateway.open("session-2")
        with annotating(log) as worker:
            gateway.post("session-1", [acting(0), acting(1, POISON)])
            gateway.post("session-2", [acting(0)])
            until(lambda: len(DeadLetters(log).latest()) == 1, "the letter is there")
            delete(gateway, "session-1")
            gateway.http.post("/v1/sessions/session-2/end")
        assert worker._lanes
        assert all(lane.open_sessions == 0 for lane in worker._lanes)
        ends = [sample for each in annotated(log) for sample in each.samples if "end.json" in sample.members]
        assert [sample.session_id for sample in ends] == ["session-2"], "an end of the deleted one would tell of it"
        assert DeadLetters(log).latest() == []


def test_steps_that_wait_for_the_annotator_when_they_are_deleted_come_to_nothing(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    with running(tmp_path, log=log) as gateway:
        gateway.open("session-1")
        gateway.post("session-1", [acting(0), acting(1, POISON), acting(2)])
        delete(gateway, "session-1")
    with annotating(log):
        pass
    outcomes = [outcome for each in annotated(log) for outcome in each.outcomes]
    assert [(each.seq, each.samples, each.dead) for each in outcomes] == [(0, 0, False), (1, 0, False), (2, 0, False)]


@pytest.mark.parametrize("moment", ["before annotating", "before archiving", "after archiving"])
def test_the_archive_is_clean_of_it_and_the_certificate_says_how(tmp_path: Path, moment: str) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with running(tmp_path, log=log, settle_seconds=0.0) as gateway:
        for session_id in ("session-1", "session-2", "session-3"):
            gateway.open(session_id)
            gateway.post(session_id, [acting(seq, 2) for seq in range(10)])
        gateway.http.post("/v1/sessions/session-2/end")
        if moment == "before annotating":
            body = delete(gateway, "session-1")
        with annotating(log):
            pass
        if moment == "before archiving":
            body = delete(gateway, "session-1")
        archive(log, store)
        if moment == "after archiving":
            assert "session-1" in sessions_in(store, STEPS, 4) & sessions_in(store, SAMPLES, 4)
            body = delete(gateway, "session-1")
            keep(log, store)
            assert "session-1" not in sessions_in(store, STEPS, 4) | sessions_in(store, SAMPLES, 4)
        process(log, store)
        keep(log, store)
        kept = {"session-2", "session-3"}
        assert sessions_in(store, STEPS, 4) == kept
        assert sessions_in(store, SAMPLES, 4) == kept
        reply = gateway.http.get(f"/v1/deletions/{body['deletion']}").json()
        assert reply["state"] == "erased"
        certificate = msgspec.convert(reply["certificate"], Certificate)
        assert certificate.holds()
        assert not msgspec.structs.replace(certificate, due_by=0.0).holds()
        (erasure,) = certificate.erasures
        if moment == "after archiving":
            assert (erasure.steps, erasure.samples) == (11, 20)
            assert erasure.shards
            assert all(each.before_sha256 != each.after_sha256 and each.removed_at for each in erasure.shards)
            assert not any((store.root / each.before).exists() for each in erasure.shards)
            assert all((store.root / each.after).exists() for each in erasure.shards)
        else:
            assert erasure.steps == erasure.samples == 0, "the archiver had left it out"
        assert delete(gateway, "session-1", expected=200)["state"] == "erased"


def test_while_the_archiver_holds_it_in_an_open_shard_it_is_erased_once_that_is_published(tmp_path: Path) -> None:

    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with running(tmp_path, log=log, settle_seconds=0.0) as gateway:
        gateway.open("session-1")
        gateway.post("session-1", [acting(seq) for seq in range(10)])
        with annotating(log):
            pass
        stop = threading.Event()
        archiver = Archiver(log, store, ArchiverSettings(max_age=3600, poll_interval=0.005))
        thread = threading.Thread(target=archiver.run, args=(stop,))
        thread.start()
        until(lambda: len(list((tmp_path / "shards").rglob("*.tmp"))) > 0, "a shard is in the making")
        time.sleep(0.1)  # nothing shows from outside how far an unpublished shard is
        body = delete(gateway, "session-1")
        work = keep(log, store)
        assert work.pending, "nothing is promised while somebody may hold it"
        stop.set()
        thread.join()
        keep(log, store)
        process(log, store)
        keep(log, store)
        assert not sessions_in(store, STEPS, 4) | sessions_in(store, SAMPLES, 4)
        assert gateway.http.get(f"/v1/deletions/{body['deletion']}").json()["state"] == "erased"


@pytest.mark.parametrize("moment", ["before archiving", "after archiving"])
def test_the_certificate_knows_where_the_samples_stood_and_names_who_had_trained_on_them(
    tmp_path: Path, moment: str
) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    asked: list[Mapping[str, Sequence[Point]]] = []

    def trained_on(positions: Mapping[str, Sequence[Point]]) -> tuple[str, ...]:
        asked.append(positions)
        return ("000002", "000003")

    with running(tmp_path, log=log, settle_seconds=0.0, trained_on=trained_on) as gateway:
        for session_id in ("session-1", "session-2"):
            gateway.open(session_id)
        for seq in range(3):
            for session_id in ("session-1", "session-2"):
                gateway.post(session_id, [acting(seq, 2)])
        with annotating(log):
            pass
        places = positions_in(log, "session-1")
        assert sum(map(len, places.values())) == 6
        if moment == "after archiving":
            archive(log, store)
        body = delete(gateway, "session-1")
        assert "versions" not in body["certificate"] or body["certificate"]["versions"] is None
        assert asked == [], "nobody is asked before all is known"
        process(log, store)
        keep(log, store)
        reply = gateway.http.get(f"/v1/deletions/{body['deletion']}").json()
        certificate = msgspec.convert(reply["certificate"], Certificate)
        assert certificate.versions == ("000002", "000003")
        assert certificate.holds()
        assert asked == [places]


def positions_in(log: SqliteLog, session_id: str) -> dict[str, list[Point]]:
    """Where a session's samples stand in the log, by partition."""
    reader, places = log.reader(), dict[str, list[Point]]()
    for partition in range(reader.partitions(SAMPLES)):
        for record in reader.fetch(SAMPLES, partition, 0).records:
            if record.key == session_id:
                count = len(annotated_of(record).samples)
                places.setdefault(str(partition), []).extend((record.offset, index) for index in range(count))
    reader.close()
    return places


def test_a_metric_tells_of_deletions_that_wait_for_the_archive(tmp_path: Path) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    keeper, stop = Keeper(log, store, AT_ONCE), threading.Event()

    def told() -> dict[str, float]:
        collector = PipelineCollector(lambda: PipelineHealth(keeper=keeper.health))
        return {sample.name: sample.value for family in collector.collect() for sample in family.samples}

    assert told() == {}, "nothing is known before the first look"
    thread = threading.Thread(target=keeper.run, args=(stop,))
    try:
        with running(tmp_path, log=log, settle_seconds=0.0) as gateway:
            for session_id in ("session-1", "session-2"):
                gateway.open(session_id)
                gateway.post(session_id, [acting(0)])
            thread.start()
            delete(gateway, "session-1")
            until(lambda: told().get("stovetop_deletion_pending") == 1, "it waits until all is archived")
            assert 0 <= told()["stovetop_deletion_pending_seconds"] < 60
            process(log, store)
            until(lambda: told()["stovetop_deletion_pending"] == 0, "the archive is clean")
            assert told()["stovetop_deletion_erased"] == 1
            assert told()["stovetop_deletion_pending_seconds"] == 0
    finally:
        stop.set()
        thread.join()


def test_the_certificate_notes_when_the_log_has_forgotten_its_copy(tmp_path: Path) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with running(tmp_path, log=log, settle_seconds=0.0) as gateway:
        gateway.open("session-1")
        gateway.post("session-1", [acting(0), acting(1, POISON)])
        body = delete(gateway, "session-1")
        process(log, store)
        ages = AT_ONCE.model_copy(update={"log_ages": {STEPS: 10.0, SAMPLES: 20.0, "dead": 30.0}})
        keep(log, store, ages)
        (erasure,) = gateway.http.get(f"/v1/deletions/{body['deletion']}").json()["certificate"]["erasures"]
        assert erasure["log_gone_by"] == pytest.approx(erasure["erased_at"] + 30.0)
        for name, topics in (("annotator", (SAMPLES, "dead")),):
            writer = log.writer(name)
            for topic in topics:
                for number in range(4):
                    writer.trim(topic, number, 1 << 40)
            writer.close()
        keep(log, store)
        assert gateway.http.get(f"/v1/deletions/{body['deletion']}").json()["state"] == "erased"
    writer = log.writer("gateway")
    for number in range(4):
        writer.trim(STEPS, number, 1 << 40)
    writer.close()
    work = keep(log, store)
    assert [each.state for each in work.erasures.values()] == [State.GONE]


def test_a_log_of_the_first_version_is_given_the_topics_that_it_lacks(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.open("session-1")
    connection = apsw.Connection(str(tmp_path / "log" / "gateway.sqlite"))
    for number in range(4):
        connection.execute(f'DROP TABLE "deletions/{number}"')
    connection.execute("DELETE FROM layout WHERE topic = 'deletions'")
    connection.execute("DELETE FROM lanes WHERE topic = 'deletions'")
    connection.close()
    view = Deletions(SqliteLog(tmp_path / "log")).open()
    assert len(view) == 0
    with running(tmp_path) as gateway:
        delete(gateway, "session-1")
        assert "session-1" in view


def test_one_keeper_works_at_a_time(tmp_path: Path) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with Keeper(log, store, AT_ONCE).working(), pytest.raises(LogLocked), Keeper(log, store, AT_ONCE).working():
        pass
