"""The shards of one partition, as the keeper sees them: which hold what was deleted, what took their place, what is old."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from ingest.certificates import Erasure, Rewritten
from ingest.entries import Entry, session_of
from ingest.errors import ShardError, ShardGone
from ingest.keeper_places import Runs, runs_of
from ingest.reannotated import generations
from ingest.replacing import replace, retire
from ingest.shard_reader import Shard, ShardChain
from ingest.shards import ShardStore, chain_folder, first_offset_of, generation_of, latest
from ingest.types import SAMPLES, STEPS, Point

logger = logging.getLogger(__name__)

CLOCKS = 300.0
"""Seconds by which the clocks of several gateways and annotators may differ."""

Shards: TypeAlias = tuple[Rewritten, ...]
Tell: TypeAlias = Callable[[str, Shards], None]
Met: TypeAlias = Callable[[Mapping[str, Runs]], None]


class _Place(msgspec.Struct, frozen=True):
    """A shard on a chain of one of the archives."""

    archive: str
    topic: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.archive, self.name


class Partition:
    """One partition's chains in the archive and in all that was reannotated beside it.

    A name is given once and never to other bytes, so a shard that was looked through for somebody is done with them.
    """

    def __init__(self, store: ShardStore, number: int, linger: float) -> None:
        self._store, self._number, self._linger = store, number, linger
        self._serials: dict[str, int] = {}  # sessions, in the order in which they were to be erased
        self._looked: dict[tuple[str, str], int] = {}  # the serial up to which a shard was looked through
        self._times: dict[tuple[str, str], tuple[int, float]] = {}  # end and newest time of each shard
        self._known: set[tuple[str, str]] | None = None  # shards that were there at the last audit
        self._old: set[tuple[str, str]] = set()  # shards of which nothing is left
        self._clean: set[str] = set()
        self.replaced = True  # somebody before may have left files

    def clean(self, session_id: str) -> bool:
        """Whether the last look found nothing of a session, on the chains or off them."""
        return session_id in self._clean

    def unfinished(self, pending: Sequence[Erasure]) -> dict[str, Shards]:
        """By session, its shards, where a death came between a rewriting and its record: told to the end."""
        found = {}
        for erasure in pending:
            told = tuple(each if each.after else self._finished(each, erasure.session_id) for each in erasure.shards)
            kept = tuple(each for each in told if each.after)
            if kept != erasure.shards:
                found[erasure.session_id] = kept
        return found

    def erase(self, pending: Sequence[Erasure], tell: Tell, met: Met) -> None:
        """Rewrite every shard that holds something of the pending ones; `tell` of it before and after each.

        `met` hears before that where the samples stand that the archive loses.
        """
        self._clean.clear()
        wanted = {each.session_id: each for each in pending}
        for session_id in wanted:
            self._serials.setdefault(session_id, len(self._serials) + 1)
        told = {each.session_id: each.shards for each in pending}
        left: set[str] = set()
        for place, store in self._places():
            sessions = self._to_look_for(place, store, wanted)
            try:
                found = _points(Shard(store, place.name), sessions) if sessions else {}
                if found and place.topic == SAMPLES and not place.archive:
                    met({session_id: runs_of(points) for session_id, points in found.items()})
                if found:
                    counts = {session_id: len(points) for session_id, points in found.items()}
                    self._rewrite(place, store, counts, told, tell)
            except ShardGone:
                left |= sessions  # replaced and removed meanwhile: the next look finds what took its place
                continue
            except ShardError as error:
                logger.error("%s cannot be looked through, and may hold what was deleted: %s", place.name, error)
                left |= sessions
                continue
            left |= found.keys()
            if sessions and not found:
                self._looked[place.key] = max(self._serials[name] for name in wanted)
        if not self._off_chain():
            self._clean |= wanted.keys() - left

    def audit(self, deleted: Collection[str]) -> None:
        """Look through shards that replaced others since the last audit: none brings back what was deleted before."""
        before, self._known = self._known, set[tuple[str, str]]()
        for place, store in self._places():
            self._known.add(place.key)
            if before is None or place.key in before or not generation_of(place.name):
                continue
            shard = Shard(store, place.name)
            gone = frozenset(_points(shard, deleted))
            if gone:
                logger.warning("%s brought back sessions that were deleted: taking them out again", place.name)
                replace(store, [shard], lambda entry, gone=gone: keeps(entry, gone))  # type: ignore[misc]
                self.replaced = True

    def expire(self, before: float) -> None:
        """Empty every shard whose newest record is older than a time; its place on the chain stays."""
        for place, store in self._places():
            if place.key in self._old or self._time(place, store)[1] >= before:
                continue
            shard: Shard | None = Shard(store, place.name)
            if shard is not None and any(not entry.removed for entry in shard.entries()):
                shard = replace(store, [shard], lambda entry: False)
                self.replaced = True
                logger.info("%s: its newest record is too old, so it was emptied", place.name)
            if shard is not None:
                self._old.add((place.archive, shard.name))

    def retire(self) -> None:
        """Remove files that were replaced long enough ago."""
        for store in archives(self._store).values():
            for topic in (STEPS, SAMPLES):
                retire(store, topic, self._number, self._linger)
        self.replaced = self._off_chain()

    def gone(self, rewritten: Rewritten) -> bool:
        """Whether the file that was replaced is removed."""
        store = archives(self._store).get(rewritten.archive)
        return bool(rewritten.after) and (store is None or store.size(rewritten.before) is None)

    def _to_look_for(self, place: _Place, store: ShardStore, wanted: dict[str, Erasure]) -> set[str]:
        """Whom a shard was not looked through for, but for those who came after its last record."""
        looked = self._looked.get(place.key, 0)
        names = {name for name in wanted if self._serials[name] > looked}
        if not names:
            return names
        newest = self._time(place, store)[1]
        opened = {name: wanted[name].opened_at for name in names}
        return {name for name, time in opened.items() if time is None or newest >= time - CLOCKS}

    def _rewrite(
        self, place: _Place, store: ShardStore, counts: dict[str, int], told: dict[str, Shards], tell: Tell
    ) -> None:
        shard = Shard(store, place.name)
        for session_id, entries in counts.items():
            plan = Rewritten(place.archive, shard.name, shard.summary.sha256, entries)
            told[session_id] = (*told[session_id], plan)
            tell(session_id, told[session_id])
        made = replace(store, [shard], lambda entry: keeps(entry, counts))
        self.replaced = True
        for session_id in counts:
            *before, plan = told[session_id]  # where somebody else was quicker, the next look finds what is there
            told[session_id] = tuple(before) if made is None else (*before, _finished(plan, made))
            tell(session_id, told[session_id])

    def _finished(self, planned: Rewritten, session_id: str) -> Rewritten:
        """What became of a rewriting of which only the intent was told; itself where it was not done."""
        store = archives(self._store).get(planned.archive)
        if store is None:
            return planned
        chain = ShardChain(store, planned.before.partition("/")[0], self._number)
        covering = chain.covering(first_offset_of(planned.before))
        if covering is None or covering.name == planned.before or _points(covering, (session_id,)):
            return planned
        return _finished(planned, covering)

    def _places(self) -> Iterator[tuple[_Place, ShardStore]]:
        """All shards on the chains."""
        for archive, store in archives(self._store).items():
            for topic in (STEPS, SAMPLES):
                for name in self._on_chain(archive, store, topic, store.names(chain_folder(topic, self._number))):
                    yield _Place(archive, topic, name), store

    def _off_chain(self) -> bool:
        """Whether files are there that are on no chain."""
        for archive, store in archives(self._store).items():
            for topic in (STEPS, SAMPLES):
                names = store.names(chain_folder(topic, self._number))
                if len(self._on_chain(archive, store, topic, names)) < len(names):
                    return True
        return False

    def _on_chain(self, archive: str, store: ShardStore, topic: str, names: Sequence[str]) -> list[str]:
        """Of the names of a folder those on its chain: see `ingest.shards`. Only what replaced others is opened."""
        chain, end = [], 0
        for name in latest(names):
            if first_offset_of(name) < end:
                continue
            end = self._time(_Place(archive, topic, name), store)[0] if generation_of(name) else 0
            chain.append(name)
        return chain

    def _time(self, place: _Place, store: ShardStore) -> tuple[int, float]:
        """The end of a shard, and the time of its newest record."""
        found = self._times.get(place.key)
        if found is None:
            summary = Shard(store, place.name).summary
            found = self._times[place.key] = (summary.next_offset, summary.newest_time)
        return found


def archives(store: ShardStore) -> dict[str, ShardStore]:
    """The archive itself, called "", and what was reannotated beside it, by name."""
    return {"": store, **generations(store)}


def keeps(entry: Entry, deleted: Collection[str]) -> bool:
    """Whether an entry stays when sessions are deleted; tombstones do."""
    return session_of(entry.key) not in deleted or entry.tombstone


def _points(shard: Shard, sessions: Collection[str]) -> dict[str, list[Point]]:
    """Where the entries that a shard has of some sessions stand in the log."""
    points: dict[str, list[Point]] = {}
    for entry in shard.entries():
        if not entry.removed and not keeps(entry, sessions):
            points.setdefault(session_of(entry.key), []).append((entry.offset, entry.index))
    return points


def _finished(plan: Rewritten, made: Shard) -> Rewritten:
    return msgspec.structs.replace(plan, after=made.name, after_sha256=made.summary.sha256, at=made.published)
