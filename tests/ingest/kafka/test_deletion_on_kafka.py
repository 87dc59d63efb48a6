"""Deletion on Apache Kafka: it comes to its end in partitions where nothing comes after it, whose last offsets are
markers of transactions and no records; and over several gateways."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from dataset import HistorySource, LiveSource, Share
from ingest.certificates import Certificate, State, certificate_of
from ingest.entries import session_of
from ingest.kafka import KafkaLog
from ingest.keeper import Keeper
from ingest.log import next_record
from ingest.pipeline import PipelineSettings
from ingest.sessions import SessionIndex, SessionRules
from ingest.shard_reader import archived_before
from ingest.shards import DirectoryStore
from ingest.tombstones import Tombstones
from ingest.types import DEAD, SAMPLES, STEPS
from tests.conftest import KafkaLogs
from tests.ingest.conftest import Run
from tests.ingest.gateways import await_ready, owned, running, step
from tests.ingest.keeping import AT_ONCE, archived_all, keep, process, sessions_in
from tests.ingest.visits import append, visit
from tests.ingest.visits import step as annotated_step
from tests.waiting import until

pytestmark = pytest.mark.kafka

PARTITIONS = 4
ADA, BOB = "ada@example.org", "bob@example.org"
PIPELINE = {
    "annotator": {"plugin": "tests.ingest.visits:Telling"},
    "archiver": {"max_count": 7, "max_age": 0.2},
    "keeping": {"interval": 0.1, "linger": 0.05, "grace": 0.2},
    "metrics_port": 0,
}


def live_sessions(log: KafkaLog) -> set[str]:
    """Whose samples a trainer is given that reads everything that the log has."""
    with closing(LiveSource(log).open(Share(0, 1), {})) as reader:
        found: set[str] = set()
        until(lambda: reader.poll() is not None, "there are samples")
        while (item := reader.poll()) is not None:
            found.add(session_of(item.key))
        return found


def history_sessions(store: DirectoryStore, log: KafkaLog) -> set[str]:
    """Whose samples a thousand draws from the archive give."""
    source = HistorySource(store, follows=None, partitions=PARTITIONS, deletions=LiveSource(log).deletions)
    with closing(source.open(Share(0, 1), {})) as reader:
        items = [reader.poll() for _ in range(1_000)]
    return {session_of(item.key) for item in items if item is not None}


def archived_sessions(store: DirectoryStore) -> set[str]:
    return sessions_in(store, STEPS, PARTITIONS) | sessions_in(store, SAMPLES, PARTITIONS)


def test_a_subject_is_deleted_over_two_gateways_from_log_archive_and_training(
    kafka_logs: KafkaLogs, tmp_path: Path, run_program: Run
) -> None:
    log, store = kafka_logs(partitions=PARTITIONS, shares=2), DirectoryStore(tmp_path / "shards")
    run_program("run_pipeline", (PipelineSettings.model_validate(PIPELINE), log, store))
    key = tmp_path / "subjects.key"
    with (
        running(tmp_path / "first", log=log, subject_key=key) as first,
        running(tmp_path / "second", log=log, subject_key=key) as second,
    ):
        for gateway in (first, second):
            await_ready(gateway)
        hers, his = [f"ada-visit-{number}" for number in range(6)], ["bob-visit-1", "bob-visit-2"]
        for number, session_id in enumerate([*hers, *his]):
            gateway = (first, second)[number % 2]
            gateway.open(session_id, subject=ADA if session_id in hers else BOB)
            doing = [{**step(seq), "inputs": {"do": 2}} for seq in range(5)]
            assert gateway.post(session_id, doing).status_code == 200
            if number % 3 == 0:
                assert gateway.http.post(f"/v1/sessions/{session_id}/end").status_code == 200
        assert 0 < owned(first, hers) < len(hers), "the subject's sessions lie in both shares"
        with closing(log.reader()) as reader:
            until(
                lambda: archived_all(reader, store) and archived_sessions(store) == {*hers, *his}, "archived", every=0.2
            )
        assert live_sessions(log) == history_sessions(store, log) == {*hers, *his}

        deleted = second.http.delete(f"/v1/subjects/{ADA}")
        assert deleted.status_code == 202, deleted.text
        assert deleted.json()["sessions"] == hers
        assert live_sessions(log) == history_sessions(store, log) == set(his), "hidden at once"

        # Nobody posts any more: what it waits for has no record behind it.
        where = f"/v1/deletions/{deleted.json()['deletion']}"
        until(lambda: first.http.get(where).json()["state"] == "erased", "done", every=0.2)
        certificate = msgspec.convert(second.http.get(where).json()["certificate"], Certificate)
        assert certificate.holds()
        assert certificate.sessions == tuple(hers)
        assert [(each.session_id, each.steps, each.samples) for each in certificate.erasures] == [
            (name, 6 + (number % 3 == 0), 10 + (number % 3 == 0)) for number, name in enumerate(hers)
        ]
        assert all(sum(count for _, _, count in each.samples_at) == each.samples for each in certificate.erasures)
        assert archived_sessions(store) == set(his)
        assert live_sessions(log) == history_sessions(store, log) == set(his)
        for gateway in (first, second):
            assert {gateway.post(name, [step(5)]).status_code for name in hers} == {410}
            assert gateway.post(his[1], [{**step(5), "inputs": {"do": 1}}]).json()["next_seq"] == 6


def filled(log: KafkaLog, store: DirectoryStore, gone: Sequence[str]) -> None:
    """Two sessions, annotated and archived, those of `gone` deleted as the gateway does it; nothing comes after."""
    with closing(log.writer("gateway")) as writer:
        for name in (*gone, "stay-1"):
            records = visit(name, [annotated_step(name, seq, 1) for seq in range(4)])
            writer.commit([append(record, PARTITIONS) for record in records])
        process(log, store)
        draft = SessionIndex(SessionRules(PARTITIONS), tombstones=Tombstones(writer.state)).draft()
        for name in gone:
            draft.delete(name)
        writer.commit(draft.appends, draft.state())
    process(log, store)


def test_when_the_log_has_forgotten_its_copy_the_certificate_says_so(kafka_logs: KafkaLogs, tmp_path: Path) -> None:
    log, store = kafka_logs(partitions=PARTITIONS), DirectoryStore(tmp_path / "shards")
    filled(log, store, ["gone-1"])
    keep(log, store)
    found = certificate_of(log, "session.gone-1", 0.0, 0.0, ["gone-1"])
    assert (found.state, archived_sessions(store)) == (State.ERASED, {"stay-1"})
    with closing(log.reader()) as reader, closing(log.writer("gateway")) as gateway:
        with closing(log.writer("annotator")) as annotator:
            for topic, writer in ((STEPS, gateway), (SAMPLES, annotator)):
                for number in range(PARTITIONS):  # as retention does: what is archived, and no offset more
                    writer.trim(topic, number, archived_before(store, topic, number))
        ends = [found.erasures[0].ends[topic] for topic in (STEPS, SAMPLES, DEAD)]
        number = found.erasures[0].tombstone.partition
        assert reader.bounds(STEPS, number).start < ends[0] <= next_record(reader, STEPS, number, 0)
    keep(log, store)
    assert certificate_of(log, "session.gone-1", 0.0, 0.0, ["gone-1"]).state is State.GONE


class Counted:
    """A log that counts who asks for another process's state."""

    def __init__(self, log: KafkaLog) -> None:
        self._log, self.asked = log, list[str]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def writer_state(self, name: str, prefix: str = "") -> dict[str, bytes]:
        self.asked.append(name)
        return self._log.writer_state(name, prefix)


def test_the_annotator_is_asked_once_in_a_look_however_many_deletions_wait(
    kafka_logs: KafkaLogs, tmp_path: Path
) -> None:
    log, store = kafka_logs(partitions=PARTITIONS), DirectoryStore(tmp_path / "shards")
    filled(log, store, [f"gone-{number}" for number in range(12)])
    counted = Counted(log)
    with Keeper(counted, store, AT_ONCE).working() as work:  # type: ignore[arg-type]
        work.turn()
        assert len(work.erasures) == 12
        assert counted.asked == ["annotator"]
