"""The serving side: follows a channel, believes only its own keys, and never lets serving suffer.

    watch -> verify the pointer -> fetch and verify every file -> load beside the running version -> remember -> flip

Each arrow may fail; then what is served stays, the reason shows in `status()`, and it is tried again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from publish.alarms import Alarm, Alarms
from publish.cache import FORMAT as STATE_FORMAT
from publish.cache import Cache, Obtained, State
from publish.crew import breathe
from publish.errors import NotServing, Replayed
from publish.fetcher import Fetcher, place_of
from publish.hub import ReadableHub
from publish.live_model import BASE, LiveModel
from publish.pointer import Pointer
from publish.signing import PublicKey, TrustedKeys

logger = logging.getLogger(__name__)
M = TypeVar("M")
LOOK = 0.25  # seconds of one look at the hub; `close` and heartbeats wait no longer
LONGEST_RETRY = 60.0  # seconds between two tries of a version that fails; a move of the channel ends the wait


class ServedFrom(StrEnum):
    """Where the served weights came from."""

    HUB = "hub"  # fetched since the start
    CACHE = "cache"  # the last verified version of an earlier run
    BASE = "base"  # the packaged base
    NOTHING = "nothing"


@dataclass(frozen=True)
class Status:
    """What a follower says of itself, for health checks and heartbeats.

    `lag_seconds` is how long the channel has named a version that is not served yet (0: it is served);
    `staleness_seconds` the age of the newest sample behind the served version, where its manifest tells. `error` is
    the last failure since the last success, with its count in a row. `received_bytes` counts files and deltas since the
    start, and `rebuilt` the versions that deltas led to. `alarms` counts the versions that this server sent back.
    """

    channel: str
    origin: ServedFrom = ServedFrom.NOTHING
    version: int | None = None
    label: str = ""
    generation: int = 0
    hub_reachable: bool = False
    lag_seconds: float = 0.0
    staleness_seconds: float | None = None
    swaps: int = 0
    error: str = ""
    errors: int = 0
    load_seconds: float = 0.0
    received_bytes: int = 0
    rebuilt: int = 0
    refused: bool = False
    alarms: int = 0

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return self.origin is not ServedFrom.NOTHING


@dataclass(frozen=True)
class _Retry:
    """A pointer that could not be obeyed, and when it is tried again (monotonic seconds)."""

    generation: int
    at: float


class Follower(Generic[M]):
    """Keeps `live` at what `channel` of `hub` names.

    `tell` hears a status every `heartbeat` seconds and at each change; it must not block. `longest_wait` is the
    seconds between two looks at a hub that is away, at most.

    With `alarms`, a version that breaks their rules is sent back at once, here, and `raise_alarm` is told, so that the
    publisher may take the channel back for all; it must not block either.

    With `apart`, versions are fetched, verified and rebuilt in a process of its own, so that requests in this one do not
    feel it (`publish.fetcher`). Raises ValueError for a hub that cannot be opened a second time.
    """

    def __init__(
        self,
        hub: ReadableHub,
        channel: str,
        keys: Iterable[PublicKey | str],
        cache: Path,
        live: LiveModel[M],
        *,
        tell: Callable[[Status], None] = lambda status: None,
        heartbeat: float = 1.0,
        longest_wait: float = 5.0,
        alarms: Alarms | None = None,
        raise_alarm: Callable[[Alarm], None] = lambda alarm: None,
        apart: bool = False,
    ) -> None:
        self._hub = hub
        self._channel = channel
        self._keys = TrustedKeys(keys)
        self._cache = Cache(cache, self._keys)
        self._fetcher = Fetcher(place_of(hub, cache, self._keys.texts)) if apart else None
        self._live = live
        self._tell = tell
        self._heartbeat = heartbeat
        self._longest_wait = longest_wait
        self._alarms, self._raise_alarm = alarms, raise_alarm
        if alarms is not None:
            live.observer = lambda digest, seconds, failed: alarms.served(digest, seconds, failed=failed)
        self._held = ExitStack()
        self._state = State(STATE_FORMAT, hub.name, channel)
        self._status = Status(channel)
        self._behind: Pointer | None = None
        self._newest_sample_time: float | None = None
        self._retry: _Retry | None = None
        self._seen = -1  # the generation that is settled: obeyed, and what it names is served
        self._obeying = threading.Lock()
        self._telling = threading.Lock()  # guards the status
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve the last verified version, else the packaged base, then follow in a daemon thread.

        Raises CacheLocked where another follower uses the cache.
        """
        self.restore()
        if self._fetcher is not None:
            self._fetcher.start()
        self._thread = threading.Thread(target=self._run, name=f"follow-{self._channel}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; what is served stays."""
        self._stop.set()
        if self._fetcher is not None:
            self._fetcher.close()
        if self._thread is not None:
            self._thread.join()
        self._held.close()

    def status(self) -> Status:
        """How things stand now."""
        now = time.time()
        behind, newest = self._behind, self._newest_sample_time
        return replace(
            self._status,
            lag_seconds=max(0.0, now - behind.moved_at) if behind else 0.0,
            staleness_seconds=None if newest is None else now - newest,
        )

    def restore(self) -> None:
        """The first half of `start`: take the cache, and serve what was served before, if every byte of it still
        verifies; else leave the base. For callers with a loop of their own, who then call `step`."""
        self._held.enter_context(self._cache.used())
        self._state = self._cache.load_state(self._hub.name, self._channel)
        if self._live.current is not None:
            self._served(ServedFrom.BASE, None)
        known = [digest for digest in (self._state.digest, self._state.previous) if digest not in ("", BASE)]
        if known:
            self._cache.prune(known)
        for digest in known:
            try:
                manifest, folder = self._cache.verified(digest)
                self._live.swap(folder, manifest.version, digest)
            except Exception as error:  # an app's loader may raise anything; there is still the base, and the hub
                logger.warning("the cached version %s is not served: %s", digest[:12], error)
                continue
            self._served(ServedFrom.CACHE, manifest.newest_sample_time)
            if digest == self._state.digest:
                self._seen = self._state.generation
            return

    def _run(self) -> None:
        """Follow until `close`. Nothing is raised: whatever goes wrong, serving goes on with what it has."""
        told = 0.0
        while not self._stop.is_set():
            before = self._status
            wait = self.step()
            if self._status != before or time.monotonic() - told >= self._heartbeat:
                told = time.monotonic()
                self._report()
            if wait:
                self._stop.wait(wait)

    def step(self) -> float:
        """One look at the hub, and what follows from it; the seconds to wait before the next, 0 where it has waited."""
        self._look_at_the_alarms()
        try:
            pointer = self._look()
        except Exception as error:  # a hub may fail in any way; serving must not end for it
            self._update(hub_reachable=False)
            return min(self._longest_wait, self._failed(error))
        if not self._status.hub_reachable:
            self._update(hub_reachable=True)
        if pointer is not None:
            self._behind = pointer if pointer.manifest_sha256 != self._served_digest() else None
            try:
                with self._obeying:
                    self._obey(pointer)
            except Exception as error:  # nor for a version that is bad, or an app's loader that cannot take it
                self._retry = _Retry(pointer.generation, time.monotonic() + self._failed(error))
                return 0.0
            self._behind = self._retry = None
        if self._status.errors and self._retry is None:
            self._update(error="", errors=0)
        return 0.0

    def _look(self) -> Pointer | None:
        """News of the channel; what could not be obeyed is news again when its time has come."""
        if self._retry is None:
            return self._hub.watch(self._channel, self._seen, timeout=LOOK)
        left = self._retry.at - time.monotonic()
        if left > 0:
            return self._hub.watch(self._channel, self._retry.generation, timeout=min(LOOK, left))
        return self._hub.channel(self._channel)

    def _failed(self, error: Exception) -> float:
        """Show a failure, log it unless it is the last one again, and return the seconds to wait."""
        reason, count = f"{type(error).__name__}: {error}", self._status.errors + 1
        level = logging.DEBUG if reason == self._status.error else logging.WARNING
        logger.log(level, "channel %s is not followed, attempt %s: %s", self._channel, count, error)
        self._update(error=reason, errors=count)
        return min(LONGEST_RETRY, 0.05 * 2.0 ** min(count, 16)) * random.uniform(0.5, 1.0)

    def _obey(self, pointer: Pointer) -> None:
        self._keys.verify(pointer)
        if pointer.channel != self._channel:
            raise Replayed(f"channel {self._channel!r}: the hub shows a pointer of channel {pointer.channel!r}")
        pointer.check_order(self._state.generation, self._state.version)
        digest = pointer.manifest_sha256
        state = msgspec.structs.replace(self._state, generation=pointer.generation, version=pointer.version)
        if digest == state.refused:
            self._remember(state)
            return
        state = msgspec.structs.replace(state, refused="")
        if digest == self._served_digest():
            self._remember(msgspec.structs.replace(state, digest=digest))
            return
        breathe()
        obtained = self._obtain(pointer)
        breathe()
        manifest = obtained.manifest
        self._update(
            received_bytes=self._status.received_bytes + obtained.received,
            rebuilt=self._status.rebuilt + (obtained.links > 0),
        )
        current = self._served_digest()
        state = msgspec.structs.replace(state, digest=digest, previous=current)
        swap = self._live.swap(obtained.folder, manifest.version, digest, remember=lambda: self._remember(state))
        self._served(ServedFrom.HUB, manifest.newest_sample_time, swap.load_seconds)
        logger.info("channel %s: serving version %s", self._channel, manifest.label)
        (self._fetcher or self._cache).prune({digest, current})

    def _obtain(self, pointer: Pointer) -> Obtained:
        if self._fetcher is None:
            return self._cache.obtain(self._hub, pointer)
        fetched = self._fetcher.obtain(pointer)
        breathe()
        return Obtained(*self._cache.standing(pointer.manifest_sha256), fetched.received, fetched.links)

    def roll_back(self, reason: str) -> None:
        """Serve the version before at once, and not this one again until the channel has named another.

        For an app's own alarms; it moves no channel. Raises NotServing where no version before is warm.
        """
        with self._obeying:
            left = self._served_digest()
            served = self._live.rollback()
            logger.warning("channel %s: back to %s (%s)", self._channel, served.label, reason)
            self._remember(msgspec.structs.replace(self._state, digest=served.digest, previous="", refused=left))
            self._served(ServedFrom.HUB if served.version is not None else ServedFrom.BASE, None)

    def _look_at_the_alarms(self) -> None:
        served, before = self._live.current, self._live.previous
        if self._alarms is None or served is None or served.version is None or before is None:
            return  # the packaged base has nothing before it to go back to
        reason, figures = self._alarms.broken(served.digest, before.digest)
        if not reason:
            return
        try:
            self.roll_back(reason)
        except (NotServing, OSError) as error:  # an operator's rollback was first, or the disk is full
            logger.warning("channel %s: the alarm about %s is not obeyed: %s", self._channel, served.label, error)
            return
        self._update(alarms=self._status.alarms + 1)
        try:
            self._raise_alarm(
                Alarm(self._channel, served.version, before.version, reason, figures, raised_at=time.time())
            )
        except Exception:  # whoever hears of it is not our concern; what was bad is no longer served
            logger.exception("the alarm of channel %s could not be told", self._channel)

    def _remember(self, state: State) -> None:
        if state != self._state:
            self._cache.save_state(state)
            self._state = state
        self._seen = state.generation
        self._update(generation=state.generation, refused=bool(state.refused))

    def _served(self, origin: ServedFrom, newest_sample_time: float | None, load_seconds: float = 0.0) -> None:
        served = self._live.current
        assert served is not None
        self._newest_sample_time = newest_sample_time
        if self._alarms is not None and origin is ServedFrom.HUB:
            self._alarms.begin(served.digest)
        self._update(
            origin=origin,
            version=served.version,
            label=served.label,
            swaps=self._status.swaps + (origin is ServedFrom.HUB),
            load_seconds=load_seconds,
        )

    def _update(self, **changes: Any) -> None:
        with self._telling:
            self._status = replace(self._status, **changes)

    def _served_digest(self) -> str:
        served = self._live.current
        return served.digest if served else ""

    def _report(self) -> None:
        try:
            self._tell(self.status())
        except Exception:  # whoever listens is not our concern; following goes on
            logger.exception("the listener to the status of channel %s failed", self._channel)
