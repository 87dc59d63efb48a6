"""The annotator's process: reads `steps`, feeds the app's annotators, writes `samples` and `dead`.

Outputs and input position are one commit. It commits as soon as there is nothing more to read, but not more often than
every `commit_interval`, so that a lone click waits for one fsync and a flood shares it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping

import msgspec
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt

from ingest.annotator import AnnotatorFactory
from ingest.annotator_caution import Caution
from ingest.annotator_lane import Lane
from ingest.annotator_past import Past
from ingest.annotator_state import ANNOTATOR, Progress, decode_open, decode_progress
from ingest.deletions import PASSING, Deletions
from ingest.errors import LogError, OffsetOutOfRange, ShardError, StoreError
from ingest.log import Append, Log
from ingest.retention import RetentionSettings
from ingest.shards import ShardStore
from ingest.trimming import Trimming
from ingest.types import DEAD, SAMPLES, STEPS

logger = logging.getLogger(__name__)

EVERYTHING = 1 << 62
"""A floor that holds nothing back."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at the lag."""


class AnnotatorSettings(BaseModel):
    """How steps become samples. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plugin: str = "ingest.annotator:PassThrough"
    """The app's annotator, `module:name`."""
    commit_interval: NonNegativeFloat = 0.02
    step_seconds: PositiveFloat = 120.0
    """An annotator that takes longer over one step is taken for hung, and its process is started again."""
    batch_bytes: PositiveInt = 4 << 20
    retention_interval: PositiveFloat = 60.0
    samples: RetentionSettings = RetentionSettings()
    dead: RetentionSettings = RetentionSettings(max_age=90 * 86_400.0, max_bytes=1 << 30)


class AnnotatorHealth(msgspec.Struct, frozen=True):
    """What the annotator did since it started, and how far it is behind; measured after the commit.

    `lag_offsets` are records of steps without an outcome, `lag_seconds` is the age of the oldest of them (0 if there
    is none), `delay_seconds` the time from the gateway's commit to the outcome's for the oldest step of the last one.
    """

    time: float
    steps: int = 0
    samples: int = 0
    empty: int = 0
    dead: int = 0
    commits: int = 0
    open_sessions: int = 0
    lag_offsets: int = 0
    lag_seconds: float = 0.0
    delay_seconds: float = 0.0


class AnnotatorWorker:
    """Annotates the partitions of one share of a log, in the thread that calls `run`.

    `archived` says below which offset of a partition of `samples` all is archived: retention stops there. Of steps that
    the log has forgotten, `archive` gives what a retried dead letter needs.
    """

    def __init__(
        self,
        log: Log,
        factory: AnnotatorFactory,
        settings: AnnotatorSettings | None = None,
        archived: Callable[[int], int] = lambda partition: 0,
        archive: ShardStore | None = None,
        share: int = 0,
    ) -> None:
        self._log, self._share = log, share
        self._factory = factory
        self._settings = settings or AnnotatorSettings()
        self._archived, self._archive = archived, archive
        self._commits = 0
        self._delay = 0.0
        self._last_commit = self._batch_began = self._last_look = self._last_trim = 0.0
        self._lanes: list[Lane] = []
        self.health = AnnotatorHealth(time.time())

    @property
    def busy_seconds(self) -> float:
        """How long an annotator has been at work on one step; 0 when none is. May be asked from another thread."""
        since = [began for lane in self._lanes if (began := lane.busy_since) is not None]
        return time.monotonic() - min(since) if since else 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what was annotated by then is committed. Errors of the log pass."""
        with contextlib.ExitStack() as stack:
            self._writer = stack.enter_context(contextlib.closing(self._log.writer(ANNOTATOR, self._share)))
            self._reader = stack.enter_context(contextlib.closing(self._log.reader()))
            self._deleted = stack.enter_context(contextlib.closing(Deletions(self._log).open(PASSING)))
            self._trimming = [
                stack.enter_context(
                    contextlib.closing(Trimming(self._log, self._writer, topic, settings, floor, self._share))
                )
                for topic, settings, floor in (
                    (SAMPLES, self._settings.samples, self._floor),
                    (DEAD, self._settings.dead, lambda partition: EVERYTHING),
                )
            ]
            self._open()
            while not stop.is_set():
                self._turn(stop)
            self._commit({"starts": None})

    def _open(self) -> None:
        state = self._writer.state()
        self._caution = Caution(self._writer, state, self._commit)
        self._lanes = [self._lane(partition, state) for partition in self._log.partitions_of(self._share)]

    def _lane(self, partition: int, state: Mapping[str, bytes]) -> Lane:
        stored = state.get(f"position/{partition}")
        bounds = self._reader.bounds(STEPS, partition)
        if stored is None:
            progress = Progress((bounds.start, 0), (bounds.start, 0))
        else:
            progress = decode_progress(stored)
        if progress.done[0] > bounds.end:
            raise LogError(
                f"{STEPS}/{partition} ends at {bounds.end}, but was annotated up to {progress.done[0]}: it is another "
                "log than before; restore it, or move the annotator's data away as well"
            )
        prefix = f"session/{partition}/"
        sessions = {
            key.removeprefix(prefix): decode_open(value) for key, value in state.items() if key.startswith(prefix)
        }
        past = Past(self._reader, self._archive, partition)
        largest = self._writer.max_record_bytes
        return Lane(partition, self._factory, progress, sessions, self._caution.spare, largest, self._deleted, past)

    def _turn(self, stop: threading.Event) -> None:
        """Read what there is once, of every partition, and commit or wait as is due."""
        moved = any([self._advance(lane, stop) for lane in self._lanes])
        now = time.monotonic()
        pending = self._pending
        rest = self._last_commit + self._settings.commit_interval - now
        if pending and rest <= 0:
            self._commit()
        elif not moved:
            if not pending:
                self._writer.tidy()
            self._reader.wait(rest if pending else 0.2)
        if now - self._last_look >= _LOOK_EVERY:
            self._last_look = now
            self._look()
        if now - self._last_trim >= self._settings.retention_interval:
            self._last_trim = now
            for trimming in self._trimming:
                trimming.run(time.time())

    @property
    def _pending(self) -> bool:
        return any(lane.moved for lane in self._lanes)

    def _advance(self, lane: Lane, stop: threading.Event) -> bool:
        try:
            fetched = self._reader.fetch(STEPS, lane.partition, lane.cursor, self._settings.batch_bytes)
        except OffsetOutOfRange as trimmed:  # by a hard limit of the brokers, for nobody here forgets what is needed
            lane.pass_lost(trimmed.start)
            return True
        for record in fetched.records:
            if not self._pending:
                self._batch_began = time.monotonic()
            for _ in lane.take(record):
                if stop.is_set():
                    return True
                self._commit_if_due()
        lane.cursor = fetched.next_offset
        return bool(fetched.records)

    def _commit_if_due(self) -> None:
        """Between two steps: commit a batch that is large, or that a slow annotator has held back for long."""
        full = sum(lane.pending_bytes for lane in self._lanes) >= self._settings.batch_bytes
        if full or time.monotonic() - self._batch_began >= self._settings.commit_interval:
            self._commit()

    def _commit(self, extra: Mapping[str, bytes | None] | None = None) -> None:
        """Put out what all partitions have gathered, with their positions, in one durable step."""
        lanes = [lane for lane in self._lanes if lane.moved]
        if not lanes and not extra:
            return
        oldest = min((lane.oldest_pending for lane in lanes), default=float("inf"))
        state: dict[str, bytes | None] = dict(extra or {})
        appends: list[Append] = []
        for lane in lanes:
            appends += lane.gather(state)
        if lanes:
            state |= self._caution.progressed()
        self._writer.commit(appends, state)
        self._last_commit = self._batch_began = time.monotonic()
        self._commits += 1
        if oldest != float("inf"):
            self._delay = time.time() - oldest

    def _look(self) -> None:
        """Measure how far the outcomes are behind."""
        now, behind, oldest = time.time(), 0, 0.0
        for lane in self._lanes:
            offset = lane.progress.done[0]
            bounds = self._reader.bounds(STEPS, lane.partition)
            offset, lag = max(offset, bounds.start), bounds.end - offset
            if lag > 0 and (waiting := self._reader.fetch(STEPS, lane.partition, offset, 1).records):
                behind += lag
                oldest = max(oldest, now - waiting[0].time)
        counters = [lane.counters for lane in self._lanes]
        self.health = AnnotatorHealth(
            time=now,
            steps=sum(counter.steps for counter in counters),
            samples=sum(counter.samples for counter in counters),
            empty=sum(counter.empty for counter in counters),
            dead=sum(counter.dead for counter in counters),
            commits=self._commits,
            open_sessions=sum(lane.open_sessions for lane in self._lanes),
            lag_offsets=behind,
            lag_seconds=oldest,
            delay_seconds=self._delay,
        )

    def _floor(self, partition: int) -> int:
        """The offset of `samples` below which all is archived."""
        try:
            return self._archived(partition)
        except (OSError, ShardError, StoreError) as error:
            logger.warning("samples/%d are not trimmed: the archive cannot be asked (%s)", partition, error)
            return 0  # annotating goes on without the archive; the log only grows meanwhile
