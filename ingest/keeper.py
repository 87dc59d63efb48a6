"""The keeper: takes what was deleted out of the archive, drops what is too old, and keeps the record of both.

A deletion hides a session at once (`ingest.deletions`); the keeper makes it true of the bytes. For every tombstone it
looks through the chains of the session's partition, puts shards without the session's entries in the place of those
that have some, and removes the old files once no reader can stand in them any more. It is done with a session when the
archive has passed everything that the session ever put into the log, and holds none of it.

What it has done stands in its writer's state, each step before and after it is taken: killed at any point it goes on,
and the certificate misses nothing. Entries keep their places, so positions and draws of all others stay what they are.
A shard that somebody brings back (a compaction that was asleep) is looked through again, against all tombstones.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from ingest.certificates import ERASURE_PREFIX, KEEPER, Erasure, decode_erasure, erasure_key
from ingest.errors import IngestError, LogLocked, LogUnavailable
from ingest.keeper_look import Look
from ingest.keeper_places import Runs, samples_in_log, united
from ingest.keeper_shards import CLOCKS, Partition
from ingest.log import Append, Log, LogReader, LogWriter
from ingest.records import session_deleted
from ingest.shards import ShardStore
from ingest.types import CERTIFICATES, DEAD, DELETIONS, SAMPLES, STEPS, Position

logger = logging.getLogger(__name__)

FEED_PREFIX = "feed/"
AUDIT_SECONDS = 60.0
"""Between two looks for shards that bring back what was deleted."""
_RETRY_SECONDS = 30.0
"""After a failure, and while another keeper is at work."""


class KeepingSettings(BaseModel):
    """What is done about deletions and old shards. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval: PositiveFloat = Field(2.0, description="between two looks for deletions and old shards")
    linger: NonNegativeFloat = Field(
        600.0, description="a shard that was replaced is removed after so long: longer than any reader may stand in it"
    )
    grace: NonNegativeFloat = Field(
        5.0, description="a deletion's commit, and those before it, are visible after so long"
    )
    archive_max_age: PositiveFloat | None = Field(
        None, description="shards whose newest record is older lose all their entries; none: they are kept for ever"
    )
    log_ages: Mapping[str, float | None] = Field(
        {}, description="the retention by age of the log's topics; filled in from their own settings"
    )


class KeeperHealth(msgspec.Struct, frozen=True):
    """How many sessions were deleted and may still be in the archive, hidden; the oldest of these requests in seconds."""

    time: float
    pending: int = 0
    pending_seconds: float = 0.0
    erased: int = 0
    """Sessions of which the archive is clean."""


class Keeper:
    """Keeps one archive, and what was reannotated beside it. Runs in the thread that calls `run`.

    One keeper works on a log at a time; others wait until it ends.
    """

    def __init__(self, log: Log, store: ShardStore, settings: KeepingSettings | None = None) -> None:
        self._log, self._store = log, store
        self.settings = settings or KeepingSettings()
        self.health: KeeperHealth | None = None
        """As of the last look; None before that, and while another keeper is at work. May be read from any thread."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. What fails is logged and tried again: nothing else waits for the keeper."""
        while not stop.is_set():
            try:
                with self.working() as work:
                    while not stop.is_set():
                        work.turn(stop)
                        self.health = work.health
                        stop.wait(self.settings.interval)
            except LogLocked:
                self.health = None
                logger.debug("another keeper is at work")
            except (IngestError, OSError) as error:
                logger.error("the keeper failed, and tries again in %g s: %s", _RETRY_SECONDS, error)
            except Exception:
                logger.exception("the keeper met a bug, and tries again in %g s", _RETRY_SECONDS)
            stop.wait(_RETRY_SECONDS)

    @contextlib.contextmanager
    def working(self) -> Iterator[Work]:
        """The keeper at work. Raises `LogLocked` while another one is."""
        store = self._store.for_writing(self._log)
        with contextlib.closing(self._log.writer(KEEPER)) as writer, contextlib.closing(self._log.reader()) as reader:
            yield Work(self._log, writer, reader, store, self.settings)


class Work:
    """What a keeper knows and does while it holds the writer."""

    def __init__(
        self,
        log: Log,
        writer: LogWriter,
        reader: LogReader,
        store: ShardStore,
        settings: KeepingSettings,
    ) -> None:
        self._log, self._writer, self._reader, self._store, self._settings = log, writer, reader, store, settings
        self._partitions = range(reader.partitions(STEPS))
        feed = writer.state(FEED_PREFIX)
        self._feed = {number: int(feed.get(f"{FEED_PREFIX}{number}", b"0")) for number in self._partitions}
        stored = map(decode_erasure, writer.state(ERASURE_PREFIX).values())
        self.erasures = {each.session_id: each for each in stored}
        self._audits = dict.fromkeys(self._partitions, 0.0)
        self._at = {number: Partition(store, number, settings.linger) for number in self._partitions}

    @property
    def pending(self) -> list[Erasure]:
        """What the archive may still hold."""
        return [each for each in self.erasures.values() if each.erased_at is None]

    @property
    def health(self) -> KeeperHealth:
        """How far it is."""
        now, pending = time.time(), self.pending
        waited = max((now - each.requested_at for each in pending), default=0.0)
        return KeeperHealth(now, len(pending), max(0.0, waited), len(self.erasures) - len(pending))

    def turn(self, stop: threading.Event | None = None) -> None:
        """Look for deletions once, and do what can be done about them now."""
        self._take_notice()
        look = Look(self._log, self._reader, self._store)
        for number in self._partitions:
            if stop is None or not stop.is_set():
                self._keep(number, look)

    def _keep(self, number: int, look: Look) -> None:
        """All that is to be done in one partition."""
        here, mine = self._at[number], [each for each in self.erasures.values() if each.tombstone.partition == number]
        pending = [each for each in mine if each.erased_at is None]
        for session_id, shards in here.unfinished(pending).items():
            self._change(session_id, shards=shards)
        if pending:
            self._find_ends(number, pending, look)
            pending = [self.erasures[each.session_id] for each in pending]
            # before the shards are looked through, or that may miss some
            passed = [each.session_id for each in pending if _archived(each, look)]
            here.erase(pending, lambda session_id, shards: self._change(session_id, shards=shards), self._note_places)
            for session_id in passed:
                self._note_removed(here, self.erasures[session_id])
                if here.clean(session_id):
                    self._finish(session_id)
        if time.monotonic() >= self._audits[number]:
            self._audits[number] = time.monotonic() + AUDIT_SECONDS
            here.audit([each.session_id for each in mine])
        if self._settings.archive_max_age is not None:
            here.expire(time.time() - self._settings.archive_max_age)
        if here.replaced:
            here.retire()
        for each in mine:
            self._forget(self.erasures[each.session_id], look)

    def _take_notice(self) -> None:
        for number, offset in self._feed.items():
            fetched = self._reader.fetch(DELETIONS, number, offset)
            state: dict[str, bytes | None] = {}
            for record in fetched.records:
                deleted = session_deleted(record)
                if deleted.session_id not in self.erasures:
                    place = Position(DELETIONS, number, record.offset, 0)
                    erasure = Erasure(deleted.deletion, deleted.session_id, place, deleted.time, deleted.opened_at)
                    state |= self._stored(erasure)
                    logger.info("%s: session %s is to be erased", deleted.deletion, deleted.session_id)
            if fetched.records:
                state[f"{FEED_PREFIX}{number}"] = str(fetched.next_offset).encode()
                self._writer.commit((), state)
            self._feed[number] = fetched.next_offset

    def _note_removed(self, here: Partition, erasure: Erasure) -> None:
        """Note which of the old files are gone."""
        shards = tuple(
            msgspec.structs.replace(each, removed_at=time.time())
            if each.removed_at is None and here.gone(each)
            else each
            for each in erasure.shards
        )
        if shards != erasure.shards:
            self._change(erasure.session_id, shards=shards)

    def _note_places(self, places: Mapping[str, Runs]) -> None:
        """Note where samples stand that are about to be lost."""
        for session_id, runs in places.items():
            known = self.erasures[session_id].samples_at
            if (all_of_them := united(known, runs)) != known:
                self._change(session_id, samples_at=all_of_them)

    def _find_ends(self, number: int, pending: Sequence[Erasure], look: Look) -> None:
        """Find out below which offsets everything lies that the sessions ever put into the log, and note where."""
        now = time.time()
        ripe = [each for each in pending if STEPS not in each.ends and now >= each.requested_at + self._settings.grace]
        if ripe:
            end = self._reader.ends(STEPS)[number]  # beyond transactions that a broker has not completed yet
            for each in ripe:
                self._change(each.session_id, ends={STEPS: end})
        known = {each.session_id: self.erasures[each.session_id].ends for each in pending}
        waiting = {name: ends[STEPS] for name, ends in known.items() if STEPS in ends and SAMPLES not in ends}
        done = [name for name, end in waiting.items() if look.annotated(number, end)]  # then no more comes of it
        if not done:
            return
        ends = {topic: self._reader.ends(topic)[number] for topic in (SAMPLES, DEAD)}
        since = min((self.erasures[name].opened_at or 0.0) for name in done) - CLOCKS
        try:
            places = samples_in_log(self._reader, number, done, since, ends[SAMPLES])
        except LogUnavailable as error:  # the next look tries again
            logger.warning("it cannot be told yet where samples of deleted sessions stand: %s", error)
            return
        for name in done:
            runs = united(self.erasures[name].samples_at, places.get(name, ()))
            self._change(name, ends={STEPS: waiting[name], **ends}, samples_at=runs)

    def _finish(self, session_id: str) -> None:
        now, ages = time.time(), [self._settings.log_ages.get(topic) for topic in (STEPS, SAMPLES, DEAD)]
        known = [age for age in ages if age is not None]
        gone_by = now + max(known) if len(known) == len(ages) else None
        self._change(session_id, final=True, erased_at=now, log_gone_by=gone_by)
        logger.info("the archive is clean of session %s", session_id)

    def _forget(self, erasure: Erasure, look: Look) -> None:
        """Note when the log has forgotten its copy."""
        number = erasure.tombstone.partition
        if erasure.erased_at is None or erasure.log_gone_at is not None:
            return
        if all(look.forgotten(topic, number, end) for topic, end in erasure.ends.items()):
            self._change(erasure.session_id, final=True, log_gone_at=time.time())

    def _change(self, session_id: str, *, final: bool = False, **changes: object) -> None:
        """Store an erasure with some changes; a final one is appended to the certificates as well."""
        erasure = msgspec.structs.replace(self.erasures[session_id], **changes)
        steps, samples = (
            sum(each.entries for each in erasure.shards if each.topic == topic) for topic in (STEPS, SAMPLES)
        )
        erasure = msgspec.structs.replace(erasure, steps=steps, samples=samples)
        appends = []
        if final:
            number, value = erasure.tombstone.partition, msgspec.msgpack.encode(erasure)
            appends = [Append(CERTIFICATES, number, session_id, value, time.time())]
        self._writer.commit(appends, self._stored(erasure))

    def _stored(self, erasure: Erasure) -> dict[str, bytes | None]:
        self.erasures[erasure.session_id] = erasure
        return {erasure_key(erasure.deletion, erasure.session_id): msgspec.msgpack.encode(erasure)}


def _archived(erasure: Erasure, look: Look) -> bool:
    """Whether everything that a session ever put into the log is archived."""
    number, ends = erasure.tombstone.partition, erasure.ends
    return SAMPLES in ends and all(look.archived(topic, number, ends[topic]) for topic in (STEPS, SAMPLES))
