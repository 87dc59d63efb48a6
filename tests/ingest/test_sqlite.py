"""What is particular to the SQLite log: the order of fsync and reply, the file, and what may go wrong with it."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from ingest.errors import LayoutMismatch, LogBroken, LogCorrupt, LogError, LogFull
from ingest.log import Append
from ingest.sqlite import Layout, SqliteLog
from ingest.sqlite import layout as layout_module
from ingest.sqlite import writer as writer_module
from tests.ingest.conftest import Run
from tests.ingest.disks import Disk


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


def append(value: bytes = b"value", partition: int = 0) -> Append:
    return Append("steps", partition, "session1", value, time.time())


def test_every_commit_is_synced_to_disk_before_it_returns(tmp_path: Path, disk: Disk) -> None:
    writer = SqliteLog(tmp_path, vfs=disk.name).writer("gateway")
    for value in (b"small", bytes(100_000)):
        disk.events.clear()
        writer.commit([append(value)], {"key": value})
        disk.events.append(("returned", "commit"))
        wal = [event for event, name in disk.events if name in ("gateway.sqlite-wal", "commit")]
        assert "write" in wal
        last_write, last_sync = (len(wal) - 1 - wal[::-1].index(event) for event in ("write", "sync"))
        assert last_write < last_sync < wal.index("returned")
    writer.close()


def test_a_trim_is_synced_to_disk_before_it_returns(tmp_path: Path, disk: Disk) -> None:
    writer = SqliteLog(tmp_path, vfs=disk.name).writer("gateway")
    writer.commit([append()])
    disk.events.clear()
    writer.trim("steps", 0, 1)
    assert disk.events[-1] == ("sync", "gateway.sqlite-wal")
    writer.close()


def test_a_checkpoint_syncs_the_wal_before_the_file_and_the_file_before_it_begins_anew(
    tmp_path: Path, disk: Disk
) -> None:
    writer = SqliteLog(tmp_path, vfs=disk.name).writer("gateway")
    while writer._wal_pages < writer_module.CHECKPOINT_PAGES:
        writer.commit([append(bytes(200_000))])
    disk.events.clear()
    writer.tidy()
    events = [event for event, _ in itertools.groupby(disk.events)]
    assert events == [("sync", "gateway.sqlite-wal"), ("write", "gateway.sqlite"), ("sync", "gateway.sqlite")]
    writer.close()


def test_after_a_failed_sync_nothing_is_taken_until_a_restart(tmp_path: Path, disk: Disk) -> None:
    log = SqliteLog(tmp_path, vfs=disk.name)
    writer = log.writer("gateway")
    writer.commit([append(b"before")], {"key": b"1"})
    disk.failing = True
    with pytest.raises(LogBroken):
        writer.commit([append(b"lost")], {"key": b"2"})
    disk.failing = False
    with pytest.raises(LogBroken):
        writer.commit([append(b"refused")])
    writer.close()
    writer = log.writer("gateway")
    writer.commit([append(b"after")])
    records = log.reader().fetch("steps", 0, 0).records
    assert [record.value for record in records] == [b"before", b"after"]
    assert writer.state() == {"key": b"1"}


def test_a_new_writer_appends_to_no_old_wal(tmp_path: Path, disk: Disk, run_program: Run) -> None:
    log = SqliteLog(tmp_path, vfs=disk.name)
    process = run_program("append_forever", SqliteLog(tmp_path))
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    assert os.path.getsize(tmp_path / "gateway.sqlite-wal") > 0
    writer = log.writer("gateway")
    assert ("sync", "gateway.sqlite") in disk.events
    assert os.path.getsize(tmp_path / "gateway.sqlite-wal") == 0
    assert int(writer.state()["count"]) >= 19
    writer.close()


def test_a_full_disk_refuses_the_commit_whole_and_recovers(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    writer = log.writer("gateway")
    writer.commit([append(b"before")])
    pages = writer._connection.pragma("page_count")
    writer._connection.pragma("max_page_count", pages + 20)
    with pytest.raises(LogFull):
        writer.commit([append(b"small"), append(bytes(1_000_000))], {"key": b"value"})
    assert writer.state() == {}
    writer._connection.pragma("max_page_count", 1_000_000)
    assert writer.commit([append(b"after")]) == [1]
    records = log.reader().fetch("steps", 0, 0).records
    assert [record.value for record in records] == [b"before", b"after"]


def test_a_write_that_finds_no_space_is_refused_whole_too(tmp_path: Path, disk: Disk) -> None:
    log = SqliteLog(tmp_path, vfs=disk.name)
    writer = log.writer("gateway")
    disk.full = True
    with pytest.raises(LogFull):
        writer.commit([append(b"lost")])
    disk.full = False
    writer.commit([append(b"after")])
    assert [record.value for record in log.reader().fetch("steps", 0, 0).records] == [b"after"]
    writer.close()


def test_an_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    log.writer("gateway").close()
    connection = apsw.Connection(str(tmp_path / "gateway.sqlite"))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(LogCorrupt, match="log format 99 is not known here, only 1"):
        log.writer("gateway")
    with pytest.raises(LogCorrupt, match="log format 99"):
        log.reader()
    with pytest.raises(LogCorrupt, match="log format 99"):
        log.writer_state("gateway")


@pytest.mark.parametrize("content", [b"not a database, but a text" * 100, b""], ids=["text", "empty"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gateway.sqlite"
    path.write_bytes(content)
    with pytest.raises(LogCorrupt, match="not a log"):
        SqliteLog(tmp_path).writer("gateway")
    with pytest.raises(LogCorrupt, match="not a log"):
        SqliteLog(tmp_path).reader()
    assert path.read_bytes() == content


def test_a_file_that_a_foreign_program_holds_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteLog(tmp_path)
    log.writer("gateway").close()
    foreign = apsw.Connection(str(tmp_path / "gateway.sqlite"))
    foreign.execute("PRAGMA locking_mode = EXCLUSIVE")
    foreign.execute("BEGIN EXCLUSIVE")
    waited = threading.Timer(0.2, foreign.close)
    waited.start()
    assert log.writer_state("gateway") == {}
    waited.join()
    foreign = apsw.Connection(str(tmp_path / "gateway.sqlite"))
    foreign.execute("PRAGMA locking_mode = EXCLUSIVE")
    foreign.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(layout_module, "PATIENCE_SECONDS", 0.05)
    for open_ in (lambda: log.writer("gateway"), log.reader, lambda: log.writer_state("gateway")):
        with pytest.raises(LogError, match="held by a foreign program"):
            open_()
    foreign.close()
    log.writer("gateway").close()


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    SqliteLog(tmp_path).writer("gateway").close()
    other = SqliteLog(tmp_path, Layout(partitions=8))
    with pytest.raises(LayoutMismatch, match=r"steps in 4 partitions, but .*steps in 8"):
        other.writer("gateway")
    with pytest.raises(LayoutMismatch):
        other.reader()
    SqliteLog(tmp_path).writer("gateway").close()


def test_an_unknown_topic_or_writer_names_those_that_there_are(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    with pytest.raises(LogError, match="no writer 'trainer' in this log; it has annotator, gateway, keeper"):
        log.writer("trainer")
    with pytest.raises(
        LogError, match="no topic 'clicks' in this log; it has steps, deletions, samples, dead, certificates"
    ):
        log.reader().fetch("clicks", 0, 0)
    with pytest.raises(LogError, match="has partitions 0 to 3, but 4"):
        log.reader().bounds("steps", 4)


def test_a_crash_while_the_file_is_made_leaves_nothing_that_counts(tmp_path: Path) -> None:
    (tmp_path / ".gateway.sqlite.new").write_bytes(b"half")
    (tmp_path / ".gateway.sqlite.new-wal").write_bytes(b"half")
    (tmp_path / "gateway.sqlite-wal").write_bytes(b"of an older file")
    log = SqliteLog(tmp_path)
    assert log.reader().fetch("steps", 0, 0).records == ()
    writer = log.writer("gateway")
    writer.commit([append()])
    assert len(log.reader().fetch("steps", 0, 0).records) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_wal_stays_small_beside_busy_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a size on the writer waits for a moment without readers; here from a small one."""
    monkeypatch.setattr("ingest.sqlite.writer.RESTART_PAGES", 1_000)
    log = SqliteLog(tmp_path)
    writer = log.writer("gateway")
    done = threading.Event()

    def read() -> None:
        reader = log.reader()
        while not done.is_set():
            reader.fetch("steps", 0, 0, max_bytes=100_000)
            reader.wait(0.001)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    largest = 0
    try:
        for _ in range(600):
            writer.commit([append(bytes(50_000))])
            writer.tidy()
            largest = max(largest, os.path.getsize(tmp_path / "gateway.sqlite-wal"))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert largest < 22_000_000, f"30 MB were written, and the WAL grew to {largest}"


def test_a_writer_that_nobody_tidies_checkpoints_by_itself(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    writer = log.writer("gateway")
    for _ in range(40):
        writer.commit([append(bytes(1_000_000))])
    assert os.path.getsize(tmp_path / "gateway.sqlite-wal") < 30_000_000
    assert os.path.getsize(tmp_path / "gateway.sqlite") > 15_000_000


def test_trimmed_space_is_used_again(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    writer = log.writer("gateway")

    def write_and_trim() -> int:
        for _ in range(20):
            offsets = writer.commit([append(bytes(200_000))])
            writer.trim("steps", 0, offsets[-1] - 2)
        writer.tidy()
        return os.path.getsize(tmp_path / "gateway.sqlite")

    first = max(write_and_trim(), 5_000_000)
    for _ in range(3):
        assert write_and_trim() <= first


def test_a_closed_reader_says_so(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    log.writer("gateway").close()
    reader = log.reader()
    reader.close()
    with pytest.raises(LogError, match="closed"):
        reader.fetch("steps", 0, 0)
