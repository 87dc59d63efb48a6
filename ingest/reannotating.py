"""Runs a newer annotator over archived steps: new samples, in an archive of their own beside the old one.

One partition after the other, in order, by the same lane as the annotator in the log. A sample stands at the offset of
the step record that it was made of. Where the chain of what was made ends is where it goes on, after a crash too: the
steps before are looked through for episodes that were open there, and those are fed again, without being put out. So
each archived step gets its samples once, however often this is begun; steps that are archived later come with the next
run. What was deleted is not in the steps any more, or is left out here.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence

import msgspec

from ingest.annotator import AnnotatorFactory
from ingest.annotator_lane import Lane
from ingest.annotator_state import OpenSession, Progress
from ingest.entries import Entry, sample_entry
from ingest.errors import ShardError
from ingest.log import Append, Record
from ingest.records import decode_annotated, decode_dead_letter
from ingest.shard_reader import ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import ShardStore, chain_folder
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    DeadLetter,
    Point,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    StepRetried,
    StepsAppended,
)

logger = logging.getLogger(__name__)

Tell = Callable[[DeadLetter], None]


class Reannotated(msgspec.Struct):
    """What one run did; `end` is the offset of steps up to which a partition is done."""

    records: int = 0
    steps: int = 0
    samples: int = 0
    dead: int = 0
    shards: int = 0
    end: int = 0


class Limits(msgspec.Struct, frozen=True):
    """When a shard is full."""

    max_bytes: int = 64 << 20
    max_count: int = 10_000


def reannotate(
    archive: ShardStore,
    target: ShardStore,
    partition: int,
    factory: AnnotatorFactory,
    *,
    deleted: Container[str] = (),
    limits: Limits | None = None,
    tell: Tell = lambda letter: None,
) -> Reannotated:
    """Annotate what is archived of one partition of `steps`, from where `target` ends.

    `tell` hears of steps that the annotator fails on. Raises `ShardError` where another run is at work on `target`.
    """
    limits, done = limits or Limits(), Reannotated()
    target.clean(chain_folder(SAMPLES, partition))
    steps = ShardChain(archive, STEPS, partition)
    first, until = steps.first_offset, steps.next_offset
    if first is None or until is None:
        return done
    begin = done.end = ShardChain(target, SAMPLES, partition).next_offset or first
    if begin >= until:
        return done
    lane = _lane_at(steps, partition, begin, factory, deleted)
    writer: ShardWriter | None = None
    try:
        for record in _records(steps, (lane.cursor, 0), until):
            for _ in lane.take(record):
                pass
            appends = lane.gather({})
            if record.offset < begin:
                continue
            writer = writer or ShardWriter(target, SAMPLES, partition, done.end)
            _put(writer, record, appends, done, tell)
            if writer.size >= limits.max_bytes or writer.rows >= limits.max_count:
                _publish(writer, record.offset + 1, done)
                writer = None
        if done.end < until:
            writer = writer or ShardWriter(target, SAMPLES, partition, done.end)
            _publish(writer, until, done)
            writer = None
    finally:
        if writer is not None:
            writer.discard()
    done.steps, done.dead = lane.counters.steps, lane.counters.dead
    return done


def _put(writer: ShardWriter, record: Record, appends: Sequence[Append], done: Reannotated, tell: Tell) -> None:
    """The samples of one record of steps, at its offset."""
    done.records += 1
    for entry in _entries(record, appends, tell):
        writer.add(entry)
        done.samples += 1
    writer.record(record.offset, record.time)


def _entries(record: Record, appends: Sequence[Append], tell: Tell) -> Iterator[Entry]:
    numbers = itertools.count()
    for append in appends:
        if append.topic == DEAD:
            tell(decode_dead_letter(append.value))
            continue
        for sample in decode_annotated(append.value).samples:
            yield sample_entry(sample, record.offset, next(numbers))


def _publish(writer: ShardWriter, end: int, done: Reannotated) -> None:
    now = time.time()
    writer.cover(end, writer.oldest_time or now, writer.newest_time or now)
    if not writer.publish():
        raise ShardError(f"{writer.name} is there already: another run reannotates into this archive; let it finish")
    done.shards += 1
    done.end = end


def _lane_at(steps: ShardChain, partition: int, begin: int, factory: AnnotatorFactory, deleted: Container[str]) -> Lane:
    """A lane that stands at an offset, with the sessions that are open there, to be fed again from their episodes on."""
    sessions: dict[str, OpenSession] = {}
    for position, record in steps.records():
        if position.offset >= begin:
            break
        _follow(sessions, record, (position.offset, position.index))
    starts = [each.start for each in sessions.values() if each.start is not None]
    progress = Progress(min(starts, default=(begin, 0)), (begin, 0))
    return Lane(partition, factory, progress, sessions, lambda *_: True, deleted=deleted)


def _follow(sessions: dict[str, OpenSession], record: SessionRecord, point: Point) -> None:
    """Which sessions are open after a record, and where their episodes began."""
    if isinstance(record, SessionOpened):
        sessions.setdefault(record.session_id, OpenSession(opened=record))
    elif isinstance(record, (SessionEnded, SessionDeleted)):
        sessions.pop(record.session_id, None)
    elif isinstance(record, StepsAppended):
        session = sessions.setdefault(record.session_id, OpenSession())
        for step in record.steps:
            if session.start is None or step.is_reset:
                session.start = point


def _records(steps: ShardChain, start: Point, until: int) -> Iterator[Record]:
    """The records of the log as they were, put together again from their entries."""
    rows = itertools.takewhile(lambda row: row[0].offset < until, steps.records(start))
    for offset, group in itertools.groupby(rows, key=lambda row: row[0].offset):
        records = [record for _, record in group]
        first = records[0]
        if isinstance(first, StepsAppended):
            whole: SessionRecord = msgspec.structs.replace(
                first, steps=tuple(step for each in records if isinstance(each, StepsAppended) for step in each.steps)
            )
            taken = first.steps[0].received_at
        else:
            whole, taken = first, first.time
        if isinstance(whole, StepRetried):
            continue  # the step itself stands where it stood
        yield Record(STEPS, steps.partition, offset, whole.session_id, msgspec.msgpack.encode(whole), taken)
