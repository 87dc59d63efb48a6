"""A log with sessions, annotated and archived, and a keeper to be driven by hand; for tests of deletion."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from ingest.annotator_state import annotator_progress
from ingest.annotator_worker import AnnotatorWorker
from ingest.archive_lane import ArchiverSettings
from ingest.archiver import Archiver
from ingest.entries import session_of
from ingest.keeper import Keeper, KeepingSettings, Work
from ingest.log import Log, LogReader, next_record
from ingest.shard_reader import ShardChain, archived_before
from ingest.shards import ShardStore
from ingest.types import SAMPLES, STEPS
from tests.ingest.visits import Telling
from tests.waiting import until

AT_ONCE = KeepingSettings(interval=0.01, linger=0.0, grace=0.0)
SMALL = ArchiverSettings(max_count=7, max_age=0.05, poll_interval=0.005)


@contextmanager
def annotating(log: Log, factory: object = Telling, store: ShardStore | None = None) -> Iterator[AnnotatorWorker]:
    """An annotator at work in a thread; on leaving it has annotated everything that was there."""
    stop, failed = threading.Event(), list[BaseException]()
    worker = AnnotatorWorker(log, factory, archive=store)  # type: ignore[arg-type]

    def work() -> None:
        try:
            worker.run(stop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield worker
        with closing(log.reader()) as reader:
            until(lambda: bool(failed) or annotated_all(log, reader), "everything is annotated", every=0.1)
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def annotated_all(log: Log, reader: LogReader) -> bool:
    progress = annotator_progress(log)
    return all(
        (end := reader.bounds(STEPS, number).end) == 0
        or (number in progress and next_record(reader, STEPS, number, progress[number].done[0]) >= end)
        for number in range(reader.partitions(STEPS))
    )


def archive(log: Log, store: ShardStore, settings: ArchiverSettings = SMALL) -> None:
    """Archive everything that is in the log."""
    stop = threading.Event()
    thread = threading.Thread(target=Archiver(log, store, settings).run, args=(stop,))
    thread.start()
    try:
        with closing(log.reader()) as reader:
            until(lambda: archived_all(reader, store), "everything is archived", every=0.1)
    finally:
        stop.set()
        thread.join()


def archived_all(reader: LogReader, store: ShardStore) -> bool:
    return all(
        next_record(reader, topic, number, archived_before(store, topic, number)) >= reader.bounds(topic, number).end
        for topic in (STEPS, SAMPLES)
        for number in range(reader.partitions(topic))
    )


def process(log: Log, store: ShardStore, settings: ArchiverSettings = SMALL) -> None:
    """Annotate and archive everything that is in the log."""
    with annotating(log):
        pass
    archive(log, store, settings)


def keep(log: Log, store: ShardStore, settings: KeepingSettings = AT_ONCE, turns: int = 6) -> Work:
    """A few turns of the keeper."""
    with Keeper(log, store, settings).working() as work:
        for _ in range(turns):
            work.turn()
            time.sleep(0.001)  # what was replaced has to be older than the linger, be it 0
    return work


def sessions_in(store: ShardStore, topic: str, partitions: int) -> set[str]:
    """Whose entries the archive holds, tombstones apart."""
    return {
        session_of(entry.key)
        for number in range(partitions)
        for entry in ShardChain(store, topic, number).entries()
        if not entry.key.endswith("/deleted")
    }


def names(store: ShardStore, topics: Iterable[str], partitions: int) -> list[str]:
    """All files of the archive, on the chains or off them."""
    return [name for topic in topics for number in range(partitions) for name in store.names(f"{topic}/{number}")]
