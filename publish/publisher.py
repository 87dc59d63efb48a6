"""The publisher: entries of the outbox become signed versions, and the channel moves to the newest.

Every step can be repeated: an entry is deleted last, weights that the hub already holds are not committed again,
and a channel that already points there is not moved. So a crash at any point is resumed by starting again, and
every event is told at least once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from publish import durable
from publish.base import LastCommitted
from publish.catalogue import Catalogue, Known
from publish.channels import Channels, Moved
from publish.configuration import configuration_hash
from publish.crew import beside
from publish.delta import write_delta
from publish.errors import (
    FileNotAllowed,
    HubError,
    HubUnavailable,
    OutboxError,
    PublishError,
    Unreadable,
    Untrusted,
    VersionMissing,
    VersionTaken,
)
from publish.gate import Decision, Gate
from publish.hub import Hub
from publish.inventory import Ways, inventory, told
from publish.manifest import FORMAT, Base, FileDigest, Manifest, check_names
from publish.outbox import Entry, Outbox, Ticket
from publish.signing import PublicKey, SigningKey, TrustedKeys

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """An entry reached the hub. `moved` is None where the channel stayed: it is held, or has gone further already.

    `repeated` says that the hub held these weights already (after a crash, or a second request for the same step).
    `seconds` counts from the ticket's making to now.
    """

    ticket: Ticket
    manifest: Manifest
    moved: Moved | None
    repeated: bool
    seconds: float


@dataclass(frozen=True)
class Coalesced:
    """An entry gave way to a newer one of its channel."""

    ticket: Ticket
    newer: Ticket


@dataclass(frozen=True)
class Failed:
    """An entry could not be published now. It stays and is tried again after `retry_in` seconds; None: it never can
    be, and was put aside."""

    ticket: Ticket
    error: str
    attempt: int
    retry_in: float | None


@dataclass(frozen=True)
class Retired:
    """The files of these versions were deleted; their manifests stay."""

    versions: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """The gate decided on a candidate. `moved` is None where the served channel stayed: the candidate was refused, waits
    for an operator, or the channel is held or has gone further."""

    decision: Decision
    moved: Moved | None


PublisherEvent = Judged | Published | Coalesced | Failed | Moved | Retired


class Publisher:
    """One per outbox. `keep` is how many versions retention leaves; `tell` hears of everything that happens, in the
    thread in which it happens: the publisher's own, or an operator's.

    With `deltas`, each version also tells its followers what has changed since the one before, where that is less.

    With a `gate`, what is published to its channel of candidates is judged, and goes on to the served channel if it
    passes.

    `older_keys` are public keys that this publisher signed with before: what they signed can still be promoted.
    """

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        key: SigningKey,
        *,
        keep: int = 20,
        tell: Callable[[PublisherEvent], None] = lambda event: None,
        longest_wait: float = 30.0,
        older_keys: Iterable[PublicKey | str] = (),
        deltas: bool = True,
        gate: Gate | None = None,
    ) -> None:
        self._hub = hub
        self._outbox = outbox
        self._key = key
        self._keep = keep
        self._listener = tell
        self._longest_wait = longest_wait
        self._gate = gate
        self._attempts = 0
        self._retry_at = 0.0  # monotonic seconds
        self._last = LastCommitted(outbox.committed, outbox.scratch) if deltas else None
        self._catalogue = Catalogue(hub, TrustedKeys([key.public, *older_keys]))
        self.channels = Channels(hub, key, self._catalogue, self._tell)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set. Raises OutboxLocked where another publisher serves the outbox."""
        with self._outbox.served():
            while not stop.is_set():
                wait = self.step()
                if wait:
                    stop.wait(wait)
                else:
                    self._outbox.wait(0.25)

    def promote_version(self, channel: str, version: int | None = None, *, by: str, reason: str = "") -> Moved:
        """The command: point at `version` (None: the newest) and release the channel."""
        return self.channels.promote(channel, version, by=by, reason=reason)

    def rollback_version(self, channel: str, version: int | None = None, *, by: str, reason: str = "") -> Moved:
        """The command: go back to `version` (None: the one before) and hold the channel there."""
        return self.channels.rollback(channel, version, by=by, reason=reason)

    def pin_version(self, channel: str, version: int | None = None, *, by: str, reason: str = "") -> Moved:
        """The command: hold the channel at `version` (None: where it stands)."""
        return self.channels.pin(channel, version, by=by, reason=reason)

    def release_channel(self, channel: str, *, by: str, reason: str = "") -> Moved:
        """The command: let the next version move the channel again."""
        return self.channels.release(channel, by=by, reason=reason)

    def step(self) -> float:
        """Publish what is pending now; the seconds to wait before the next try, 0 when all went well.

        Called before that time, it does nothing, so a loop that also does other things may call it at any pace.
        """
        if (left := self._retry_at - time.monotonic()) > 0:
            return left
        newest: dict[str, Entry] = {}
        for entry in self._outbox.pending():
            channel = entry.ticket.channel
            if channel in newest:
                self._tell(Coalesced(newest[channel].ticket, entry.ticket))
                self._outbox.finish(newest[channel])
            newest[channel] = entry
        for entry in newest.values():
            taken = self._outbox.take(entry)
            if taken is not None and (wait := self._try(taken)):
                return wait
        return 0.0

    def _try(self, entry: Entry) -> float:
        try:
            self._tell(self._publish(entry))
            self._outbox.finish(entry)
            self._attempts = 0
        except (FileNotAllowed, OutboxError, ValueError) as error:  # no later try does better; newer ones must through
            logger.error("step %s is never published: %s", entry.ticket.step, error)
            self._outbox.reject(entry.path)
            self._tell(Failed(entry.ticket, str(error), self._attempts + 1, None))
            return 0.0
        except (OSError, PublishError) as error:  # the hub is away, the disk is full: training goes on, we try again
            self._attempts += 1
            wait = min(self._longest_wait, 0.1 * 2.0 ** min(self._attempts, 16)) * random.uniform(0.5, 1.0)
            if isinstance(error, HubUnavailable):
                wait = max(wait, error.retry_after)  # newer entries come meanwhile, and this one gives way to them
            logger.warning("step %s is not published, attempt %s: %s", entry.ticket.step, self._attempts, error)
            self._retry_at = time.monotonic() + wait
            self._tell(Failed(entry.ticket, str(error), self._attempts, wait))
            return wait
        self._retire()
        return 0.0

    def _publish(self, entry: Entry) -> Published:
        known = self._catalogue.find(entry.ticket.origin)
        repeated = known is not None
        if known is None:
            known = self._commit(entry)
        try:
            moved = self.channels.advance(entry.ticket.channel, known)
        except VersionMissing:  # published before a crash, passed by newer ones and retired since
            moved = None
        self._judge(entry, known)
        seconds = time.time() - entry.ticket.created_at
        return Published(entry.ticket, known.manifest, moved, repeated, seconds)

    def _judge(self, entry: Entry, known: Known) -> None:
        gate = self._gate
        if gate is None or entry.ticket.channel != gate.settings.channel:
            return
        decision = gate.judge(known, entry.folder, self._catalogue)
        if decision.passed:
            logger.info("version %s passed the gate", known.manifest.label)
        else:
            logger.warning("version %s is refused by the gate: %s", known.manifest.label, decision.reason)
        moved = None
        if decision.passed and not gate.settings.by_hand:
            with suppress(VersionMissing):  # passed by newer ones after a crash, and retired since
                moved = self.channels.advance(gate.settings.target, known)
        self._tell(Judged(decision, moved))

    def _commit(self, entry: Entry) -> Known:
        files = entry.files
        check_names(files)
        if not files:
            raise OutboxError(f"{entry.path}: it holds no files")
        with beside(lambda: {name: durable.digest_of(path) for name, path in files.items()}) as digested:
            tensors, configuration = inventory(files), configuration_hash(files)
            digests = digested()
        while True:
            number = self._catalogue.next_number()
            with self._delta(number, files, digests) as (base, delta, ways):
                described = self._describe(entry.ticket, number, digests, base)
                manifest = self._key.sign(
                    msgspec.structs.replace(described, tensors=told(tensors, ways), configuration=configuration)
                )
                try:
                    self._hub.commit(manifest, files, delta)
                except VersionTaken:
                    logger.info("version %s went to another publisher, taking the next", manifest.label)
                    continue
            known = self._catalogue.add(manifest)
            self._keep_base(known, files)
            return known

    def _keep_base(self, known: Known, files: Mapping[str, Path]) -> None:
        try:
            if self._last is not None:
                self._last.keep(known, files)
        except OSError as error:  # the version is out; only the next one's delta is lost
            logger.warning("version %s is not kept for the next delta: %s", known.manifest.label, error)

    def _describe(
        self, ticket: Ticket, number: int, digests: Mapping[str, FileDigest], base: Base | msgspec.UnsetType
    ) -> Manifest:
        return Manifest(
            format=FORMAT,
            version=number,
            created_at=time.time(),
            run=ticket.run,
            branch=ticket.branch,
            segment=ticket.segment,
            step=ticket.step,
            ema=ticket.ema,
            parent=self._catalogue.parent(ticket),
            rewinds=self._catalogue.rewound_by(ticket),
            files=digests,
            watermark=ticket.watermark,
            consumed=ticket.consumed,
            weights=ticket.weights,
            newest_sample_time=ticket.newest_sample_time,
            evaluation=ticket.evaluation,
            command=ticket.command,
            base=base,
        )

    @contextmanager
    def _delta(
        self, number: int, files: Mapping[str, Path], digests: Mapping[str, FileDigest]
    ) -> Iterator[tuple[Base | msgspec.UnsetType, Path | None, Ways]]:
        """The delta from the version that was committed last; none where that is not ours, or none is worth it."""
        last = self._last
        known = None
        if last is not None and number > 1:
            with suppress(VersionMissing, Unreadable, Untrusted):
                known = self._catalogue.read(number - 1)
        if last is None or known is None or not (standing := last.files(known)):
            yield msgspec.UNSET, None, {}
            return
        with last.scratch() as scratch:
            path = scratch / "delta"
            ways = write_delta(path, files, standing)
            made = durable.digest_of(path)
            if made.size >= sum(digest.size for digest in digests.values()):
                yield msgspec.UNSET, None, {}
            else:
                yield Base(known.manifest.version, known.digest, made), path, ways

    def _tell(self, event: PublisherEvent) -> None:
        try:
            self._listener(event)
        except Exception:  # whoever listens is not our concern; publishing goes on
            logger.exception("the listener to the publisher failed")

    def _retire(self) -> None:
        try:
            gone = tuple(self._hub.retire(self._keep))
        except (OSError, HubError) as error:  # old files stay for now; the next version tries again
            logger.warning("old versions are not retired: %s", error)
            return
        if gone:
            self._tell(Retired(gone))
