"""One partition's way through the annotator: sessions, episodes, outcomes, and the point where it stands.

Everything up to `done` has its recorded outcome. After a crash the partition is read again from the restart point, the
first step of the oldest episode that was open; up to `done` its steps only rebuild the annotators' state.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Container, Iterator, Mapping

import msgspec

from ingest.annotator import Annotator, AnnotatorFactory, Members, SessionAware, checked
from ingest.annotator_past import Past, annotated_again
from ingest.annotator_state import OpenSession, Progress
from ingest.errors import AnnotatorError, StepRejected
from ingest.log import Append, Record
from ingest.records import session_record
from ingest.retention import loss
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    Annotated,
    DeadLetter,
    Point,
    Position,
    Sample,
    SessionDeleted,
    SessionEnded,
    Step,
    StepOutcome,
    StepRetried,
    StepsAppended,
)

logger = logging.getLogger(__name__)

_RECORD_BYTES = 500_000
"""Bytes of samples after which a record is closed, within a long record of steps; Kafka takes up to 1 MiB."""
_PROBLEM_LENGTH = 4000
_ENVELOPE_BYTES = 64 << 10
"""Of a record of samples beside their members, and beside the outcomes of steps that gave none; generously."""


class _Live:
    """An open session in memory."""

    __slots__ = ("annotator", "next_seq", "stored", "version")

    def __init__(self, stored: OpenSession) -> None:
        self.stored = stored
        self.annotator: Annotator | None = None
        self.next_seq = 0
        self.version: str | None = None


class Counters:
    """What was done since the start of the process."""

    def __init__(self) -> None:
        self.steps = self.samples = self.empty = self.dead = 0


class Lane:
    """Takes the records of one partition in order, and gathers what is to be committed.

    `spare(partition, point, replayed)` is asked before a step is given to an annotator; where it says no, the step is
    passed over, as a dead letter. Steps of sessions in `deleted` come to nothing. `past` gives records again, for dead
    letters that are retried. `busy_since` (by the monotonic clock) tells that an annotator is at work.
    """

    def __init__(
        self,
        partition: int,
        factory: AnnotatorFactory,
        progress: Progress,
        sessions: Mapping[str, OpenSession],
        spare: Callable[[int, Point, bool], bool],
        max_record_bytes: int = 1 << 30,
        deleted: Container[str] = (),
        past: Past | None = None,
    ) -> None:
        self.partition = partition
        self.done = progress.done
        self.cursor = progress.restart[0]
        self.counters = Counters()
        self.busy_since: float | None = None
        self._committed = progress
        self._factory = factory
        self._spare = spare
        self._deleted = deleted
        self._past = past
        self._largest = max_record_bytes - _ENVELOPE_BYTES
        self._sessions = {key: _Live(stored) for key, stored in sessions.items()}
        starts = [(stored.start, key) for key, stored in sessions.items() if stored.start is not None]
        self._starts: dict[str, Point] = {key: start for start, key in sorted(starts)}
        self._dirty: set[str] = set()
        self._appends: list[Append] = []
        self._outcomes: list[StepOutcome] = []
        self._samples: list[Sample] = []
        self._session_id = ""
        self._trace: str | None = None
        self._record_bytes = 0
        self.pending_bytes = 0
        self.oldest_pending = float("inf")

    @property
    def progress(self) -> Progress:
        """Where it stands now. Episodes begin in order, so the first that is open is the oldest."""
        return Progress(next(iter(self._starts.values()), self.done), self.done)

    @property
    def open_sessions(self) -> int:
        """How many sessions have neither ended nor timed out."""
        return len(self._sessions)

    @property
    def moved(self) -> bool:
        """Whether there is anything to commit."""
        return self.done != self._committed.done

    def take(self, record: Record) -> Iterator[None]:
        """Work through one record; yields after every step, when what is gathered may be committed."""
        if (record.offset + 1, 0) <= self.done:
            yield from self._replay(record)
            return
        value = session_record(record)
        self.oldest_pending = min(self.oldest_pending, record.time)
        self._session_id = value.session_id
        self._trace = value.traceparent if isinstance(value, StepsAppended) else None
        if isinstance(value, StepsAppended):
            for index, step in enumerate(value.steps):
                point = (record.offset, index)
                if point < self.done:
                    self._replay_step(step, point)
                else:
                    self._step(step, point)
                    self.done = (record.offset, index + 1)
                yield
        elif isinstance(value, SessionEnded):
            self._end(value, (record.offset, 0))
        elif isinstance(value, SessionDeleted):
            self._drop(value.session_id)
        elif isinstance(value, StepRetried):
            self._retry(value, (record.offset, 0))
        elif value.session_id not in self._sessions and value.session_id not in self._deleted:
            self._sessions[value.session_id] = _Live(OpenSession(opened=value))
            self._dirty.add(value.session_id)
        self._close_record()
        self.done = (record.offset + 1, 0)

    def pass_lost(self, start: int) -> None:
        """The log has nothing before `start` any more: go on there. What had no outcome by now will never have one."""
        if self.done < (start, 0):
            logger.error("%s", loss(STEPS, self.partition, self.done[0], start, "annotated"))
            self.done = (start, 0)
        self.cursor = start

    def gather(self, state: dict[str, bytes | None]) -> list[Append]:
        """Hand over what is to be appended, and add to `state` what is to be stored with it."""
        self._close_record()
        progress = self.progress
        state[f"position/{self.partition}"] = msgspec.msgpack.encode(progress)
        for key in self._dirty:
            session = self._sessions.get(key)
            stored = None if session is None else msgspec.msgpack.encode(session.stored)
            state[f"session/{self.partition}/{key}"] = stored
        appends, self._appends = self._appends, []
        self._dirty.clear()
        self._committed = progress
        self.pending_bytes = 0
        self.oldest_pending = float("inf")
        return appends

    def _replay(self, record: Record) -> Iterator[None]:
        """A record whose outcomes stand: its steps matter only to episodes that are still open."""
        session = self._sessions.get(record.key)
        if session is None or session.stored.start is None or record.offset < session.stored.start[0]:
            return
        value = session_record(record)
        if isinstance(value, StepsAppended):
            for index, step in enumerate(value.steps):
                self._replay_step(step, (record.offset, index))
                yield

    def _replay_step(self, step: Step, point: Point) -> None:
        session = self._sessions.get(step.session_id)
        if session is None or session.stored.start is None or point < session.stored.start:
            return
        session.next_seq, session.version = step.seq + 1, step.model_version
        if step.seq in session.stored.lethal or step.rejected is not None:
            return
        if not self._spare(self.partition, point, True):
            self._pass_over(session, step)
            return
        try:
            self._feed(session, step)
        except Exception:
            logger.debug("%s/%d fails again while its episode is replayed", step.session_id, step.seq, exc_info=True)

    def _step(self, step: Step, point: Point) -> None:
        if step.session_id in self._deleted:
            self._drop(step.session_id)
            self._put(step, [])
            return
        session = self._sessions.get(step.session_id)
        if session is None:
            session = self._sessions[step.session_id] = _Live(OpenSession())
        if step.seq < session.next_seq:
            logger.warning("%s/%d stands twice in the log: the second is left out", step.session_id, step.seq)
            return
        spared = step.rejected is not None or self._spare(self.partition, point, False)
        if not spared and step.is_reset:
            session.annotator = None  # it may be the end of the episode before that kills
        ended: list[Members] = []
        if session.annotator is None or step.is_reset:
            ended = self._begin_episode(session, step, point)
        session.next_seq, session.version = step.seq + 1, step.model_version
        try:
            if step.rejected is not None:
                raise StepRejected(step.rejected.reason, step.rejected.pointer, step.rejected.detail)
            if not spared:
                self._pass_over(session, step)
                raise AnnotatorError("the process died each time that this step was annotated; it is passed over")
            outputs = self._feed(session, step)
        except Exception as error:
            self._bury(step, point, error, session.stored, len(ended))
            self._put(step, ended, dead=True)
        else:
            self._put(step, ended + outputs)

    def _begin_episode(self, session: _Live, step: Step, point: Point) -> list[Members]:
        """End the episode before, whose last samples go with this step, and begin the next here."""
        ended = self._finish(session, step, point)
        session.annotator = None
        session.stored.start = point
        session.stored.lethal = ()
        self._starts.pop(step.session_id, None)
        self._starts[step.session_id] = point
        self._dirty.add(step.session_id)
        return ended

    def _feed(self, session: _Live, step: Step) -> list[Members]:
        self.busy_since = time.monotonic()
        try:
            if session.annotator is None:
                annotator = self._factory()
                if session.stored.opened is not None and isinstance(annotator, SessionAware):
                    annotator.on_open(session.stored.opened)
                session.annotator = annotator
            return self._storable(checked(session.annotator.on_step(step)))
        finally:
            self.busy_since = None

    def _storable(self, outputs: list[Members]) -> list[Members]:
        """The outputs of one step, which the log keeps in one record."""
        size = sum(len(name) + len(value) for members in outputs for name, value in members.items())
        if size > self._largest:
            raise AnnotatorError(
                f"the samples of one step have {size} bytes, more than the {self._largest} that the log takes in a "
                "record; make fewer or smaller ones"
            )
        return outputs

    def _pass_over(self, session: _Live, step: Step) -> None:
        """Remember not to feed this step, also when its episode is replayed."""
        session.stored.lethal = (*session.stored.lethal, step.seq)
        self._dirty.add(step.session_id)

    def _finish(self, session: _Live, at: Step, point: Point, *, spared: bool = True) -> list[Members]:
        """The last samples of an episode; `at` stands one past its last step."""
        try:
            if not spared:
                raise AnnotatorError("the process died each time that this episode ended; its last samples are lost")
            self.busy_since = time.monotonic()
            return self._storable(checked(session.annotator.on_end())) if session.annotator is not None else []
        except Exception as error:
            end = Step(at.session_id, at.seq, at.time, at.received_at, model_version=session.version)
            self._bury(end, point, error, session.stored, at_end=True)
            return []
        finally:
            self.busy_since = None

    def _end(self, ended: SessionEnded, point: Point) -> None:
        session = self._sessions.get(ended.session_id)
        if session is None:
            return
        at = Step(ended.session_id, ended.next_seq, ended.time, ended.time, model_version=session.version)
        outputs = self._finish(session, at, point, spared=self._spare(self.partition, point, False))
        for index, members in enumerate(outputs):
            self._keep(at, index, members)
        del self._sessions[ended.session_id]
        self._starts.pop(ended.session_id, None)
        self._dirty.add(ended.session_id)

    def _drop(self, session_id: str) -> None:
        """Forget a session that was deleted: its open episode ends without a trace."""
        if self._sessions.pop(session_id, None) is not None:
            self._starts.pop(session_id, None)
            self._dirty.add(session_id)

    def _retry(self, retried: StepRetried, point: Point) -> None:
        """Annotate a dead letter again; what comes of it takes the place of its outcome before."""
        letter, attempt = retried.letter, retried.letter.attempts + 1
        if letter.step.session_id in self._deleted or self._past is None:
            return
        try:
            if not self._spare(self.partition, point, False):
                raise AnnotatorError("the process died each time that this dead letter was retried; it is passed over")
            self.busy_since = time.monotonic()
            outputs = annotated_again(letter, self._factory, self._past)
        except Exception as error:
            context = OpenSession(letter.opened, letter.episode)
            self._bury(letter.step, point, error, context, letter.samples, letter.at_end, retried)
            self._put(letter.step, [], dead=True, attempt=attempt)
        else:
            self._put(letter.step, outputs, attempt=attempt, first_index=letter.samples)
        finally:
            self.busy_since = None

    def _put(
        self, step: Step, outputs: list[Members], *, dead: bool = False, attempt: int = 1, first_index: int = 0
    ) -> None:
        """Record the outcome of one step."""
        size = sum(len(value) for members in outputs for value in members.values())
        if self._outcomes and self._record_bytes + size > self._largest:
            self._close_record()
        for index, members in enumerate(outputs, first_index):
            self._keep(step, index, members)
        self._outcomes.append(StepOutcome(step.seq, len(outputs), dead, attempt))
        self.counters.steps += 1
        self.counters.dead += dead
        self.counters.empty += not dead and not outputs
        if self._record_bytes >= _RECORD_BYTES:
            self._close_record()

    def _keep(self, step: Step, index: int, members: Members) -> None:
        sample = Sample(step.session_id, step.seq, index, step.received_at, members, step.model_version, self._trace)
        self._samples.append(sample)
        self._record_bytes += sum(map(len, members.values()))
        self.counters.samples += 1

    def _bury(
        self,
        step: Step,
        point: Point,
        error: Exception,
        context: OpenSession,
        samples: int = 0,
        at_end: bool = False,
        retried: StepRetried | None = None,
    ) -> None:
        if isinstance(error, StepRejected):  # the gateway's finding: where it was raised says nothing
            problem = str(error)[:_PROBLEM_LENGTH]
        else:
            problem = "".join(traceback.format_exception(error)).strip()[-_PROBLEM_LENGTH:]
        logger.warning("%s/%d is a dead letter: %s: %s", step.session_id, step.seq, type(error).__name__, error)
        source, attempts = Position(STEPS, self.partition, *point), 1
        if retried is not None:
            source, attempts = retried.letter.source, retried.letter.attempts + 1
        self._append(
            DEAD,
            DeadLetter(
                step,
                problem,
                source,
                time.time(),
                attempts,
                episode=context.start,
                samples=samples,
                at_end=at_end,
                opened=context.opened,
            ),
        )

    def _close_record(self) -> None:
        if self._outcomes or self._samples:
            self._append(SAMPLES, Annotated(self._session_id, tuple(self._outcomes), tuple(self._samples)))
            self._outcomes, self._samples, self._record_bytes = [], [], 0

    def _append(self, topic: str, value: Annotated | DeadLetter) -> None:
        session_id = value.session_id if isinstance(value, Annotated) else value.step.session_id
        data = msgspec.msgpack.encode(value)
        self._appends.append(Append(topic, self.partition, session_id, data, time.time(), self._trace))
        self.pending_bytes += len(data)
