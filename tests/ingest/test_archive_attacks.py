"""The archiver while its store is away, full, foreign or damaged: it waits, and what is wrong is named."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.archive_lane import ArchiveLane, ArchiverSettings, Rotation
from ingest.archiver import Archiver
from ingest.errors import ShardError, StoreRefused
from ingest.memory import MemoryLog
from ingest.metrics import archive_metrics
from ingest.shard_reader import ShardChain, archived_before
from ingest.shards import ArchiveSettings, DirectoryStore, ShardStore, shard_name
from ingest.shards.s3 import S3Store
from ingest.sqlite import SqliteLog
from ingest.types import SAMPLES
from tests.ingest.stores import KINDS, contents, make_store, metadata, overwrite, staged
from tests.ingest.test_archiver import in_log, in_shards, put, run_until
from tests.ingest.test_shards import write
from tests.s3_servers import moto_server, new_bucket
from tests.waiting import until


def figures(archiver: Archiver) -> dict[str, float]:
    """The archiver's metrics, by name and labels."""
    found = {}
    for family in archive_metrics(archiver.health):
        for each in family.samples:
            found[each.name + "".join(f"{{{value}}}" for value in each.labels.values())] = each.value
    return found


def run_once(archiver: Archiver) -> None:
    stop = threading.Event()
    stop.set()
    archiver.run(stop)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        (ArchiverSettings(max_bytes=1), "bytes"),
        (ArchiverSettings(max_count=1), "count"),
        (ArchiverSettings(), "shutdown"),
    ],
)
@pytest.mark.parametrize("kind", ["directory", "moto"])
def test_why_a_shard_was_closed_is_counted(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, chosen: ArchiverSettings, reason: str
) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 2)
    archiver = Archiver(log, make_store(kind, request, tmp_path, log), chosen)
    run_once(archiver)
    told = figures(archiver)
    assert {key: value for key, value in told.items() if "rotations" in key and value} == {
        f"stovetop_archive_rotations_total{{{reason}}}": 1
    }
    assert told["stovetop_archive_shard_bytes_count"] == 1
    assert told["stovetop_archive_shard_bytes_sum"] == archiver.health.bytes > 1024
    assert told["stovetop_archive_shard_bytes_bucket{+Inf}"] == 1
    assert told["stovetop_archive_lag_offsets"] == told["stovetop_archive_lag_seconds"] == 0


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_shard_that_was_closed_by_age_is_counted(store: ShardStore) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    archiver = Archiver(log, store, ArchiverSettings(max_age=0.05, poll_interval=0.01))
    run_until(archiver, lambda: store.names("samples/0"))
    assert figures(archiver)["stovetop_archive_rotations_total{age}"] == 1


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_lag_is_measured_after_publication_and_conflicts_are_counted(
    store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    lane = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    lane.advance()
    assert lane.lag()[0] == 1, "gathered is not published"
    other = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    other.advance()
    other.rotate(Rotation.AGE)
    lane.rotate(Rotation.AGE)
    assert (lane.lag(), lane.conflicts) == ((0, 0.0), 1)


def test_the_facts_of_a_shard_are_the_metadata_of_its_object(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = make_store("moto", request, tmp_path)
    assert isinstance(store, S3Store)
    write(store, 0, [0, 1, 5]).publish()
    facts = metadata(store, shard_name(SAMPLES, 0, 0))
    shard = ShardChain(store, SAMPLES, 0).shard(0)
    assert {name: facts[name] for name in ("first-offset", "next-offset", "count", "sha256")} == {
        "first-offset": "0",
        "next-offset": "6",
        "count": "3",
        "sha256": shard.summary.sha256,
    }


@pytest.mark.parametrize("kind", ["moto", "juicefs"])
def test_a_large_shard_goes_up_in_parts_and_only_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = make_store(kind, request, tmp_path)
    assert isinstance(store, S3Store)
    large = {"members": {"bin": os.urandom(7 << 20)}}
    first, second = write(store, 0, [0, 1, 2], **large), write(store, 0, [0, 1, 2], **large)
    other = write(store, 0, [0, 1, 2], members={"bin": os.urandom(7 << 20)})
    assert first.size > 16 << 20
    assert first.publish()
    assert second.publish(), "the same bytes are no conflict"
    assert not other.publish()
    before = contents(store, first.name)
    assert contents(store, first.name) == before
    ShardChain(store, SAMPLES, 0).shard(0).verify()
    uploads = store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    assert [upload for upload in uploads if upload["Key"].endswith(".tar")] == []
    assert staged(store, "samples/0") == []


def test_a_service_that_ignores_conditions_is_refused_where_no_log_can_take_their_place(
    juicefs_endpoint: str, tmp_path: Path
) -> None:
    store = S3Store(f"s3://{new_bucket(juicefs_endpoint)}/x", endpoint=juicefs_endpoint, staging=tmp_path)
    writer = write(store, 0, [0])
    with pytest.raises(StoreRefused, match="ignores If-None-Match"):
        writer.publish()
    writer.discard()


@pytest.mark.parametrize(
    ("url", "says"),
    [("s3://nowhere-at-all-12345/x", "there is no such bucket"), ("s3://bad bucket/x", "mend")],
)
def test_a_wrong_address_ends_the_archiver_at_once_and_says_what_to_mend(
    moto_endpoint: str, url: str, says: str
) -> None:
    with pytest.raises(StoreRefused, match=says):
        run_once(Archiver(MemoryLog(), S3Store(url, endpoint=moto_endpoint)))


def test_wrong_credentials_say_so(juicefs_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = new_bucket(juicefs_endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store = S3Store(f"s3://{bucket}/x", endpoint=juicefs_endpoint + "/")  # another client than that of other tests
    with pytest.raises(StoreRefused, match="mend AWS_SECRET_ACCESS_KEY"):
        run_once(Archiver(MemoryLog(), store))


def test_missing_credentials_say_so(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    store = S3Store("s3://bucket/x", endpoint=moto_endpoint + "/")
    with pytest.raises(StoreRefused, match="set AWS_ACCESS_KEY_ID"):
        run_once(Archiver(MemoryLog(), store))


def test_settings_open_a_store_in_s3(moto_endpoint: str, tmp_path: Path) -> None:
    settings = ArchiveSettings(folder=tmp_path, url="s3://bucket/some/where", endpoint=moto_endpoint)
    store = settings.open()
    assert isinstance(store, S3Store)
    assert store.address == f"s3://bucket/some/where at {moto_endpoint}"
    assert isinstance(ArchiveSettings(folder=tmp_path).open(), DirectoryStore)
    with pytest.raises(ValueError, match="url"):
        ArchiveSettings(folder=tmp_path, url="http://bucket")


class Service:
    """A moto server that can be stopped and started again, empty or not."""

    def __init__(self) -> None:
        self._running: Any = None
        self.port = 0

    def start(self) -> str:
        self._running = moto_server(self.port)
        endpoint: str = self._running.__enter__()
        self.port = int(endpoint.rpartition(":")[2])
        return endpoint

    def stop(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
        self._running = None


@pytest.fixture
def service(moto_endpoint: str) -> Iterator[Service]:  # for the credentials
    made = Service()
    yield made
    made.stop()


def test_while_s3_is_away_the_archiver_waits_and_the_log_keeps_what_is_not_archived(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.archiver._LOOK_EVERY", 0.0)
    endpoint = service.start()
    bucket = new_bucket(endpoint)
    log = MemoryLog()
    writer = log.writer("annotator")
    store = S3Store(f"s3://{bucket}/x", endpoint=endpoint, staging=tmp_path)
    put(writer, 1)
    archiver = Archiver(log, store, ArchiverSettings(max_age=0.05, poll_interval=0.01))
    stop = threading.Event()
    thread = threading.Thread(target=archiver.run, args=(stop,))
    thread.start()
    try:
        until(lambda: archiver.health.shards == 1)
        service.stop()
        put(writer, 1)
        until(lambda: archiver.health.failures > 0)
        put(writer, 1)
        assert archiver.health.lag_offsets > 0
        service.start()
        until(lambda: archiver.health.shards > 1 and archiver.health.lag_offsets == 0)
    finally:
        stop.set()
        thread.join(60)
    assert in_shards(store) == in_log(log)
    assert archived_before(store, SAMPLES, 0) == 3


def test_an_archiver_that_starts_while_s3_is_away_waits_for_it(service: Service, tmp_path: Path) -> None:
    endpoint = service.start()
    bucket = new_bucket(endpoint)
    service.stop()
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    store = S3Store(f"s3://{bucket}/x", endpoint=endpoint, staging=tmp_path)
    archiver = Archiver(log, store, ArchiverSettings(max_age=0.05, poll_interval=0.01))
    stop = threading.Event()
    thread = threading.Thread(target=archiver.run, args=(stop,))
    thread.start()
    try:
        time.sleep(0.3)
        assert thread.is_alive()
        service.start()
        until(lambda: archiver.health.shards == 1)
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.parametrize("kind", ["directory", "moto"])
def test_on_a_full_disk_the_archiver_lets_go_waits_and_archives_all_later(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's own file, which has no room: as a disk that is full says it, at a write and at its end."""
    monkeypatch.setattr("ingest.archive_lane.FIRST_PAUSE", 0.0)
    log = MemoryLog()
    store = make_store(kind, request, tmp_path, log)
    writer = log.writer("annotator")
    for _ in range(3):
        put(writer, 1, size=5000)
    lane = ArchiveLane(store, log.reader(), SAMPLES, 0, ArchiverSettings())
    full = True
    stage = store.stage

    def stage_without_room(folder: str) -> Any:
        made = stage(folder)
        write_real = made.file.write

        class File:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def write(self, data: bytes) -> int:
                if full and real.tell() + len(data) > 8000:
                    raise OSError(errno.ENOSPC, "No space left on device")
                written: int = write_real(data)
                return written

        real = made.file
        made.file = File()  # type: ignore[assignment]
        return made

    monkeypatch.setattr(store, "stage", stage_without_room)
    for _ in range(3):
        assert not lane.advance()
        assert staged(store, "samples/0") == [], "what it had built takes no room"
    assert (lane.failures, lane.published, store.names("samples/0")) == (3, 0, [])
    full = False
    lane.advance()
    lane.rotate(Rotation.AGE)
    assert in_shards(store) == in_log(log)


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_object_under_the_name_of_a_shard_is_named(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    log = MemoryLog()
    put(log.writer("annotator"), 1)
    store = make_store(kind, request, tmp_path, log)
    overwrite(store, "samples/0/README.txt", b"hello")  # of another name: nobody's business
    overwrite(store, shard_name(SAMPLES, 0, 0), b"not a shard")
    with pytest.raises(ShardError, match=r"samples/0/0{20}\.tar: does not begin with"):
        run_once(Archiver(log, store))
    overwrite(store, shard_name(SAMPLES, 0, 0), b"")
    with pytest.raises(ShardError, match=r"samples/0/0{20}\.tar: does not begin with"):
        run_once(Archiver(log, store))


def _die_in_an_upload(log: SqliteLog, store: S3Store, where: str) -> None:
    from ingest.shards import s3, s3_upload

    def die(*arguments: object, **options: object) -> None:
        os._exit(9)

    if where == "amid the parts":
        real = s3_upload.Upload._send_part

        def send(self: Any, path: Path, upload: str, number: int) -> Any:
            if number == 2:
                time.sleep(0.2)
                os._exit(9)
            return real(self, path, upload, number)

        s3_upload.Upload._send_part = send  # type: ignore[method-assign]
    elif where == "before the upload":
        s3.Upload.send = die  # type: ignore[assignment, method-assign]
    else:
        real_send = s3.Upload.send

        def send_and_die(self: Any, *arguments: Any) -> bool:
            real_send(self, *arguments)
            os._exit(9)

        s3.Upload.send = send_and_die  # type: ignore[method-assign]
    archive_all(log, store)


def archive_all(log: SqliteLog, store: S3Store) -> None:
    lane = ArchiveLane(store.for_writing(log), log.reader(), SAMPLES, 0, ArchiverSettings())
    while lane.lag()[0]:  # where claims decide, what the dead one wanted comes first
        while lane.advance():
            pass
        lane.rotate(Rotation.AGE)


@pytest.mark.parametrize("where", ["before the upload", "amid the parts", "after the upload"])
@pytest.mark.parametrize("kind", ["moto", "juicefs"])
def test_an_archiver_killed_in_an_upload_leaves_a_shard_absent_or_whole_and_the_next_goes_on(
    kind: str, where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    log = SqliteLog(tmp_path / "log")
    writer = log.writer("annotator")
    for _ in range(3):
        put(writer, 1, size=6 << 20)
    endpoint = request.getfixturevalue(f"{kind}_endpoint")
    store = S3Store(f"s3://{new_bucket(endpoint)}/x", endpoint=endpoint, staging=tmp_path / "staging")
    process = multiprocessing.get_context("fork").Process(target=_die_in_an_upload, args=(log, store, where))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert store.names("samples/0") == ([shard_name(SAMPLES, 0, 0)] if where == "after the upload" else [])
    put(writer, 1, size=100)
    archive_all(log, store)
    chain = ShardChain(store, SAMPLES, 0)
    assert [at.offset for at, _ in chain.samples()] == [0, 1, 2, 3]
    writer.close()
