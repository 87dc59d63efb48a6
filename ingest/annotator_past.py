"""Reads an episode's steps again, from the log or below its start from the archive, to annotate a dead letter anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ingest.annotator import Annotator, AnnotatorFactory, Members, SessionAware, checked
from ingest.errors import AnnotatorError, OffsetOutOfRange, StepRejected
from ingest.log import LogReader
from ingest.records import session_record
from ingest.shard_reader import ShardChain
from ingest.shards import ShardStore
from ingest.types import STEPS, DeadLetter, Point, SessionRecord, Step, StepsAppended

logger = logging.getLogger(__name__)


class Past:
    """The records of one partition of `steps` that have been."""

    def __init__(self, reader: LogReader, archive: ShardStore | None, partition: int) -> None:
        self._reader, self._archive, self._partition = reader, archive, partition

    def steps(self, session_id: str, start: Point, end: Point) -> Iterator[Step]:
        """A session's steps from `start` on, before `end`. Raises `AnnotatorError` where they are kept nowhere."""
        for point, record in self._records(start, end):
            if record.session_id == session_id and isinstance(record, StepsAppended):
                for index, step in enumerate(record.steps, point[1]):
                    if start <= (point[0], index) < end:
                        yield step

    def _records(self, start: Point, end: Point) -> Iterator[tuple[Point, SessionRecord]]:
        first = self._reader.bounds(STEPS, self._partition).start
        if start[0] < first:
            yield from self._archived(start, min(end, (first, 0)))
        yield from self._logged(max(start, (first, 0)), end)

    def _logged(self, start: Point, end: Point) -> Iterator[tuple[Point, SessionRecord]]:
        offset = start[0]
        while (offset, 0) < end:
            fetched = self._reader.fetch(STEPS, self._partition, offset)
            for record in fetched.records:
                if (record.offset, 0) >= end:
                    return
                yield (record.offset, 0), session_record(record)
            if not fetched.records:
                return
            offset = fetched.next_offset

    def _archived(self, start: Point, end: Point) -> Iterator[tuple[Point, SessionRecord]]:
        chain = None if self._archive is None else ShardChain(self._archive, STEPS, self._partition)
        if chain is None or chain.first_offset is None or chain.first_offset > start[0]:
            raise AnnotatorError(
                f"the episode began at offset {start[0]} of {STEPS}/{self._partition}, which neither the log nor the "
                "archive holds any more; this dead letter cannot be retried"
            )
        for position, record in chain.records(start):
            point = (position.offset, position.index)
            if point >= end:
                return
            yield point, record


def annotated_again(letter: DeadLetter, factory: AnnotatorFactory, past: Past) -> list[Members]:
    """What the present annotator makes of a dead letter, after it was fed the episode's steps before it.

    Steps that it fails on again on the way are passed over, as they were, and those that the gateway rejected. One that
    broke only its app's schema is fed to the annotator when its own letter is retried: whoever retries it says that it
    is right. Raises what it raises over the letter's own, `StepRejected` where the step cannot be read, and
    `AnnotatorError` where the episode cannot be read any more.
    """
    rejected = letter.step.rejected
    if rejected is not None and rejected.original is not None:
        raise StepRejected(rejected.reason, rejected.pointer, rejected.detail)
    step, source = letter.step, (letter.source.offset, letter.source.index)
    annotator: Annotator = factory()
    start = letter.episode if letter.episode is not None else source
    if isinstance(annotator, SessionAware) and letter.opened is not None:
        annotator.on_open(letter.opened)
    try:
        for before in past.steps(step.session_id, start, source):
            if before.rejected is None:
                _feed(annotator, before)
    except OffsetOutOfRange as trimmed:
        raise AnnotatorError(f"the episode was trimmed while it was read again ({trimmed})") from trimmed
    return checked(annotator.on_end() if letter.at_end else annotator.on_step(step))


def _feed(annotator: Annotator, step: Step) -> None:
    try:
        checked(annotator.on_step(step))
    except Exception:
        logger.debug("%s/%d fails again on the way to a dead letter", step.session_id, step.seq, exc_info=True)
